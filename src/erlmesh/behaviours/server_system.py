"""What a GenServer answers to ``sys``: its state, and a status as ``gen_server`` formats it."""

from __future__ import annotations

from typing import Any, Protocol

from erlmesh.errors import ErlangError
from erlmesh.node import Process
from erlmesh.runtime.system_messages import charlist, status_lines
from erlmesh.terms import Atom, Pid, Term

__all__ = ["Server", "ServerCallbacks", "attributes_of"]


class Server(Protocol):
    """A GenServer, as the answers need it."""

    me: Process

    def get_state(self) -> Any: ...


class ServerCallbacks:
    """The callbacks of one server."""

    def __init__(self, server: Server, parent: Pid) -> None:
        self._server = server
        self.parent = parent
        self.module = Atom("gen_server")
        """OTP's module. Its tools format the status of this module only."""

    def get_state(self) -> Term:
        """See :class:`SystemCallbacks`."""
        return self._server.get_state()

    def replace_state(self, _function: Term, /) -> Term:
        """The function is code of another node, which cannot run here."""
        raise ErlangError(Atom("undef"))

    def change_code(self, _module: Term, _old_version: Term, _extra: Term, /) -> Term:
        """Python replaces no code of a running process. The answer lets a release upgrade of OTP go on."""
        return Atom("ok")

    def format_status(self, sys_state: Atom, events: list[Term]) -> Term:
        """See :class:`SystemCallbacks`."""
        header = f"Status for generic server {self._server.me.label}"
        state = (charlist("State"), self._server.get_state())
        return status_lines(header, sys_state, self.parent, events, state)


def attributes_of(server: object) -> Term:
    """Return a map of the attributes of a server. A value that is not a simple term is its ``repr``."""
    return {
        Atom(name): value if _is_plain(value) else repr(value)
        for name, value in vars(server).items()
        if name != "me" and not name.startswith("_")
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, (int, float, str, bytes, Atom, Pid))
