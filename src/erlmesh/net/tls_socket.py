"""The part of a TLS connection's socket that the event loop shares with the watchdog thread.

The data of the queue is encrypted when it is written, under the lock of the socket. So the watchdog thread can send a
tick, which is a record of its own, between two others. It reads ciphertext into the buffer, as from any socket, and the
event loop decrypts it.

The thread in Python serves all TLS connections, also in the native build. While a C function holds the GIL, no tick is
sent on them.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from erlmesh.net.shared_socket import WRITE_SIZE, PureSharedSocket, shut_down
from erlmesh.net.tls_session import TlsSession
from erlmesh.proto.receive_buffer import ReceiveBudget
from erlmesh.proto.send_queue import Buffer

__all__ = ["TlsSharedSocket"]

ENCRYPT_SIZE: Final = 256 * 1024
"""Bytes of the queue that are encrypted at a time. The rest stays in the queue until they are written."""


class TlsSharedSocket(PureSharedSocket):
    """Implements :class:`erlmesh.net.shared_socket.SharedSocket` for a TLS connection."""

    is_plain = False

    def __init__(self, fd: int, attend: Callable[[], None], budget: ReceiveBudget, session: TlsSession) -> None:
        super().__init__(fd, attend, budget)
        self._session = session
        self._ciphertext: Buffer = session.take_outgoing()
        """Records that are not written completely."""

    @property
    def queued(self) -> int:
        waiting = len(self._ciphertext)
        return waiting + super().queued if self._session.is_open else waiting

    def read(self, fd: int) -> bytes:
        """Read once from the descriptor, and decrypt. Raises OSError, also if a record is not valid.

        It is BlockingIOError if no record is complete. The result is empty at the end of the stream.
        """
        ciphertext = super().read(fd)
        data = self.receive(ciphertext)
        if not data and self._session.error is not None:
            raise self._session.error
        if not data and ciphertext and not self._session.is_ended:
            raise BlockingIOError
        return data

    def receive(self, ciphertext: bytes) -> bytes:
        """Decrypt. Return the data, which may be empty. At an error or ``close_notify`` this ends the reading."""
        with self._lock:
            data = self._session.receive(ciphertext)
            if self._session.has_outgoing:  # a message of the handshake, an alert, or new keys
                self._answer()
            if not self._closed and (self._session.is_ended or self._session.error is not None):
                shut_down(self.fd, socket.SHUT_RD)  # the transport sees the end of the stream
        return data

    def end_stream(self) -> None:
        with self._lock:
            if self._closed or self.error is not None or self._ciphertext:
                return
            if notice := self._session.end():
                self._send((notice,))

    # In another thread

    def write_from_thread(self, frame: bytes) -> bool:
        with self._lock:
            if self._closing or self.error is not None or not self._session.is_open:
                return False
            if self.queued:
                self._count_external(0, self._write_waiting())
                return False
            # A record that was made must be sent, and it would be stale when the socket has room again.
            if not _is_writable(self.fd):
                return False
            sent = self._push() if self._encrypt(frame) else 0
            self._count_external(1, len(frame) if sent else 0)
            if self._ciphertext:  # the rest of the record must follow
                self._call_loop()
        return sent > 0

    # The caller of these must hold the lock.

    def _answer(self) -> None:
        """Write what TLS itself has to say, after the ciphertext that waits."""
        self._ciphertext = b"".join((self._ciphertext, self._session.take_outgoing()))
        if not self._closed:
            self._push()
        if self._ciphertext:
            self._call_loop()

    def _write_now(self) -> int:
        total = 0
        self._push()
        if self.error is not None:
            self._drop_waiting()
        elif self._session.error is not None:  # an alert may wait, but no data can follow it
            super()._drop_waiting()
        elif self._session.is_ready:
            if self._first:
                self._first = self._first[self._encrypt(self._first) :]
                self._push()
            while not self._first and not self._ciphertext and total < WRITE_SIZE and (size := self._encrypt_queue()):
                total += size
                self._push()
        return total

    def _encrypt_queue(self) -> int:
        """Encrypt the oldest data of the queue. Return its size."""
        queue = self._queue
        if queue is None or not queue.queued:
            return 0
        data = b"".join(_first_bytes(queue.buffers(), ENCRYPT_SIZE))
        size = self._encrypt(data)
        if self.error is None:
            queue.advance(size)
        return size

    def _encrypt(self, data: bytes) -> int:
        """Encrypt ``data`` into ``_ciphertext``. Return the size of what could be encrypted now, see the session."""
        size = 0
        try:
            size = self._session.encrypt(data)
        except ssl.SSLError as error:
            self._fail(error)
        self._ciphertext = b"".join((self._ciphertext, self._session.take_outgoing()))
        return size

    def _push(self) -> int:
        """Write ciphertext until the socket is full. Return the bytes of it that were written."""
        if not self._ciphertext:
            return 0
        sent = self._send((self._ciphertext,))
        if self.error is None:
            self._ciphertext = memoryview(self._ciphertext)[sent:] if sent < len(self._ciphertext) else b""
        return sent

    def _drop_waiting(self) -> None:
        super()._drop_waiting()
        self._ciphertext = b""


def _first_bytes(buffers: Sequence[Buffer], size: int) -> Iterator[Buffer]:
    """Yield the first ``size`` bytes of ``buffers``."""
    for buffer in buffers:
        if len(buffer) >= size:
            yield memoryview(buffer)[:size]
            return
        yield buffer
        size -= len(buffer)


def _is_writable(fd: int) -> bool:
    """Return whether the socket has room for a short record."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))
