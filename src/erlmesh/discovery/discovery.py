"""Run discovery for one node: look up names at intervals, and connect to the nodes that are due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from erlmesh.discovery.candidates import PeerCandidates
from erlmesh.discovery.gossip_settings import parse_gossip
from erlmesh.discovery.lookup import Lookup
from erlmesh.discovery.sources import SourceKind
from erlmesh.errors import NodeNotAlive
from erlmesh.net.event_log import event_log
from erlmesh.node import Node
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.discovery.gossip import Gossip

__all__ = ["Discovery"]

log = event_log("erlmesh.discovery")
_peer_log = PeerLog(log)


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
        self._gossips: list[Gossip] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._wakeup = asyncio.Event()
        self._looked_up = False
        """A lookup has found all there is. What gossip finds is never all."""

    @property
    def found(self) -> list[str]:
        """The names that were found, connected or not."""
        return self._candidates.names

    def lookup_now(self) -> None:
        """Starts a lookup now, and does not wait for the interval."""
        self._candidates.lookup_now(self._node.internals.now())
        self._wakeup.set()

    def _peer_names(self) -> list[str] | None:
        """The nodes that ``node.joined()`` waits for."""
        return self.found if self.found or self._looked_up else None

    async def __aenter__(self) -> Self:
        self._node._joins.append(self._peer_names)
        values = [source.value for source in self._lookup.sources if source.kind is SourceKind.GOSSIP]
        if values:
            from erlmesh.discovery.gossip import Gossip  # noqa: PLC0415 - few nodes use it

            internals = self._node.internals
            self._gossips = [
                Gossip(
                    settings,
                    self._node.name,
                    rng=internals.random,
                    now=internals.now(),
                    found=partial(self._heard, settings.max_nodes),
                )
                for settings in map(parse_gossip, values)
            ]
        self._tasks = [asyncio.create_task(run()) for run in (self._run, *(each.run for each in self._gossips))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node._joins.remove(self._peer_names)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _heard(self, limit: int, name: str) -> None:
        """Another node has sent its name. It is not used if ``limit`` nodes are found already."""
        if not self._node.internals.is_allowed(name):
            _peer_log.write(
                logging.INFO,
                "gossip_not_allowed",
                "",
                "gossip: %s is not on the allow-list of this node",
                ForeignText(name),
                peer=name,
            )
        elif name not in self.found and len(self.found) < limit:
            self._candidates.found_one(name, self._node.internals.now())
            _peer_log.write(logging.INFO, "peer_discovered", "", "discovered %s", ForeignText(name), peer=name)
            self._wakeup.set()

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
                log.exception("discovery_failed", "discovery failed; it continues with the next lookup")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakeup.wait()
            self._wakeup.clear()

    async def _run_lookup(self) -> None:
        names, complete = await self._lookup.find_nodes()
        before = set(self.found)  # Now: gossip may have found nodes meanwhile.
        for gossip in self._gossips:
            heard = gossip.names(self._node.internals.now())
            names += [name for name in heard if self._node.internals.is_allowed(name)][: gossip.max_nodes]
        self._candidates.lookup_finished(names, complete=complete, now=self._node.internals.now())
        self._looked_up = self._looked_up or (complete and not self._gossips)
        for name in self.found:
            if name not in before:
                log.info("peer_discovered", "discovered %s", ForeignText(name), peer=name)
