"""What a remote shell of Erlang or Elixir gets from a node of Python: a sentence that names the right command.

* ``erl -remsh`` and ``iex --remsh`` of OTP 26 and later ask ``code:ensure_loaded/1`` for their module, print the reason
  of the error and end (``init_remote_shell/3`` in user_drv.erl).
* ``erl -remsh`` of OTP 25 and earlier calls ``shell:start/0,1,2``, which must return the pid of a shell (group.erl).
  This one prints the sentence and terminates.
* ``iex --remsh`` of Elixir on OTP 25 and earlier asks ``code:ensure_loaded/1`` by ``rpc``. It prints the reason of a
  ``{badrpc, Reason}`` only. OTP 26 and later would take this for success, so the release of the caller decides.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ErlmeshError
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.system_messages import charlist
from erlmesh.services.rpc.client import call
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["RemoteShell", "is_shell", "load_refusal"]

SHELLS: Final = frozenset({"shell", "iex", "Elixir.IEx"})
"""The modules that a remote shell asks for."""
IEX: Final = Atom("Elixir.IEx")
RELEASE_SECONDS: Final = 2.0
"""How long the node of a caller may take to say which OTP it has."""
PRINT_SECONDS: Final = 5.0
"""How long the process of a shell waits until its sentence is printed."""


def sentence(node_name: str) -> str:
    """The sentence for the user of a remote shell."""
    return f"{node_name} is a node of Python. Open its shell with: erlmesh remsh {node_name}"


def is_shell(module: Term) -> bool:
    """Whether a remote shell asks for this module."""
    return isinstance(module, Atom) and module.name in SHELLS


async def load_refusal(runtime: Runtime, module: Term, group_leader: Term) -> Term:
    """The answer of ``code:ensure_loaded/1`` for the module of a shell, which has the sentence for its user.

    ``group_leader`` is that of the call: it is a process of the caller's node.
    """
    text = sentence(runtime.name)
    if module is IEX and isinstance(group_leader, Pid) and await _is_before_otp_26(runtime, group_leader.node):
        return (Atom("badrpc"), text)  # inspect() shows a binary as it is
    return (Atom("error"), charlist(text))


async def _is_before_otp_26(runtime: Runtime, peer: Atom) -> bool:
    if peer.name not in (*runtime.nodes(), *runtime.nodes(hidden=True)):
        return False  # The call names a node that did not make it.
    try:
        release = await call(runtime, peer, "erlang", "system_info", [Atom("otp_release")], timeout=RELEASE_SECONDS)
        return isinstance(release, list) and bytes(release) < b"26"
    except (ErlmeshError, TimeoutError, TypeError, ValueError):
        return False


class RemoteShell:
    """The functions that start a shell on a BEAM."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def add_to(self, table: FunctionTable) -> None:
        """Add all functions to ``table``."""
        table.add(self._start, "shell", "start")
        table.add(self._start, "Elixir.IEx", "start")

    def _start(self, me: LocalProcess, first: Term = None, second: Term = None) -> Term:  # noqa: ARG002 - two arities
        """Return the pid of a process that prints the sentence to the group leader of the call, and terminates."""
        return self._runtime.spawn(_print_sentence, me.group_leader, sentence(self._runtime.name))


async def _print_sentence(me: LocalProcess, group_leader: Term, text: str) -> None:
    if group_leader is None:
        return
    ref = me.monitor(group_leader)
    request = (Atom("put_chars"), Atom("unicode"), f"{text}\n".encode())
    me.send(group_leader, (Atom("io_request"), me.pid, ref, request))
    with suppress(TimeoutError):
        await me.receive(lambda message: isinstance(message, tuple) and ref in message, timeout=PRINT_SECONDS)
