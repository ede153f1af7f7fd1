"""One established connection of a session: its socket and its channel. All methods are called under the session's lock.

The socket does not block. Only the thread that has the role of the reader waits for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

from erlmesh.proto.channel import Channel, ConnectionLost, Event
from erlmesh.proto.handshake import HandshakeCompleted
from erlmesh.proto.wire import socket_wire
from erlmesh.sync.waiting import Waiter
from erlmesh.terms import Atom

__all__ = ["BUSY", "PeerLink"]

READ_SIZE: Final = 256 * 1024
"""Bytes of one read of the pure build."""
BUSY: Final = 1 << 20
"""Queued bytes from which senders wait, as a BEAM's processes do at a busy port."""


class PeerLink:
    """The connection to the node ``peer``. ``trailing`` are bytes of it that came with the handshake."""

    def __init__(self, sock: socket.socket, channel: Channel, completed: HandshakeCompleted, trailing: bytes) -> None:
        self.peer = Atom(channel.peer)
        self.sock = sock
        self.fd = sock.fileno()
        self.channel = channel
        self.flags = completed.flags
        self.creation = completed.creation
        self.lost: str | None = None
        """Why the connection has ended. None while it is up."""
        self.trailing = trailing
        self.wants_write = False
        """The poll object waits until the socket takes data."""
        self.busy = False
        """Senders have to wait."""
        self._senders: list[Waiter] = []
        """Threads that wait until the connection is not busy any more."""
        wire = socket_wire(channel.wire)
        self._flush_wire: Callable[[int], int] = self._flush_pure if wire is None else wire.flush

    @property
    def queued(self) -> int:
        """Bytes that are not written yet."""
        return self.channel.wire.queued

    def read(self, now: float) -> list[Event]:
        """Return the events of one read. The end of the connection is a ConnectionLost."""
        channel = self.channel
        try:
            if channel.can_read:
                size, events = channel.read(self.fd, now)
            else:
                data = self.sock.recv(READ_SIZE)
                size, events = len(data), channel.receive_data(data, now)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            return [ConnectionLost("connection_closed", f"{error.strerror or error}")]
        return events if size else [ConnectionLost("connection_closed", "the peer closed the connection")]

    def flush(self, now: float) -> bool:
        """Write queued data. False if the socket did not take all of it, or is broken (then a read reports it)."""
        wire, written = self.channel.wire, 0
        try:
            while size := self._flush_wire(self.fd):
                written += size
                if not wire.queued:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            wire.clear()
            return False
        if written:
            self.channel.note_write(written, now)
        queued = wire.queued
        if queued >= BUSY:
            self.busy = True
        elif self.busy and queued < BUSY // 2:
            self.release_senders()
        return not queued

    def add_sender(self, waiter: Waiter) -> None:
        """End ``waiter`` when the connection is not busy."""
        if self.busy and self.lost is None:
            self._senders.append(waiter)
        else:
            waiter.finish_one()

    def remove_sender(self, waiter: Waiter) -> None:
        """The thread does not wait any more."""
        if waiter in self._senders:
            self._senders.remove(waiter)

    def release_senders(self) -> None:
        """Let the threads continue that wait because the connection was busy."""
        self.busy = False
        waiters, self._senders = self._senders, []
        for waiter in waiters:
            waiter.finish_one()

    def _flush_pure(self, fd: int) -> int:
        wire = self.channel.wire
        buffers = wire.buffers()
        if not buffers:
            return 0
        # Ctrl-C may raise when the call returns, and then its result is lost. So C code keeps the result in a list.
        written: list[int] = []
        try:
            written.extend(map(os.writev, (fd,), (buffers,)))
        finally:
            if written:
                wire.advance(written[0])
        return written[0]

    def close(self, *, in_child: bool = False) -> None:
        """Close the socket. In a forked child the connection of the parent stays."""
        if not in_child:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.sock.close()
