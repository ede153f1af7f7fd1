"""What tools see of a local process: its name, its functions, its mailbox, its links. Nothing is changed.

OTP's words are kept: the *initial call* is the body of the process, and the *current function* is where it waits. A
function is ``{Module, Name, Arity}`` with the names of Python. The memory is an estimate. Messages are not shown.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess

__all__ = ["MFA", "current_function", "initial_call", "memory", "name", "name_text", "pid_text", "stack_trace"]

MFA: TypeAlias = tuple[Atom, Atom, int]

PROCESS_BYTES: Final = 3000
"""About the memory of a process with a task that waits."""
MESSAGE_BYTES: Final = 100
"""About the memory of a small message that waits."""
STACK_DEPTH: Final = 64
"""Frames that are looked at."""
NAME_LENGTH: Final = 200
"""Characters of a module or function. An atom has at most 255."""


def memory(process: LocalProcess) -> int:
    """An estimate in bytes. It grows with the number of messages, and not with their size."""
    return PROCESS_BYTES + MESSAGE_BYTES * len(process._mailbox)


def name(process: LocalProcess) -> Atom | None:
    """The registered name, the first if there are several."""
    return process._names[0] if process._names else None


def name_text(process: LocalProcess) -> str:
    """The registered name as Elixir prints it, or the initial call."""
    registered = name(process)
    if registered is not None:
        return f":{registered.name}"
    module, function, arity = initial_call(process)
    return f"{module.name}.{function.name}/{arity}"


def initial_call(process: LocalProcess) -> MFA:
    """The body of the process, or the function that another node has started here."""
    if process._handler is not None:
        return _mfa(process._handler, 1)
    if callable(process._description):  # made by a SPAWN_REQUEST: "module:function/arity for <pid>"
        return _requested_call(process._description())
    variables = _body_variables(process)
    body = variables.get("body")
    if callable(body):
        return _mfa(body, 1 + len(variables.get("arguments", ())))
    return Atom("erlmesh"), _atom(process._description), 1


def current_function(process: LocalProcess) -> MFA:
    """The innermost function in which the process waits that is not part of erlmesh, or else its initial call."""
    for frame in reversed(_frames(process)):
        if not str(frame.f_globals.get("__name__", "")).startswith("erlmesh."):
            return _frame_mfa(frame)
    return initial_call(process)


def stack_trace(process: LocalProcess) -> list[Term]:
    """``[{Module, Function, Arity, [{file, File}, {line, Line}]}]``, the innermost function first."""
    return [
        (*_frame_mfa(frame), [(Atom("file"), _charlist(frame.f_code.co_filename)), (Atom("line"), frame.f_lineno)])
        for frame in reversed(_frames(process))
    ]


def _frames(process: LocalProcess) -> list[FrameType]:
    """The frames of the coroutines of a process, the outermost first. Empty for a process without a task."""
    frames: list[FrameType] = []
    coroutine = _coroutine(process)
    while coroutine is not None and len(frames) < STACK_DEPTH:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        frames.append(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return frames


def _coroutine(process: LocalProcess) -> Any:
    get_coro: Callable[[], Any] | None = getattr(process._task, "get_coro", None)
    return None if get_coro is None else get_coro()


def _body_variables(process: LocalProcess) -> dict[str, Any]:
    """The variables of the coroutine that runs the body (``spawner._run``): ``body`` and ``arguments``."""
    frame = getattr(_coroutine(process), "cr_frame", None)
    return {} if frame is None else frame.f_locals


def _requested_call(description: str) -> MFA:
    function, _, arity = description.partition(" for ")[0].rpartition("/")
    module, _, function = function.rpartition(":")
    return _atom(module), _atom(function), int(arity) if arity.isdigit() else 0


def _mfa(function: Any, arity: int) -> MFA:
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or type(function).__module__
    label = getattr(function, "__qualname__", None) or type(function).__qualname__
    return _atom(str(module)), _atom(str(label)), arity


def _frame_mfa(frame: FrameType) -> MFA:
    code = frame.f_code
    return _atom(str(frame.f_globals.get("__name__", ""))), _atom(code.co_qualname), code.co_argcount


def _atom(text: str) -> Atom:
    return Atom(text[:NAME_LENGTH])


def _charlist(text: str) -> list[Term]:
    return [ord(character) for character in text[:1000]]


def pid_text(pid: Pid) -> str:
    """A part of what every node prints for the pid: its two last numbers."""
    return f".{pid.id}.{pid.serial}>"
