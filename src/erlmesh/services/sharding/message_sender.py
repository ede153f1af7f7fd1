"""Sends the messages of an outbox: no more than a connection takes, and no more at once than the event loop bears."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from erlmesh.etf import EncodedTerm, decode_term, encode_term

if TYPE_CHECKING:
    from erlmesh.core.sharding.outbox_book import Holder, OutboxBook, Send
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.terms import Pid

__all__ = ["MessageSender"]

SENDS_PER_TURN: Final = 1_000
"""Messages that are sent to one holder before other tasks get a turn: some milliseconds."""


class MessageSender:
    """Sends what ``book`` has for its holders, in the name of ``process``."""

    def __init__(self, node: Runtime, process: LocalProcess, book: OutboxBook) -> None:
        self._process = process
        self._book = book
        self._here = node.atom
        self._peers = node.state.peers
        self._tail = encode_term(process.pid)
        self._later: dict[Pid, asyncio.Handle | asyncio.Task[None]] = {}
        """What sends the rest to a holder, when its connection is no longer full or other tasks had a turn."""

    def send_ready(self, holder: Holder) -> None:
        """Send what the holder may get now. The rest follows by itself."""
        pid, next_send = holder.pid, self._book.next_send
        if pid is None or not holder.ready or pid in self._later:
            return
        send, left = self._process.send, SENDS_PER_TURN
        if pid.node is self._here:
            while left and (found := next_send(holder)) is not None:
                send(pid, self._as_term(found))
                left -= 1
        else:
            peer = self._peers.get(pid.node)
            if peer is None:  # pg says next that it has left.
                return
            while left and not peer.busy:
                found = next_send(holder)
                if found is None:
                    return
                send(pid, self._encoded(found), False)
                left -= 1
            if left:
                self._later[pid] = asyncio.get_running_loop().create_task(self._send_when_writable(pid))
                return
        if not left:
            self._later[pid] = asyncio.get_running_loop().call_soon(self._send_rest, pid)

    def _send_rest(self, pid: Pid) -> None:
        self._later.pop(pid, None)
        if self._process.alive:
            self.send_ready(self._book.holder(pid))

    async def _send_when_writable(self, pid: Pid) -> None:
        peer = self._peers.get(pid.node)
        if peer is not None:
            await peer.wait_writable()
        self._send_rest(pid)

    def probe(self) -> None:
        """Send once more what stands still. See :meth:`OutboxBook.probe`."""
        for found in self._book.probe():
            pid = found[0].holder.pid
            if pid is not None and pid.node is self._here:
                self._process.send(pid, self._as_term(found))
            elif pid is not None and (peer := self._peers.get(pid.node)) is not None and not peer.busy:
                self._process.send(pid, self._encoded(found), False)

    def close(self) -> None:
        """Send nothing any more."""
        for each in self._later.values():
            each.cancel()

    def _encoded(self, send: Send) -> Any:
        """The message as bytes. They are put together from parts that were encoded before."""
        stream, number, message = send
        return EncodedTerm.of_data(b"".join((stream.label, encode_term(number), message, self._tail)))

    def _as_term(self, send: Send) -> Any:
        """The message as another node would get it."""
        stream, number, message = send
        return decode_term(b"".join((stream.label, encode_term(number), message, self._tail)), 0)[0]
