"""A session whose lines run on another node (see :mod:`erlmesh.shell.remsh_server`); keyboard and screen are here."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ConnectError
from erlmesh.formatting import format_erlang
from erlmesh.shell.completion import Completion
from erlmesh.shell.interrupts import signal_handler
from erlmesh.shell.remsh_server import SHELL, RemshTag
from erlmesh.shell.session import Session
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["RemoteSession"]

OPEN_TIMEOUT: Final = 5.0
"""Seconds to wait for the other node to open the session."""
COMPLETION_TIMEOUT: Final = 1.0


class RemoteSession:
    """A prompt on ``peer``, which ``node`` is connected with. ``on_lost`` is called when it ends from there."""

    def __init__(self, node: Node, peer: str) -> None:
        self.node_name = peer
        self.exit_code: int | None = None
        self.on_close: Callable[[], object] = lambda: None
        self._node = node
        self._me = node.spawn_handler(self._receive)
        self._parser = Session(node)  # knows which lines are whole; nothing runs in it
        self._loop = asyncio.get_running_loop()
        self._session: Pid | None = None
        self._closed = False
        self._prompt = ""
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._running_line: asyncio.Future[None] | None = None
        self._pending_completions: dict[Ref, asyncio.Future[list[Completion]]] = {}

    async def open(self) -> None:
        """Raises ConnectError if the node lets nobody in."""
        there = (SHELL, Atom(self.node_name))
        self._me.monitor(there)
        self._me.send(there, (RemshTag.OPEN, self._me.pid))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await self._opened
        except TimeoutError:
            raise ConnectError(
                f"{self.node_name} does not answer within {OPEN_TIMEOUT:g} s: is its loop blocked?"
            ) from None

    def close(self) -> None:
        """Ends the session there, with what it still runs."""
        self._closed = True
        if self._session is not None:
            self._me.send(self._session, RemshTag.CLOSE)

    # What a front needs

    @property
    def prompt(self) -> str:
        """The other node's prompt."""
        return self._prompt

    def is_complete(self, text: str) -> bool:
        """Whether Enter ends the line here."""
        return self._parser.is_complete(text)

    async def run(self, text: str) -> None:
        """Has the line run there and waits until it is over; what it prints is printed here meanwhile."""
        if self.exit_code is not None:
            return
        self._running_line = self._loop.create_future()
        self._send_to_session((RemshTag.RUN, text.encode(errors="replace")))
        with signal_handler(signal.SIGINT, self.interrupt):
            await self._running_line

    def interrupt(self) -> None:
        """Stops a line that waits; one that computes holds the other node's loop and hears nothing."""
        self._loop.call_soon_threadsafe(self._send_to_session, RemshTag.INTERRUPT)

    async def completions(self, text_before_cursor: str) -> list[Completion]:
        """What Tab offers there."""
        tag = self._node._make_ref()
        self._pending_completions[tag] = self._loop.create_future()
        self._send_to_session((RemshTag.COMPLETE, tag, text_before_cursor.encode(errors="replace")))
        try:
            async with asyncio.timeout(COMPLETION_TIMEOUT):
                return await self._pending_completions[tag]
        except TimeoutError:
            return []
        finally:
            del self._pending_completions[tag]

    def print_hint(self, text: str) -> None:
        """A remark beside a result."""
        print(f"   {text}", file=sys.stderr, flush=True)

    # What comes from there

    def _send_to_session(self, message: Term) -> None:
        if self._session is not None:
            self._me.send(self._session, message)

    def _receive(self, message: Term) -> None:
        match message:
            case (RemshTag.OPENED, Pid() as session, bytes() as prompt) if not self._opened.done():
                self._session, self._prompt = session, prompt.decode(errors="replace")
                self._me.monitor(session)
                self._opened.set_result(None)
            case (RemshTag.OUT | RemshTag.ERR as word, bytes() as text):
                stream = sys.stdout if word is RemshTag.OUT else sys.stderr
                print(text.decode(errors="replace"), end="", file=stream, flush=True)
            case (RemshTag.DONE, bytes() as prompt):
                self._prompt = prompt.decode(errors="replace")
                self._line_finished()
            case (RemshTag.EXITED, int() as code):
                self.exit_code = code
                self._line_finished()
            case (RemshTag.COMPLETED, Ref() as tag, list() as found) if (
                tag in self._pending_completions and not self._pending_completions[tag].done()
            ):
                self._pending_completions[tag].set_result([_completion(*each) for each in found])
            case (RemshTag.DOWN, _, _, _, reason):
                self._on_down(reason)

    def _line_finished(self) -> None:
        if self._running_line is not None and not self._running_line.done():
            self._running_line.set_result(None)

    def _on_down(self, reason: Term) -> None:
        if not self._opened.done():
            self._opened.set_exception(ConnectError(self._refusal(reason)))
        elif self.exit_code is None and not self._closed:
            self.exit_code = 1
            print(
                f"erlmesh: the shell on {self.node_name} is gone: {format_erlang(reason)}", file=sys.stderr, flush=True
            )
            self._line_finished()
            self.on_close()

    def _refusal(self, reason: Term) -> str:
        if reason is Atom("noproc"):
            return f"{self.node_name} lets nobody in: it was started without --allow-remsh (ERLMESH_ALLOW_REMSH=on)"
        return f"{self.node_name} went away: {format_erlang(reason)}"


def _completion(text: bytes, back: int, shown: bytes) -> Completion:
    return Completion(text.decode(errors="replace"), back, shown.decode(errors="replace"))
