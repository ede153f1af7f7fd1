"""Leaked resources are detected, and nodes leak nothing, however often they start and stop."""

import asyncio
import gc
import os
import socket
import threading
from collections import Counter

import pytest

import leaks
from erlmesh import Node
from leaks import LeakedTasks, ResourceSnapshot


@pytest.fixture
def short_settle_timeout(monkeypatch):
    monkeypatch.setattr(leaks, "SETTLE_TIMEOUT", 0.05)


@pytest.mark.usefixtures("short_settle_timeout")
def test_open_socket_and_pipe_are_detected():
    before = ResourceSnapshot.take()

    with socket.socket():
        inlet, outlet = os.pipe()
        leaked = before.leaked()
        os.close(inlet)
        os.close(outlet)

    assert sorted(what.split("(")[1].split(":")[0] for what in leaked) == ["pipe", "pipe", "socket"]
    assert before.leaked() == []


@pytest.mark.usefixtures("short_settle_timeout")
def test_running_thread_is_detected():
    before, over = ResourceSnapshot.take(), threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    thread.start()

    leaked = before.leaked()
    over.set()
    thread.join()

    assert leaked == ["thread forgotten"]


def test_task_that_asyncio_cancels_silently_is_detected(monkeypatch):
    tasks = LeakedTasks()
    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", tasks.cancel_all)
    kept = []

    async def forgotten():
        await asyncio.sleep(1000)

    async def main():
        kept.append(asyncio.create_task(forgotten()))
        await asyncio.sleep(0)

    asyncio.run(main())

    assert len(tasks.found) == 1
    assert "forgotten" in tasks.found[0]


@pytest.mark.slow
def test_node_that_runs_200_times_leaks_nothing(monkeypatch, free_port):
    monkeypatch.setenv("ERL_EPMD_PORT", str(free_port))

    async def live(number):
        async with Node("a@127.0.0.1", cookie="x") as a:
            a.pg.join("group", a.spawn(idle))
            if number % 10 == 0:
                async with Node("b@127.0.0.1", cookie="x") as b:
                    assert await b.ping(a.name)
                    await a.global_.register("name", b.spawn(idle))

    async def idle(me):
        await me.receive()

    async def main():
        counts = []
        for number in range(200):
            await live(number)
            if number in (40, 199):
                await asyncio.sleep(0)
                gc.collect()
                counts.append((count_node_objects(), len(asyncio.all_tasks()), ResourceSnapshot.take()))
        return counts

    (early, early_tasks, held), (late, late_tasks, held_later) = asyncio.run(main())

    assert not any(isinstance(thing, Node) for thing in gc.get_objects())
    assert late_tasks == early_tasks == 1
    assert len(held_later.descriptors) <= len(held.descriptors)
    assert len(held_later.threads) <= len(held.threads)
    assert not late - early


def count_node_objects():
    """Count the objects that nodes consist of. Bounded caches of terms and cancelled asyncio timers do not count."""
    modules = ("erlmesh.runtime", "erlmesh.net", "erlmesh.core", "erlmesh.services", "asyncio", "_asyncio")
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        kind for kind in kinds if str(kind.__module__).startswith(modules) and kind is not asyncio.TimerHandle
    )
