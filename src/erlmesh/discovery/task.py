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
    """``async with Discovery(node, Look(sources(["dns:nodes"]), epmd_port=4369)):`` connects ``node`` with all it
    finds.

    It never disconnects anybody. Whoever is lost and is still found is called again.
    """

    def __init__(self, node: Node, look: Look) -> None:
        self._node = node
        self._look = look
        self._task: asyncio.Task[None] | None = None

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
        node, known = self._node, set[str]()
        prospects = Prospects(node.name, node.random, node.now())
        while True:
            try:
                if prospects.look_due(node.now()):
                    names, whole = await self._look.look()
                    prospects.looked(names, whole=whole, now=node.now())
                    for name in prospects.names:
                        if name not in known:
                            log.info("discovered %s", name)
                    known = set(prospects.names)
                connected = {*node.nodes(), *node.nodes(hidden=True)}
                for name in prospects.to_call(connected, node.now()):
                    node.connect_nowait(name, lambda _: None)
            except NodeNotAlive:
                return
            except Exception:  # whatever a look meets, the next may go well
                log.exception("discovery failed and goes on")
                await asyncio.sleep(1.0)
            await asyncio.sleep(max(prospects.next_deadline() - node.now(), 0.01))
