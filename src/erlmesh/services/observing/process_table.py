"""The processes of a node as rows of a table: sorted, cut, and made in slices, so that the event loop is not held."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from erlmesh.runtime.spawner import ensure_task
from erlmesh.services.observing.process_view import name_text, pid_text

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.registry import ProcessRegistry

__all__ = ["ROW_LIMIT", "ProcessTable"]

ROW_LIMIT: Final = 5000
"""Rows of one answer. LiveDashboard offers no more."""
SLICE: Final = 200
"""Rows that are made before other tasks get a turn: a few milliseconds."""
SEARCH_SLICE: Final = 2000
"""Processes that are looked at before other tasks get a turn."""

Row = TypeVar("Row")


class ProcessTable:
    """The processes in ``registry``."""

    def __init__(self, registry: ProcessRegistry) -> None:
        self._registry = registry

    async def slices(self, make_row: Callable[[LocalProcess], Row]) -> AsyncIterator[list[Row]]:
        """The rows of all processes that are alive, oldest first, in lists of up to SLICE rows."""
        await ensure_task()
        processes = list(self._registry.processes.values())
        for start in range(0, len(processes), SLICE):
            yield [make_row(process) for process in processes[start : start + SLICE] if process.alive]
            await asyncio.sleep(0)

    async def longest_mailboxes(
        self, limit: int, make_row: Callable[[LocalProcess], Row], *, search: str | None = None, shortest: bool = False
    ) -> tuple[list[Row], int]:
        """The rows of the processes with the longest (or shortest) mailboxes, at most ``limit`` and ROW_LIMIT.

        ``search`` is a part of the pid, the name or the function, in lower case. Also return how many processes there
        are that match it.
        """
        await ensure_task()
        matching = 0
        empty: list[LocalProcess] = []
        waiting: list[LocalProcess] = []
        # Most mailboxes are empty, so few processes have to be sorted.
        async for each in _matching(list(self._registry.processes.values()), search):
            matching += len(each)
            for process in each:
                (waiting if _mailbox_length(process) else empty).append(process)
        limit = max(0, min(limit, ROW_LIMIT))
        if shortest:
            chosen = empty[:limit]
            chosen += heapq.nsmallest(limit - len(chosen), waiting, key=_mailbox_length)
        else:
            chosen = heapq.nlargest(limit, waiting, key=_mailbox_length)
            chosen += empty[: limit - len(chosen)]
        rows: list[Row] = []
        for start in range(0, len(chosen), SLICE):
            rows += [make_row(process) for process in chosen[start : start + SLICE]]
            await asyncio.sleep(0)
        return rows, matching


async def _matching(processes: list[LocalProcess], search: str | None) -> AsyncIterator[list[LocalProcess]]:
    """The processes that match ``search``, all without it, in lists."""
    for start in range(0, len(processes), SEARCH_SLICE):
        found = processes[start : start + SEARCH_SLICE]
        if search is not None:
            found = [each for each in found if search in pid_text(each.pid) or search in name_text(each).lower()]
        yield found
        await asyncio.sleep(0)


def _mailbox_length(process: LocalProcess) -> int:
    return len(process._mailbox)
