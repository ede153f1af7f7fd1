"""What outlives a test is seen; and nodes leave nothing behind, however many come and go."""

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
def test_a_socket_and_a_pipe_that_stay_open_are_seen():
    before = ResourceSnapshot.take()

    with socket.socket():
        inlet, outlet = os.pipe()
        leaked = before.leaked()
        os.close(inlet)
        os.close(outlet)

    assert sorted(what.split("(")[1].split(":")[0] for what in leaked) == ["pipe", "pipe", "socket"]
    assert before.leaked() == []


@pytest.mark.usefixtures("short_settle_timeout")
def test_a_thread_that_goes_on_is_seen():
    before, over = ResourceSnapshot.take(), threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    thread.start()

    leaked = before.leaked()
    over.set()
    thread.join()

    assert leaked == ["thread forgotten"]


def test_a_task_that_asyncio_would_cancel_without_a_word_is_seen(monkeypatch):
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


def test_two_hundred_lives_of_a_node_leave_nothing(monkeypatch, free_port):
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
                counts.append((machinery(), len(asyncio.all_tasks()), ResourceSnapshot.take()))
        return counts

    (early, early_tasks, held), (late, late_tasks, held_later) = asyncio.run(main())

    assert not any(isinstance(thing, Node) for thing in gc.get_objects())
    assert late_tasks == early_tasks == 1
    assert len(held_later.descriptors) <= len(held.descriptors)
    assert len(held_later.threads) <= len(held.threads)
    assert not late - early


def machinery():
    """How many things there are of what nodes are made of. Terms may be kept in memos, which are bounded, and cancelled
    timers by asyncio, for a while.
    """
    modules = ("erlmesh.runtime", "erlmesh.net", "erlmesh.core", "erlmesh.services", "asyncio", "_asyncio")
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        kind for kind in kinds if str(kind.__module__).startswith(modules) and kind is not asyncio.TimerHandle
    )
