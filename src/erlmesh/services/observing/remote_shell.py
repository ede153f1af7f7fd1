"""What a remote shell of Erlang or Elixir gets from a node of Python: a sentence that names the right command.

* ``erl -remsh`` and ``iex --remsh`` of OTP 26 and later ask ``code:ensure_loaded/1`` for their module, print the reason
  of the error and end (``init_remote_shell/3`` in user_drv.erl).
* ``erl -remsh`` of OTP 25 and earlier calls ``shell:start/0,1,2``, which must return the pid of a shell (group.erl).
  This one prints the sentence and terminates.
* ``iex --remsh`` before Elixir 1.15 asks ``code:ensure_loaded/1`` and prints that IEx cannot be found there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.system_messages import charlist
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["RemoteShell", "load_refusal"]

SHELLS: Final = frozenset({"shell", "iex", "Elixir.IEx"})
"""The modules that a remote shell asks for."""
PRINT_SECONDS: Final = 5.0
"""How long the process of a shell waits until its sentence is printed."""


def sentence(node_name: str) -> str:
    """The sentence for the user of a remote shell."""
    return f"{node_name} is a node of Python. Open its shell with: erlmesh remsh {node_name}"


def load_refusal(module: Term, node_name: str) -> Term | None:
    """The answer of ``code:ensure_loaded/1`` for the module of a shell: ``{error, Sentence}``. None for another one."""
    if isinstance(module, Atom) and module.name in SHELLS:
        return (Atom("error"), charlist(sentence(node_name)))
    return None


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
