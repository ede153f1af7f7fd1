"""Run discovery for one node: look up names at intervals, and connect to the nodes that are due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Self

from erlmesh.discovery.candidates import PeerCandidates
from erlmesh.discovery.lookup import Lookup
from erlmesh.errors import NodeNotAlive
from erlmesh.node import Node
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["Discovery"]

log = logging.getLogger("erlmesh.discovery")


class Discovery:
    """Connects a node to all nodes that a lookup finds. ::

        async with Discovery(node, Lookup(parse_sources(["dns:nodes"]), epmd_port=4369)):
            ...

    It never disconnects a node. A lost node that is still found is connected again, unless it was disconnected on
    purpose.
    """

    def __init__(self, node: Node, lookup: Lookup) -> None:
        self._node = node
        self._lookup = lookup
        self._candidates = PeerCandidates(node.name, node.internals.random, node.internals.now())
        self._task: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()

    @property
    def found(self) -> list[str]:
        """The names that were found, connected or not."""
        return self._candidates.names

    def lookup_now(self) -> None:
        """Starts a lookup now, and does not wait for the interval."""
        self._candidates.lookup_now(self._node.internals.now())
        self._wakeup.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        node, candidates = self._node, self._candidates
        while True:
            pause = 1.0
            try:
                if candidates.lookup_due(node.internals.now()):
                    await self._run_lookup()
                for name in candidates.due({*node.nodes(), *node.nodes(hidden=True)}, node.internals.now()):
                    if not node.internals.is_reconnect_suppressed(name):
                        node.internals.connect_nowait(name, lambda _: None)
                pause = max(candidates.next_deadline() - node.internals.now(), 0.01)
            except NodeNotAlive:
                return
            except Exception:  # The next lookup may succeed.
                log.exception("discovery failed; it continues with the next lookup")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakeup.wait()
            self._wakeup.clear()

    async def _run_lookup(self) -> None:
        before = set(self.found)
        names, complete = await self._lookup.find_nodes()
        self._candidates.lookup_finished(names, complete=complete, now=self._node.internals.now())
        for name in self.found:
            if name not in before:
                log.info("discovered %s", ForeignText(name))
