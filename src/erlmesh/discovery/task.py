"""Discovery at work for one node: looks from time to time, and calls whom it should."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Self

from erlmesh.discovery.looking import Look
from erlmesh.discovery.prospects import Prospects
from erlmesh.errors import NodeNotAlive
from erlmesh.node import Node

__all__ = ["Discovery"]

log = logging.getLogger("erlmesh.discovery")


class Discovery:
    """``async with Discovery(node, Look(sources(["dns:nodes"]), epmd_port=4369)):`` meets all it finds.

    It never disconnects anybody. Whoever is lost and is still found is called again, unless it was left on purpose.
    """

    def __init__(self, node: Node, look: Look) -> None:
        self._node = node
        self._look = look
        self._prospects = Prospects(node.name, node.random, node._now())
        self._task: asyncio.Task[None] | None = None
        self._awake = asyncio.Event()

    @property
    def found(self) -> list[str]:
        """The nodes that were found, connected or not."""
        return self._prospects.names

    def look_now(self) -> None:
        """Looks at once, and not when it is time again."""
        self._prospects.look_now(self._node._now())
        self._awake.set()

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
        node, prospects = self._node, self._prospects
        while True:
            pause = 1.0
            try:
                if prospects.look_due(node._now()):
                    await self._take_a_look()
                for name in prospects.to_call({*node.nodes(), *node.nodes(hidden=True)}, node._now()):
                    if not node._is_reconnect_suppressed(name):
                        node.connect_nowait(name, lambda _: None)
                pause = max(prospects.next_deadline() - node._now(), 0.01)
            except NodeNotAlive:
                return
            except Exception:  # whatever a look meets, the next may go well
                log.exception("discovery failed and goes on")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._awake.wait()
            self._awake.clear()

    async def _take_a_look(self) -> None:
        before = set(self.found)
        names, whole = await self._look.look()
        self._prospects.looked(names, whole=whole, now=self._node._now())
        for name in self.found:
            if name not in before:
                log.info("discovered %s", name)
