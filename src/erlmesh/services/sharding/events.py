"""The events of ``node.shards``, and the queue in which they wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.records import record
from erlmesh.runtime.wait_queue import WaitQueue

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

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
        self._events: deque[ShardEvent] = deque()
        self._waiting = WaitQueue(node.create_wait, self._events)
        self._ended = False

    def put(self, event: ShardEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self._waiting.wake()

    def end(self) -> None:
        """No event follows. Those that wait are still handed out."""
        self._ended = True
        self._waiting.wake_all()

    async def get(self) -> ShardEvent | None:
        """Return the oldest event; wait for one. None after the last one."""
        while not self._events:
            if self._ended:
                return None
            await self._waiting.wait()
        return self._events.popleft()
