"""Light peers: nodes that look complete to one node that joins them, and that are not connected with each other.

A light peer has the real runtime (handshake, wire, links, monitors) and the real ``pg`` and ``pg2``. Its ``global``
only answers. It acts as a node that is in one partition with all other peers. The complete node of the mesh, the guide,
tells it about newcomers::

    guide                              light peer                        newcomer
    set_lock, del_lock ──────────────► true
    new_nodes (the newcomer) ────────► connects to the newcomer, as every node does; the newcomer does the same
                                       in_sync ────────────────────────► (and the same the other way)
                                       lost_connection, when a node dies ►
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.formatting import release_local
from erlmesh.runtime.config import NodeConfig
from erlmesh.services.global_.protocol import SERVER, VSN, Atoms
from erlmesh.services.pg.server import Pg
from erlmesh.services.pg2.server import Pg2
from erlmesh.terms import Atom, Term
from erlmesh.testing.cluster import Cluster, SimulatedRuntime
from erlmesh.testing.epmd import SimulatedEpmd
from erlmesh.testing.loop import SimulatedLoop
from erlmesh.testing.network import Host

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["CompleteMesh", "LightMesh"]

EXTENDED_CREATION: Final = 1 << 33


async def no_transaction(*_: object) -> None:
    """A light peer changes no group of ``pg2``."""


class LightPeer:
    """One light peer. ``newcomer`` is the name of the only node that it connects to."""

    def __init__(self, runtime: SimulatedRuntime, host: Host, newcomer: str) -> None:
        self._runtime = runtime
        self._host = host
        self._newcomer = Atom(newcomer)
        self.name = runtime.name
        self.atom = runtime.atom
        self._pg = Pg(runtime)
        self._pg2 = Pg2(runtime, no_transaction)
        self._global = runtime.spawn_handler(self._receive, name=SERVER)
        runtime.monitor_nodes(self._global.pid)

    def _receive(self, message: Term) -> None:
        match message:
            case (tag, (_, _) as caller, (Atoms.SET_LOCK | Atoms.DEL_LOCK, _)) if tag is GEN_CALL:
                self._global.reply(caller, True)
            case (tag, (Atoms.NEW_NODES, *_)) if tag is GEN_CAST:
                self._runtime.connect_nowait(self._newcomer, lambda _: None)
            case (Atoms.NODEUP, name) if Atom(name) is self._newcomer:
                self._cast((Atoms.IN_SYNC, self.atom, True))

    def _cast(self, message: Term) -> None:
        self._global.cast((SERVER, self._newcomer), message, connect=False)

    def join(self, group: Term) -> None:
        """Let a process of this peer join ``group``."""
        self._pg.join(group, self._runtime.spawn(lambda me: me.receive()))

    def report_loss(self, lost: Atom) -> None:
        """Report the loss of ``lost`` to the newcomer, as a node that was connected with it does."""
        self._global.send((SERVER, self._newcomer), (Atoms.LOST_CONNECTION, self.atom, EXTENDED_CREATION, 1, lost))

    def kill(self) -> None:
        """Kill the node, as SIGKILL does."""
        self._runtime.machine.kill()
        self._host.crash()
        release_local(self.atom)  # the node cannot release it any more


class LightMesh:
    """A mesh of one complete node, the guide, and ``size`` light peers that are connected with it only."""

    def __init__(self, size: int, newcomer: str) -> None:
        self._size = size
        self._newcomer = newcomer
        self._peers: list[LightPeer] = []

    async def start(self, cluster: Cluster, guide: Node) -> None:
        """Start the light peers, and connect the guide with each."""
        self._peers = [await self._start_peer(cluster, number) for number in range(self._size)]
        sync = guide.global_._server.sync
        for peer in self._peers:  # They count as introduced: there are no sessions with them.
            sync.known[peer.atom] = VSN
            sync.synced[peer.atom] = None
        for peer in self._peers:
            await cluster.run_on(guide, partial(guide.connect, peer.name))

    async def _start_peer(self, cluster: Cluster, number: int) -> LightPeer:
        host = cluster.network.host(f"10.1.{number // 250}.{number % 250}")
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        name = f"light{number}@{host.address}"
        runtime = SimulatedRuntime(
            NodeConfig(name, cookie="simulated", network=host, epmd=SimulatedEpmd(host), seed=number, net_ticktime=60.0)
        )
        runtime.machine = loop.machine(name)
        with runtime.machine:
            await loop.create_task(runtime.start())
        with runtime.machine:
            return LightPeer(runtime, host, self._newcomer)

    def join(self, group: Term) -> None:
        """Let a process of one peer join ``group``."""
        self._peers[0].join(group)

    def kill_one(self) -> None:
        """Kill one peer, and let all others report it to the newcomer at the same time."""
        lost = self._peers.pop()
        lost.kill()
        for peer in self._peers:
            peer.report_loss(lost.atom)

    def close(self) -> None:
        """Kill all peers."""
        for peer in self._peers:
            peer.kill()


class CompleteMesh:
    """The same with complete nodes, for a comparison."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._nodes: list[Node] = []
        self._cluster: Cluster

    async def start(self, cluster: Cluster, guide: Node) -> None:
        """Start the nodes, and connect them with the guide and with each other."""
        self._cluster = cluster
        self._nodes = await cluster.start(*[f"n{number}" for number in range(self._size)])
        for node in self._nodes:
            await cluster.run_on(node, partial(node.connect, guide.name))
        await cluster.wait_until(lambda: all(len(node.nodes()) == self._size for node in [guide, *self._nodes]))
        await cluster.wait_until(
            lambda: all(len(node.global_.statistics().synced) == self._size for node in [guide, *self._nodes])
        )

    def join(self, group: Term) -> None:
        """Let a process of one node join ``group``."""
        node = self._nodes[0]
        node.pg.join(group, node.spawn(lambda me: me.receive()))

    def kill_one(self) -> None:
        """Kill one node. The others report it."""
        self._cluster.kill(self._nodes.pop())

    def close(self) -> None:
        """The cluster kills its nodes itself."""
