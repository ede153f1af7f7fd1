"""What a watched node does during the soak test, and what it uses. It runs in the process of that node.

``start`` begins the work, ``stop`` ends it and everything that it started, ``measure`` returns counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import random
import resource
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from erlmesh import Atom, ErlmeshError, Node, Process
from simulation.introspection import leaked_resources, monitor_count

GROUP = Atom("soak")
SERVERS = 5
CLIENTS = 4
LARGE = 200_000
"""Bytes of the messages that leave in fragments."""
TIMEOUT = 5.0
_C = ctypes.CDLL(None)


class Workload:
    """Servers, clients and short-lived members of groups on one node."""

    def __init__(self, node: Node, seed: int) -> None:
        self._node = node
        self._random = random.Random(seed)
        self._is_running = True
        self.done: Counter[str] = Counter()

    def start(self) -> None:
        for _ in range(SERVERS):
            self._node.spawn(self._serve)
        for _ in range(CLIENTS):
            self._node.spawn(self._run_client)
        self._node.spawn(self._run_members)

    def stop(self) -> None:
        self._is_running = False
        for pid in self._node.pg.get_local_members(GROUP):
            self._node.exit(pid, Atom("kill"))

    async def _serve(self, me: Process) -> None:
        """Answer calls of other nodes, in both ways that a caller may use."""
        self._node.pg.join(GROUP, me.pid)
        async for message in me:
            match message:
                case (Atom("$gen_call"), caller, request):
                    me.reply(caller, request)
                case _:
                    self.done["messages"] += 1

    async def _run_client(self, me: Process) -> None:
        """Do one thing after the other until the work stops. What a fault makes fail is counted."""
        actions = [self._call, self._call, self._flood, self._large, self._erpc, self._global_name, self._spawn]
        while self._is_running:
            members = self._node.pg.get_members(GROUP)
            if members:
                action = self._random.choice(actions)
                try:
                    await action(me, self._random.choice(members))
                    self.done[action.__name__.strip("_")] += 1
                except (ErlmeshError, TimeoutError) as error:
                    self.done[type(error).__name__] += 1
            await asyncio.sleep(0)
            while me.receive_nowait() is not None:
                pass

    async def _call(self, _me: Process, pid: Any) -> None:
        for number in range(20):
            await self._node.call(pid, (Atom("echo"), number), timeout=TIMEOUT)

    async def _flood(self, me: Process, pid: Any) -> None:
        for number in range(500):
            me.send(pid, (Atom("flood"), number, me.pid))
        await asyncio.wait_for(me.drain(), TIMEOUT)

    async def _large(self, me: Process, pid: Any) -> None:
        await self._node.call(pid, (Atom("large"), bytes(LARGE)), timeout=TIMEOUT)
        me.send(pid, bytes(LARGE))

    async def _erpc(self, _me: Process, pid: Any) -> None:
        await self._node.rpc(pid.node, "erlang", "node", timeout=TIMEOUT)

    async def _global_name(self, me: Process, _pid: Any) -> None:
        name = (Atom("soak"), self._random.randrange(20))
        if await asyncio.wait_for(self._node.global_.register(name, me.pid), TIMEOUT):
            await asyncio.wait_for(self._node.global_.unregister(name), TIMEOUT)

    async def _spawn(self, me: Process, pid: Any) -> None:
        ref = me.monitor(pid)
        me.demonitor(ref, flush=True)

        async def short(child: Process) -> None:
            child.link(pid)
            child.unlink(pid)

        for _ in range(20):
            self._node.spawn(short)

    async def _run_members(self, _me: Process) -> None:
        """Start processes that join groups and end; some by an exit signal."""

        async def member(me: Process) -> None:
            for number in range(10):
                self._node.pg.join((Atom("soak"), number), me.pid)
            await me.receive()

        while self._is_running:
            pids = [self._node.spawn(member) for _ in range(50)]
            await asyncio.sleep(0.05)
            for pid in pids:
                self._node.exit(pid, Atom("kill"))
            await asyncio.sleep(0.2)


_running: list[Workload] = []


def start(node: Node, seed: int) -> None:
    _running.append(Workload(node, seed))
    _running[-1].start()


def stop() -> dict[str, int]:
    """End the work. Return what was done and what failed, by kind."""
    workload = _running.pop()
    workload.stop()
    return dict(workload.done)


def measure(node: Node) -> dict[str, float]:
    """Return what the process and the node use now."""
    gc.collect()
    if hasattr(_C, "malloc_trim"):  # glibc keeps freed pages, as many as the last peak left
        _C.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory (MB)": pages * resource.getpagesize() / 1e6,
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "processes": len(node.internals.processes()),
        "monitors": monitor_count(node),
        "Python objects": len(gc.get_objects()),
        **leaked_resources(node),
    }


def details() -> dict[str, int]:
    """Return the number of descriptors and Python objects of each kind, to explain what has grown."""
    kinds = Counter(f"object {type(value).__module__}.{type(value).__qualname__}" for value in gc.get_objects())
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is closed by now, as the one of this listing
            kinds["descriptor " + descriptor.readlink().name.split("[")[0].split(":")[0]] += 1
    return dict(kinds)
