"""The writing side of one connection on a socket, with a buffer of our own: what lies in it can be written while the
event loop stands still, by another thread, and that one knows where a frame ends. The reading side is the transport's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import termios
import threading
import time
from typing import Final, NamedTuple

__all__ = ["Outlet", "Said", "descriptor_of"]

WITHOUT_DESCRIPTOR: Final = 0.05
"""Seconds between two attempts to write where no descriptor is left to wait with."""


class Said(NamedTuple):
    """What a thread has said on the loop's behalf: so many words, their bytes, and when the last was said."""

    words: int
    size: int
    last: float


NOTHING: Final = Said(0, 0, 0.0)


def descriptor_of(transport: asyncio.BaseTransport) -> int | None:
    """The descriptor of a socket whose bytes are those of ``transport``; None if there is none (memory, TLS)."""
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    number: int = found.fileno()
    return number if number >= 0 else None


class Outlet:
    """Writes where ``transport`` reads, and behaves as a transport does: ``write``, ``close``, ``is_closing``, and it
    calls ``protocol.pause_writing`` above ``high`` bytes and ``resume_writing`` below a quarter of it. ``write`` is
    given whole frames. The transport must not be written to by anybody else, and ``protocol`` says when it is
    :meth:`gone`.

    All is for the event loop's thread but :meth:`say`, which is for any.
    """

    def __init__(
        self, transport: asyncio.Transport, descriptor: int, protocol: asyncio.BaseProtocol, *, high: int
    ) -> None:
        self.fault: OSError | None = None
        """Why nothing can be written any more. The transport will see the end of its stream."""
        self.spoke_at = time.monotonic()
        """When the last byte went out."""
        self._transport = transport
        self._descriptor = descriptor
        self._protocol = protocol
        self._high = high
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._said = NOTHING
        self._full = False
        self._closing = False
        self._gone = False
        self._waits_at: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Writes ``data``, now or when there is room. On a connection that is broken or closing nothing happens."""
        with self._lock:
            if self._closing or self._gone or self.fault is not None:
                return
            sent = 0 if self._pending else self._send(data)
            if sent == len(data) or self.fault is not None:
                return
            self._pending += memoryview(data)[sent:]
        self._wait()
        if not self._full and len(self._pending) > self._high:
            self._full = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Closes the transport when all is written."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        if self._pending and not self._transport.is_closing():
            self._transport.pause_reading()
        else:
            self._end()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def gone(self) -> None:
        """The transport is about to close its descriptor. Nothing is written any more."""
        with self._lock:
            self._gone = True
            self._pending.clear()
        self._wait_no_more()

    def say(self, word: bytes) -> bool:
        """From any thread: pushes what waits, and says ``word``, a whole frame, if nothing does. Whether it was said.

        The loop learns of it by :meth:`take_said`.
        """
        with self._lock:
            if self._gone or self._closing or self.fault is not None:
                return False
            if self._pending:
                self._push()
                return False
            sent = self._send(word)
            if not sent:
                return False
            words, size, _ = self._said
            self._said = Said(words + 1, size + len(word), self.spoke_at)
            if sent == len(word):
                return True
            self._pending += word[sent:]
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._wait)
        return True

    def take_said(self) -> Said:
        """What :meth:`say` has said since the last call."""
        if self._said is NOTHING:
            return NOTHING
        with self._lock:
            said, self._said = self._said, NOTHING
        return said

    def all_heard(self) -> bool:
        """Whether the other machine has acknowledged all that was written; False also where that cannot be known."""
        if self._pending or self._gone:
            return False
        try:
            unacknowledged = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return not any(unacknowledged)

    # With the lock

    def _send(self, data: bytes | bytearray) -> int:
        try:
            sent = os.write(self._descriptor, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as fault:
            self._break(fault)
            return 0
        self.spoke_at = time.monotonic()
        return sent

    def _push(self) -> None:
        sent = self._send(self._pending)
        del self._pending[:sent]

    def _break(self, fault: OSError) -> None:
        """A stream with a hole in it must end. What the peer has said before can still be read."""
        self.fault = fault
        self._pending.clear()
        if not self._shut(socket.SHUT_RDWR) and not isinstance(fault, ConnectionError):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._transport.abort)

    def _shut(self, how: int) -> bool:
        try:
            with socket.socket(fileno=os.dup(self._descriptor)) as same:
                same.shutdown(how)
        except OSError:
            return False
        return True

    # Waiting for room

    def _wait(self) -> None:
        """Until the socket takes more, at a descriptor of our own, for the loop does not share the transport's."""
        if self._waits_at is not None or self._timer is not None or self._gone:
            return
        try:
            self._waits_at = os.dup(self._descriptor)
        except OSError:
            self._timer = self._loop.call_later(WITHOUT_DESCRIPTOR, self._try_again)
            return
        self._loop.add_writer(self._waits_at, self._has_room)

    def _try_again(self) -> None:
        self._timer = None
        self._has_room()
        if self._pending:
            self._wait()

    def _has_room(self) -> None:
        with self._lock:
            if self._pending:
                self._push()
            left = len(self._pending)
        if not left:
            self._wait_no_more()
        if self._full and left <= self._high // 4:
            self._full = False
            self._protocol.resume_writing()
        if not left and self._closing and not self._gone:
            self._end()

    def _wait_no_more(self) -> None:
        if self._waits_at is not None:
            self._loop.remove_writer(self._waits_at)
            os.close(self._waits_at)
            self._waits_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __del__(self) -> None:
        if self._waits_at is not None:  # the loop has ended with somebody still waiting
            os.close(self._waits_at)

    def _end(self) -> None:
        if not self._transport.is_closing():
            self._shut(socket.SHUT_WR)  # also where a forked child still holds the socket
        self._transport.close()
