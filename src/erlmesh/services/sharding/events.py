"""The events of ``node.shards``, and the queue in which they wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.records import record

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.runtime.wakeups import Wait

__all__ = ["EventQueue", "Release", "ShardEvent", "Take"]


@record(frozen=True)
class Take:
    """This node holds ``shard`` now, and no other node that it sees does. Begin to act for it."""

    shard: int
    name: str


class Release:
    """Stop to act for ``shard``, then call :meth:`done`. The next holder waits for it.

    After ``release_timeout`` seconds without ``done`` the next holder does not wait any more.
    """

    __slots__ = ("_on_done", "name", "shard")
    __match_args__: Final = ("shard", "name")

    def __init__(self, shard: int, name: str, on_done: Callable[[Release], None]) -> None:
        self.shard = shard
        self.name = name
        self._on_done = on_done

    def __repr__(self) -> str:
        return f"Release(shard={self.shard!r}, name={self.name!r})"

    def done(self) -> None:
        """Nothing acts for the shard any more. A second call has no effect."""
        self._on_done(self)


ShardEvent: TypeAlias = Take | Release


class EventQueue:
    """Events until they are requested. There are at most two for each shard."""

    def __init__(self, node: Runtime) -> None:
        self._node = node
        self._events: deque[ShardEvent] = deque()
        self._waiters: deque[Wait] = deque()
        self._ended = False

    def put(self, event: ShardEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self._wake_one()

    def end(self) -> None:
        """No event follows. Those that wait are still handed out."""
        self._ended = True
        while self._waiters:
            self._wake_one()

    async def get(self) -> ShardEvent | None:
        """Return the oldest event; wait for one. None after the last one."""
        while not self._events:
            if self._ended:
                return None
            waiter = self._node.create_wait()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._events:  # It was woken and cancelled in the same iteration of the event loop.
                    self._wake_one()
                raise
        return self._events.popleft()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
