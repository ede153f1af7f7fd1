"""Output that cannot hold the event loop: what is not read by the other side waits in a bounded queue.

A pipe or a terminal that nobody reads blocks who writes to it. Text that fits is written at once, so it keeps its order
with the text that the program prints. Otherwise a thread writes it, for as long as the queue has any.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from typing import Final, TextIO

__all__ = ["OutputQueue"]

QUEUE_LIMIT: Final = 1 << 20
"""Bytes that wait at most. Further text is dropped and counted."""
WRITE_SIZE: Final = 4096
"""Bytes that a writable pipe takes without blocking (PIPE_BUF)."""


class OutputQueue:
    """The queue of one stream, which is given at each call because a prompt may replace it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, bytes]] = deque()
        """Descriptors and the bytes that wait for them. While it is not empty, the thread runs."""
        self._queued = 0
        self._dropped = 0
        self._running = False

    def write(self, stream: TextIO, text: str) -> None:
        """Write ``text`` to ``stream``, now or later. Raises ``OSError`` and ``ValueError`` as the stream does."""
        try:
            fd = stream.fileno()
        except (OSError, AttributeError):  # it is in memory, or the proxy of a prompt
            stream.write(text)
            stream.flush()
            return
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        with self._lock:
            if not self._running and len(data) <= WRITE_SIZE and _is_writable(fd):
                stream.flush()  # what the program has printed comes first
                stream.write(text)
                stream.flush()
                return
            if self._queued + len(data) > QUEUE_LIMIT:
                self._dropped += 1
                return
            self._queue.append((fd, data))
            self._queued += len(data)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="erlmesh output", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running = False
                    return
                fd, data = self._queue.popleft()
                self._queued -= len(data)
                if self._dropped and not self._queue:
                    data += f"… and {self._dropped:,} more texts, which nobody read in time\n".encode()
                    self._dropped = 0
            # Not through the stream: its lock would be held while this blocks, and the program could not end.
            with contextlib.suppress(OSError):
                while data:
                    data = data[os.write(fd, data[:WRITE_SIZE]) :]


def _is_writable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))
