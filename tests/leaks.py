"""Detects resources that a test leaks: asyncio tasks, threads, and descriptors of sockets and pipes.

``asyncio.run`` silently cancels the tasks that are left when its main coroutine returns. That would hide a leaked task
of a node. So these tests replace the function that cancels them.
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
"""Seconds that a shutdown in progress may take: joining threads, closing sockets in the last loop iteration."""
KINDS = ("socket:", "pipe:", "anon_inode:")
STANDARD_STREAMS = 3
CANCEL_ALL = asyncio.runners._cancel_all_tasks


@dataclass(frozen=True)
class ResourceSnapshot:
    """The threads and descriptors of this process at one moment."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]

    @staticmethod
    def take() -> ResourceSnapshot:
        return ResourceSnapshot(frozenset(threading.enumerate()), frozenset(_descriptors()))

    def leaked(self) -> list[str]:
        """Describe the resources that were opened since then. Waits up to ``SETTLE_TIMEOUT`` for their end."""
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
            continue  # the descriptor of this directory listing is closed already
        if what.startswith(KINDS) and int(link.name) >= STANDARD_STREAMS:
            found.append((int(link.name), what))
    return found


@dataclass
class LeakedTasks:
    """Tasks that were running when the main coroutine of their loop returned."""

    found: list[str] = field(default_factory=list)

    def cancel_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Replaces asyncio's function: record the tasks, then cancel them."""
        self.found += [f"task {task.get_coro()!r}" for task in asyncio.all_tasks(loop)]
        CANCEL_ALL(loop)
