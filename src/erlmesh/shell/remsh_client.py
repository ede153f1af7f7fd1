"""The local end of a remote shell: lines run on another node (:mod:`erlmesh.shell.remsh_server`), I/O is local."""

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
from erlmesh.terms.foreign_text import printable_sentence

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["RemoteSession"]

OPEN_TIMEOUT: Final = 5.0
"""Seconds to wait for the other node to open the session."""
COMPLETION_TIMEOUT: Final = 1.0
"""Seconds to wait for completions. After that Tab offers nothing."""


class RemoteSession:
    """A session on ``peer``, to which ``node`` is connected. ``on_close`` is called when the other end closes it."""

    def __init__(self, node: Node, peer: str) -> None:
        self.node_name = peer
        self.exit_code: int | None = None
        self.on_close: Callable[[], object] = lambda: None
        self._node = node
        self._me = node.spawn_handler(self._receive)
        self._parser = Session(node)  # only decides whether a line is complete; it runs nothing
        self._loop = asyncio.get_running_loop()
        self._session: Pid | None = None
        self._closed = False
        self._prompt = ""
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._running_line: asyncio.Future[None] | None = None
        self._pending_completions: dict[Ref, asyncio.Future[list[Completion]]] = {}

    async def open(self) -> None:
        """Open the session. Raises ConnectError if the node does not allow remote shells or does not answer."""
        server = (SHELL, Atom(self.node_name))
        self._me.monitor(server)
        self._me.send(server, (RemshTag.OPEN, self._me.pid))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await self._opened
        except TimeoutError:
            raise ConnectError(
                f"{self.node_name} did not answer within {OPEN_TIMEOUT:g} s: is its event loop blocked?"
            ) from None

    def close(self) -> None:
        """Close the session on the other node, and stop the lines that still run there."""
        self._closed = True
        if self._session is not None:
            self._me.send(self._session, RemshTag.CLOSE)

    # The ShellSession protocol

    @property
    def prompt(self) -> str:
        """The other node's prompt."""
        return self._prompt

    def is_complete(self, text: str) -> bool:
        """Return true if ``text`` is complete: Enter then runs it."""
        return self._parser.is_complete(text)

    async def run(self, text: str) -> None:
        """Run a line on the other node and wait until it ends. Its output is printed here as it arrives."""
        if self.exit_code is not None:
            return
        self._running_line = self._loop.create_future()
        self._send_to_session((RemshTag.RUN, text.encode(errors="replace")))
        with signal_handler(signal.SIGINT, self.interrupt):
            await self._running_line

    def interrupt(self) -> None:
        """Stop a line that waits. A line that computes blocks the other node's event loop and cannot be stopped."""
        self._loop.call_soon_threadsafe(self._send_to_session, RemshTag.INTERRUPT)

    async def completions(self, text_before_cursor: str) -> list[Completion]:
        """Return the completions of the other node, or an empty list if it does not answer in time."""
        tag = self._node.internals.make_ref()
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
        """Print a hint."""
        print(f"   {text}", file=sys.stderr, flush=True)

    # Messages from the other node

    def _send_to_session(self, message: Term) -> None:
        if self._session is not None:
            self._me.send(self._session, message)

    def _receive(self, message: Term) -> None:
        match message:
            case (RemshTag.OPENED, Pid() as session, bytes() as prompt) if not self._opened.done():
                self._session, self._prompt = session, prompt.decode(errors="replace")
                self._me.monitor(session)
                self._opened.set_result(None)
            case (RemshTag.OUT | RemshTag.ERR as tag, bytes() as text):
                stream = sys.stdout if tag is RemshTag.OUT else sys.stderr
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
            ended = printable_sentence(format_erlang(reason))
            print(f"erlmesh: the shell on {self.node_name} ended: {ended}", file=sys.stderr, flush=True)
            self._line_finished()
            self.on_close()

    def _refusal(self, reason: Term) -> str:
        if reason is Atom("noproc"):
            return (
                f"{self.node_name} does not allow remote shells: start it with --allow-remsh (ERLMESH_ALLOW_REMSH=on)"
            )
        return f"{self.node_name} disconnected: {format_erlang(reason)}"


def _completion(text: bytes, replace_length: int, display: bytes) -> Completion:
    return Completion(text.decode(errors="replace"), replace_length, display.decode(errors="replace"))
