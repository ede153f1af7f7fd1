"""What a test leaves behind: tasks of its loops, threads, and descriptors of sockets, pipes and the like.

``asyncio.run`` cancels what is still there when its main coroutine has returned, and says nothing. A node that forgets
a task would never be noticed so; hence the end of every loop is watched.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LeakedTasks", "ResourceSnapshot"]

SETTLE_TIMEOUT = 3.0
"""Seconds that ends which have begun may take: threads that are joined, sockets that are closed with the last turn."""
KINDS = ("socket:", "pipe:", "anon_inode:")
STANDARD_STREAMS = 3
CANCEL_ALL = asyncio.runners._cancel_all_tasks


@dataclass(frozen=True)
class ResourceSnapshot:
    """What this process holds at one moment."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]

    @staticmethod
    def take() -> ResourceSnapshot:
        return ResourceSnapshot(frozenset(threading.enumerate()), frozenset(_descriptors()))

    def leaked(self) -> list[str]:
        """What is held now and was not then, in words, after it has had time to end."""
        if not self._difference():
            return []
        gc.collect()
        end = time.monotonic() + SETTLE_TIMEOUT
        while (more := self._difference()) and time.monotonic() < end:
            time.sleep(0.01)
        return more

    def _difference(self) -> list[str]:
        now = ResourceSnapshot.take()
        return [
            *(f"thread {thread.name}" for thread in now.threads - self.threads),
            *(f"descriptor {number} ({what})" for number, what in sorted(now.descriptors - self.descriptors)),
        ]


def _descriptors() -> list[tuple[int, str]]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            what = str(link.readlink())
        except OSError:
            continue  # that of the listing itself
        if what.startswith(KINDS) and int(link.name) >= STANDARD_STREAMS:
            found.append((int(link.name), what))
    return found


@dataclass
class LeakedTasks:
    """Tasks that were running when the main coroutine of their loop had returned."""

    found: list[str] = field(default_factory=list)

    def cancel_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """A stand-in for what asyncio ends its loops with."""
        self.found += [f"task {task.get_coro()!r}" for task in asyncio.all_tasks(loop)]
        CANCEL_ALL(loop)
