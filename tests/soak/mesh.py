"""The mesh of the soak test: nodes that are watched, and peers that suffer faults."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from beam import Beam
from cluster import Cluster
from os_process import ProcessGone
from polling import wait_until
from pynode import PyNode

TESTS = Path(__file__).parents[1]
NET_TICKTIME = 8
"""Seconds. Each pause of a node is shorter, except those that are meant to be noticed."""
WATCHED = {
    "native_asyncio": ("asyncio", ""),
    "native_uvloop": ("uvloop", ""),
    "pure_asyncio": ("asyncio", "1"),
    "pure_uvloop": ("uvloop", "1"),
}
"""The event loop and ``ERLMESH_PURE`` of each watched node."""
BEAM_SERVERS = """
    Serve = fun Loop() -> receive {'$gen_call', {P, [alias | A] = Tag}, R} -> A ! {Tag, R}, Loop();
                                  {'$gen_call', {P, Tag}, R} -> P ! {Tag, R}, Loop();
                                  _ -> Loop() end end,
    Client = fun Loop() ->
        case pg:get_members(soak) of
            [] -> timer:sleep(100);
            Pids -> Pid = lists:nth(rand:uniform(length(Pids)), Pids),
                    [Pid ! {flood, N, self()} || N <- lists:seq(1, 200)],
                    catch gen_server:call(Pid, {echo, binary:copy(<<0>>, 1000)}, 5000),
                    catch erpc:call(node(Pid), erlang, node, [], 5000),
                    receive _ -> ok after 0 -> ok end
        end, Loop() end,
    case whereis(pg) of undefined -> pg:start(pg); _ -> ok end,
    [pg:join(soak, spawn(Serve)) || _ <- lists:seq(1, 5)],
    [spawn(Client) || _ <- lists:seq(1, 2)],
    ok
"""


@dataclass
class Peer:
    """A node that faults happen to. ``start`` starts it again under the same name."""

    node: Beam | PyNode
    start: Callable[[], Beam | PyNode]


class Mesh:
    """All nodes. Choose the faults with a seed; the schedule of the operating system is not repeatable."""

    def __init__(self, cluster: Cluster, seed: int, *, otps: tuple[int, ...]) -> None:
        self._cluster = cluster
        self._random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.watched = {name: self._start_watched(name) for name in WATCHED}
        self.peers = {name: Peer(start(), start) for name, start in self._peer_starters(otps).items()}
        self.connect()
        for index, node in enumerate(self.watched.values()):
            node.eval("import workload")
            node.eval("workload.start(node, SEED)", SEED=seed + index)

    def _start_watched(self, name: str) -> PyNode:
        event_loop, pure = WATCHED[name]
        path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS), str(TESTS / "soak")])
        environment = {"ERLMESH_PURE": pure, "PYTHONPATH": path}
        return self._cluster.pynode(name, event_loop=event_loop, environment=environment, net_ticktime=NET_TICKTIME)

    def _peer_starters(self, otps: tuple[int, ...]) -> dict[str, Callable[[], Beam | PyNode]]:
        def beam(otp: int) -> Callable[[], Beam]:
            return lambda: self._start_beam(otp)

        return {f"otp{otp}": beam(otp) for otp in otps} | {"python": self._start_python_peer}

    def _start_beam(self, otp: int) -> Beam:
        node = self._cluster.beam(f"otp{otp}", otp=otp, arguments=["-kernel", "net_ticktime", str(NET_TICKTIME)])
        node.eval(BEAM_SERVERS)
        return node

    def _start_python_peer(self) -> PyNode:
        return self._cluster.pynode("python", net_ticktime=NET_TICKTIME)

    def connect(self) -> None:
        """Connect the peers with a watched node; the mesh forms by itself. Wait until it is whole."""
        first = next(iter(self.watched.values()))
        names = {node.name for node in [*self.watched.values(), *(peer.node for peer in self.peers.values())]}

        def is_whole() -> bool:
            for name in names - {first.name}:
                first.ping(name)
            return all(node.nodes() >= names - {node.name} for node in self.watched.values())

        wait_until(is_whole, timeout=120, what="the mesh is whole")

    def fault(self) -> None:
        """Let one fault happen to a peer, and let it recover."""
        peer = self.peers[self._random.choice(list(self.peers))]
        kind = self._random.choice([self._kill, self._pause, self._pause, self._long_pause, self._disconnect])
        kind(peer)
        self.faults[kind.__name__.strip("_")] += 1

    def _kill(self, peer: Peer) -> None:
        """``kill -9``, and a new start under the same name."""
        self._cluster.processes.remove(peer.node)
        peer.node.kill()
        peer.node = peer.start()

    def _pause(self, peer: Peer) -> None:
        """SIGSTOP for less than the tick time: the peer reads nothing, and others queue data for it."""
        self._stop_for(peer, self._random.uniform(0.2, NET_TICKTIME / 2))

    def _long_pause(self, peer: Peer) -> None:
        """SIGSTOP for longer than the tick time: the others lose the peer."""
        self._stop_for(peer, NET_TICKTIME * 1.6)

    def _stop_for(self, peer: Peer, seconds: float) -> None:
        peer.node.stop()
        time.sleep(seconds)
        peer.node.cont()

    def _disconnect(self, peer: Peer) -> None:
        node = self._random.choice(list(self.watched.values()))
        node.eval("node.disconnect(NAME)", NAME=peer.node.name)

    def measure(self) -> dict[str, dict[str, float]]:
        """Return the counters of each watched node."""
        return {name: node.eval("workload.measure(node)") for name, node in self.watched.items()}

    def details(self) -> dict[str, dict[str, int]]:
        """Return the descriptors and Python objects of each watched node, by kind."""
        return {name: node.eval("workload.details()") for name, node in self.watched.items()}

    def stop_work(self) -> dict[str, Counter[str]]:
        """End the work of the watched nodes and the peers. Return what each watched node did."""
        done = {}
        for name, node in self.watched.items():
            done[name] = Counter(node.eval("workload.stop()"))
        for peer in self.peers.values():
            self._cluster.processes.remove(peer.node)
            peer.node.kill()
        for name, node in self.watched.items():
            wait_until(
                lambda node=node: len(node.nodes()) == len(WATCHED) - 1, timeout=60, what=f"{name} lost the peers"
            )
        return done

    def start_work(self, seed: int) -> None:
        """Begin again after :meth:`stop_work`, with new peers."""
        for peer in self.peers.values():
            peer.node = peer.start()
        self.connect()
        for index, node in enumerate(self.watched.values()):
            node.eval("workload.start(node, SEED)", SEED=seed + index)

    def check_running(self) -> None:
        """Raise ProcessGone if a watched node has ended."""
        for name, node in self.watched.items():
            if not node.is_running():
                raise ProcessGone(f"{name} has ended\n{node.recent_log()}")
