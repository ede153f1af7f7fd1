"""Locks of the whole cluster: exclusive, released with their holder, and free of deadlocks."""

from functools import partial

import pytest
from fake_runtime import FakeRuntime
from global_cluster import SERVER, is_mesh, is_quiescent, start

from erlmesh.services.global_.client import backoff, del_lock, set_lock, trans, transaction
from erlmesh.terms import Atom

R = Atom("resource")


def cluster(world, names, **options):
    nodes = [start(world, f"{name}@h", **options) for name in names]
    for node in nodes[1:]:
        world.connect(node.name, nodes[0].name)
    world.run(until=lambda: is_mesh(nodes), limit=60)
    world.run(until=lambda: is_quiescent(nodes), limit=60)
    return nodes


def locks_on(node):
    return [resource for resource, _, _ in node.server.locks.snapshot()]


def test_lock_is_set_and_released_on_all_nodes():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")

    async def lock(me):
        assert await set_lock(me, (R, me.pid))
        during = [locks_on(node) for node in nodes]
        await del_lock(me, (R, me.pid))
        return during

    assert world.ask(nodes[1], lock) == [[R]] * 3
    assert is_quiescent(nodes)


def test_lock_on_some_nodes_does_not_touch_the_others():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")

    async def lock(me):
        assert await set_lock(me, (R, me.pid), ["a@h", "c@h"])
        return [locks_on(node) for node in nodes]

    assert world.ask(nodes[1], lock) == [[R], [], [R]]


def test_critical_section_is_exclusive():
    for seed in range(40):
        world = FakeRuntime(seed)
        nodes = cluster(world, "abcd")
        inside = []

        async def enter(me, inside=inside):
            for _ in range(3):
                async with transaction(me, (R, me.pid)):
                    inside.append(me.pid)
                    assert inside == [me.pid]
                    await me.sleep(me.node.random.uniform(0, 0.05))
                    inside.remove(me.pid)

        outcomes = [world.start(node, enter) for node in nodes for _ in range(2)]
        for outcome in outcomes:
            world.wait(outcome, limit=600)

        assert is_quiescent(nodes)


def test_set_lock_returns_false_after_its_retries():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def hold(me):
        await set_lock(me, (R, me.pid))
        await me.receive()

    async def want(me):
        began = me.node.now()
        return await set_lock(me, (R, me.pid), retries=3), me.node.now() - began

    nodes[0].spawn(hold)
    world.run(0.1)
    locked, took = world.ask(nodes[1], want)

    assert locked is False
    assert took < 0.25 + 0.5 + 1.0 + 0.1
    assert [locks_on(node) for node in nodes] == [[R], [R]]


def test_processes_with_the_same_requester_share_a_lock():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def both(me):
        async def other(me):
            return await set_lock(me, (R, b"we"), retries=0)

        assert await set_lock(me, (R, b"we"), retries=0)
        return me.node.world.start(nodes[1], other)

    assert world.wait(world.ask(nodes[0], both)) is True


@pytest.mark.parametrize("seed", range(10))
def test_lock_is_released_when_its_holder_terminates(seed):
    world = FakeRuntime(seed)
    nodes = cluster(world, "abc")

    async def hold(me):
        await set_lock(me, (R, me.pid))
        await me.receive()

    pid = nodes[0].spawn(hold)
    world.run(world.random.uniform(0, 0.01))
    nodes[0].processes[pid].end(Atom("killed"))
    world.run(1)

    assert is_quiescent(nodes)


def test_lock_is_released_when_the_node_of_its_holder_stops():
    for seed in range(20):
        world = FakeRuntime(seed)
        nodes = cluster(world, "abc")

        async def hold(me):
            await set_lock(me, (R, me.pid))
            await me.receive()

        async def want(me):
            return await set_lock(me, (R, me.pid))

        nodes[0].spawn(hold)
        world.run(world.random.uniform(0, 0.01))
        outcome = world.start(nodes[1], want)
        world.run(0.5)
        world.kill("a@h")

        assert world.wait(outcome, limit=30) is True


def test_node_without_the_service_is_skipped():
    world = FakeRuntime(1)
    world.node("plain@h")
    nodes = cluster(world, "ab")
    world.connect("plain@h", "a@h")
    world.run(1)

    async def lock(me):
        return await set_lock(me, (R, me.pid), retries=0)

    assert "plain@h" in nodes[0].nodes()
    assert world.ask(nodes[0], lock) is True


def test_unreachable_node_is_skipped():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def lock(me):
        return await set_lock(me, (R, me.pid), ["a@h", "b@h", "missing@h"], retries=0)

    assert world.ask(nodes[0], lock) is True
    world.run(0.1)
    assert is_quiescent(nodes)  # the lock owner has terminated


def test_trans_returns_the_result_and_releases_the_lock():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def work(me):
        async def body():
            return [locks_on(node) for node in nodes]

        return await trans(me, (R, me.pid), None, body), await me.node.global_.transaction(me, (R, 1), ["a@h"], body)

    during, only_there = world.ask(nodes[1], work)

    assert during == [[R], [R]]
    assert only_there == [[R], []]
    assert is_quiescent(nodes)


def test_exception_in_the_body_releases_the_lock():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")

    async def work(me):
        with pytest.raises(ZeroDivisionError):
            async with transaction(me, (R, me.pid)):
                raise ZeroDivisionError
        await me.sleep(0.1)
        assert is_quiescent(nodes)
        return list(me._mailbox)

    assert world.ask(nodes[1], work) == []


@pytest.mark.parametrize("wrong", [R, (R,), [R, 1], (R, 1, 2)])
def test_invalid_lock_id_raises(wrong):
    world = FakeRuntime(1)
    (node,) = cluster(world, "a")

    async def lock(me):
        with pytest.raises(TypeError, match="pair"):
            await set_lock(me, wrong)
        with pytest.raises(TypeError, match="pair"):
            await me.node.global_.set_lock(wrong)

    world.ask(node, lock)


def test_lock_without_a_process():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")
    names, others = nodes[0].global_, nodes[1].global_

    async def work(_):
        assert await names.set_lock((R, b"me")) is True
        during = [locks_on(node) for node in nodes]
        assert await names.set_lock((R, b"me")) is True
        assert await others.set_lock((R, b"you"), retries=0) is False
        await names.del_lock((R, b"me"))
        assert await others.set_lock((R, b"you"), retries=0) is True
        await others.del_lock((R, b"you"))
        await others.del_lock((R, b"you"))
        return during

    assert world.ask(nodes[0], work) == [[R], [R]]
    world.run(0.1)
    assert is_quiescent(nodes)


@pytest.mark.parametrize("as_process", [True, False])
def test_trans_holds_the_lock_for_a_block(as_process):
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def work(me):
        async with me.node.global_.trans((R, me.pid), me=me if as_process else None):
            return [locks_on(node) for node in nodes]

    assert world.ask(nodes[0], work) == [[R], [R]]
    world.run(0.1)
    assert is_quiescent(nodes)


@pytest.mark.parametrize("as_process", [True, False])
def test_exception_in_a_block_releases_the_lock(as_process):
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def work(me):
        async with me.node.global_.trans((R, me.pid), me=me if as_process else None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.ask(nodes[0], work)
    world.run(0.1)
    assert is_quiescent(nodes)


def test_cancelled_set_lock_leaves_no_lock():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def hold(me):
        await set_lock(me, (R, me.pid))
        await me.sleep(5)

    async def want(me):
        await me.node.global_.set_lock((R, b"impatient"))

    nodes[0].spawn(hold)
    world.run(0.1)
    waiting = nodes[1].spawn(want)
    world.run(1)
    nodes[1].processes[waiting].end(Atom("killed"))
    world.run(30)

    assert is_quiescent(nodes)


def test_backoff_is_random_and_grows_to_eight_seconds():
    chance = FakeRuntime(1).random
    most = [max(backoff(attempt, chance) for _ in range(2000)) for attempt in range(1, 9)]

    assert most == pytest.approx([0.25, 0.5, 1, 2, 4, 8, 8, 8], rel=0.05)


def test_locks_stay_while_the_cluster_grows_and_shrinks():
    for seed in range(40):
        world = FakeRuntime(seed)
        nodes = [start(world, f"{name}@h") for name in "abcd"]
        inside = []

        async def enter(me, inside=inside):
            for _ in range(3):
                async with transaction(me, (R, me.pid), ["a@h", "b@h"]):
                    inside.append(me.pid)
                    assert inside == [me.pid]
                    await me.sleep(me.node.random.uniform(0, 0.2))
                    inside.remove(me.pid)

        world.connect("a@h", "b@h")
        world.run(until=partial(lambda n: "b@h" in n.nodes(), nodes[0]))
        for name in "cd":
            world.at(world.random.uniform(0, 1), partial(world.connect, f"{name}@h", "a@h"))
        outcomes = [world.start(node, enter) for node in nodes[:2] for _ in range(2)]
        for outcome in outcomes:
            world.wait(outcome, limit=600)
        world.run(until=partial(is_mesh, nodes), limit=60)


def test_unresponsive_server_blocks_others_only_while_it_is_connected():
    world = FakeRuntime(1)
    half = world.node("half@h")
    half.spawn_handler(lambda message: None, name=SERVER)
    (node,) = cluster(world, "a")
    world.connect("half@h", "a@h")
    world.run(0.1)

    async def lock(me):
        return await set_lock(me, (R, me.pid))

    outcome = world.start(node, lock)
    world.run(5)
    assert not outcome
    world.kill("half@h")

    assert world.wait(outcome, limit=1) is True


def test_lock_refused_by_one_node_is_released_on_all():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")

    async def hold(me):
        await set_lock(me, (R, me.pid), ["a@h"])
        await me.receive()

    async def want(me):
        assert not await set_lock(me, (R, me.pid), retries=3)
        return [locks_on(node) for node in nodes]

    nodes[0].spawn(hold)
    world.run(0.1)

    assert world.ask(nodes[1], want) == [[R], [], []]
