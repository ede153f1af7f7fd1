"""Resolve methods: what happens when two partitions merge and one name means two processes.

A method is the third argument of ``global:register_name/3``. It is sent with the name, so it is a term. It is one of
the three exports below, or a fun of another node, which is kept unchanged. A Python function becomes a term when it
gets a name in :class:`ResolveMethods`.

Source: ``random_exit_name/3``, ``random_notify_name/3`` and ``notify_all_name/3`` in global.erl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from erlmesh.core.exit_reasons import KILL
from erlmesh.terms import Atom, Export, Fun, Pid, Term

__all__ = [
    "Method",
    "PythonMethod",
    "ResolveMethods",
    "Sender",
    "notify_all_name",
    "random_exit_name",
    "random_notify_name",
]

PythonMethod: TypeAlias = Callable[[Term, Pid, Pid], Pid | None]
"""``method(name, pid1, pid2)`` returns the pid that keeps the name, or None if neither does. It must not block."""

Method: TypeAlias = Export | Fun | PythonMethod

_GLOBAL: Final = Atom("global")
random_exit_name: Final = Export(_GLOBAL, Atom("random_exit_name"), 3)
"""One of the two processes is killed."""
random_notify_name: Final = Export(_GLOBAL, Atom("random_notify_name"), 3)
"""One of the two processes loses the name and gets ``{global_name_conflict, Name}``."""
notify_all_name: Final = Export(_GLOBAL, Atom("notify_all_name"), 3)
"""Both processes lose the name and get ``{global_name_conflict, Name, OtherPid}``."""

_CONFLICT: Final = Atom("global_name_conflict")
_NONE: Final = Atom("none")
_ERLMESH: Final = Atom("erlmesh")


class Sender(Protocol):
    """The process that sends messages and exit signals for a method."""

    def send(self, to: Pid, message: Term, *, connect: bool = True) -> object: ...
    def exit(self, to: Pid, reason: Term) -> None: ...


class ResolveMethods:
    """The resolve methods that this node can run."""

    def __init__(self) -> None:
        # Python functions by the export that stands for them on the wire.
        self._functions: dict[Export, PythonMethod] = {}

    def to_term(self, method: Method) -> Export | Fun:
        """Return the term that stands for ``method``. Raises ``TypeError`` for a value that is not a function of
        three arguments.
        """
        if isinstance(method, (Export, Fun)):
            if method.arity != 3:
                raise TypeError(f"a resolve method takes (name, pid1, pid2), {method} takes {method.arity}")
            return method
        if not callable(method):
            raise TypeError(f"a resolve method is a function or a fun of arity 3, not {type(method).__name__}")
        for export, function in self._functions.items():
            if function == method:
                return export
        name = getattr(method, "__qualname__", type(method).__name__)[-200:]
        export = Export(_ERLMESH, Atom(f"{name}#{len(self._functions)}"), 3)
        self._functions[export] = method
        return export

    def run(self, sender: Sender, method: Term, name: Term, pid: Pid, pid2: Pid) -> Term:
        """Return the result of ``method``: a pid, or ``none`` if neither process keeps the name.

        A method that this node does not have gives ``{'EXIT', {undef, []}}``, as a failed call does in Erlang.
        """
        match method:
            case Export(Atom("global"), Atom("random_notify_name"), 3):
                kept, lost = _order_by_node(pid, pid2)
                sender.send(lost, (_CONFLICT, name))
                return kept
            case Export(Atom("global"), Atom("notify_all_name"), 3):
                sender.send(pid, (_CONFLICT, name, pid2))
                sender.send(pid2, (_CONFLICT, name, pid))
                return _NONE
            # OTP sends its default method as a local fun of the module global. It can only be random_exit_name.
            case Export(Atom("global"), Atom("random_exit_name"), 3) | Fun(arity=3, module=Atom("global")):
                kept, lost = _order_by_node(pid, pid2)
                sender.exit(lost, KILL)
                return kept
            case Export() if method in self._functions:
                answer = self._functions[method](name, pid, pid2)
                return _NONE if answer is None else answer
        return (Atom("EXIT"), (Atom("undef"), []))


def _order_by_node(pid: Pid, pid2: Pid) -> tuple[Pid, Pid]:
    """Return (winner, loser). In spite of the methods' names nothing is random: the smaller node name wins, as in
    OTP.
    """
    return (pid, pid2) if pid.node.name < pid2.node.name else (pid2, pid)
