"""Received bytes that wait for a blocked event loop, within a limit."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, cast

from erlmesh import native

__all__ = ["RECEIVE_LIMIT", "RECEIVE_TOTAL_LIMIT", "ReceiveBudget", "ReceiveBuffer", "make_receive_budget"]

RECEIVE_LIMIT: Final = 64 << 20
"""Default of the bytes that wait for one connection."""
RECEIVE_TOTAL_LIMIT: Final = 256 << 20
"""Default of the bytes that wait for all connections of a node."""
SHORT_PIECE: Final = 16 * 1024
"""Bytes below which a piece is joined with the next one, so that many short pieces take no more memory."""
JOINED_SIZE: Final = 64 * 1024
"""Bytes of joined pieces from which a new piece starts."""


class ReceiveBudget:
    """The bytes that may wait for one connection, and for all together. Any thread may use it."""

    def __init__(self, limit: int = RECEIVE_LIMIT, total_limit: int = RECEIVE_TOTAL_LIMIT) -> None:
        self.limit = limit
        self.total_limit = total_limit
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that wait for all connections."""
        return self._used

    def reserve(self, size: int, buffered: int) -> int:
        """Reserve up to ``size`` bytes for a connection with ``buffered`` bytes. Return how many; 0 at a limit."""
        with self._lock:
            granted = max(0, min(size, self.limit - buffered, self.total_limit - self._used))
            self._used += granted
        return granted

    def release(self, size: int) -> None:
        """Give ``size`` bytes back."""
        with self._lock:
            self._used -= size


def make_receive_budget(limit: int = RECEIVE_LIMIT, total_limit: int = RECEIVE_TOTAL_LIMIT) -> ReceiveBudget:
    """Return a budget of the build that runs. A native connection needs a native one."""
    if native.module is None:
        return ReceiveBudget(limit, total_limit)
    return cast("ReceiveBudget", native.module.ReceiveBudget(limit, total_limit))


class ReceiveBuffer:
    """The bytes that wait for one connection, in order. Its owner holds a lock during every call."""

    def __init__(self, budget: ReceiveBudget) -> None:
        self.size = 0
        """Bytes that wait."""
        self._budget = budget
        self._pieces: deque[bytes | bytearray] = deque()
        self._offset = 0
        """Bytes of the first piece that were taken already."""

    def reserve(self, size: int) -> int:
        """Reserve room for up to ``size`` bytes. Return for how many; 0 at a limit. Then call :meth:`append`."""
        return self._budget.reserve(size, self.size)

    def append(self, data: bytes, reserved: int) -> None:
        """Append ``data``, which may be shorter than the ``reserved`` room."""
        self._budget.release(reserved - len(data))
        self.size += len(data)
        last = self._pieces[-1] if self._pieces else b""
        if len(data) < SHORT_PIECE and isinstance(last, bytearray) and len(last) < JOINED_SIZE:
            last += data
        elif data:
            self._pieces.append(bytearray(data) if len(data) < SHORT_PIECE else data)

    def take(self, size: int) -> bytes:
        """Remove and return the first bytes: at most ``size``, and at least 1 if there are any."""
        if not self._pieces:
            return b""
        first = self._pieces[0]
        with memoryview(first) as view, view[self._offset : self._offset + size] as part:
            data = bytes(part)
        self._offset += len(data)
        if self._offset == len(first):
            self._pieces.popleft()
            self._offset = 0
        self.size -= len(data)
        self._budget.release(len(data))
        return data

    def clear(self) -> None:
        """Drop everything."""
        self._budget.release(self.size)
        self.size = self._offset = 0
        self._pieces.clear()
