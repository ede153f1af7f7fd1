"""Servers that are killed or fail: what is restored, and what is lost."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from memory_network import MemoryEpmd, MemoryNetwork

from erlmesh.core.server_restarts import MAX_DELAY, MAX_RESTARTS, QUIET, ServerRestarts
from erlmesh.errors import CallError, NoProcess
from erlmesh.node import Node
from erlmesh.services.global_.locker import Locker
from erlmesh.services.pg.server import Joined
from erlmesh.terms import Atom
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B = Atom("a@h"), Atom("b@h")
DOWN, PROCESS, KILL, KILLED = map(Atom, ("DOWN", "process", "kill", "killed"))
YES, X = Atom("yes"), Atom("x")


def with_nodes(*names, **options):
    """Give the test started and connected nodes with all their services."""

    def decorate(test):
        def wrapped():
            async def main():
                async with AsyncExitStack() as stack:
                    network, nodes = MemoryNetwork(), []
                    for name in names:
                        node = Node(
                            name, cookie="monster", network=network, resolver=network,
                            epmd=MemoryEpmd(network, "h"), seed=len(nodes), **options
                        )  # fmt: skip
                        nodes.append(await stack.enter_async_context(node))
                    await connect_mesh(nodes)
                    await test(*nodes)

            run(main())

        wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
        return wrapped

    return decorate


async def wait_until(condition, seconds=60):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.1)


async def connect_mesh(nodes):
    for node in nodes[1:]:
        await node.connect(nodes[0].name)
    await wait_until(lambda: is_mesh(nodes))


def is_mesh(nodes):
    names = sorted(node.name for node in nodes)
    return all(sorted([node.name, *node.global_.known()]) == names for node in nodes)


async def idle(me):
    async for _ in me:
        pass


def kill(node, name):
    pid = node.whereis(name)
    node.exit(pid, KILL)
    return pid


@pytest.mark.parametrize("name", ["net_kernel", "rex", "user", "logger_proxy", "pg2", "erlmesh", "global_name_server"])
def test_killed_server_sends_down_and_restarts(name):
    @with_nodes("a@h")
    async def run_test(a):
        seen = []
        old = a.whereis(name)
        ref = a.spawn_handler(seen.append).monitor(old)
        kill(a, name)
        new = a.whereis(name)
        await run_iterations()

        assert new not in (None, old)
        assert not a.internals.is_alive(old)
        assert seen == [(DOWN, ref, PROCESS, old, KILLED)]

    run_test()


@with_nodes("a@h")
async def test_node_can_send_after_its_own_process_was_killed(a):
    async def echo(me):
        async for message in me:
            me.reply(message[1], message[2])

    a.exit(a.internals._node_process.pid, KILL)

    assert await a.call(a.spawn(echo), X) == X


@with_nodes("a@h", "b@h")
async def test_no_server_restarts_on_a_stopping_node(a, b):
    await a.stop()

    assert a.internals.processes() == []


@with_nodes("a@h", "b@h")
async def test_node_answers_pings_after_net_kernel_was_killed(a, b):
    kill(a, "net_kernel")

    assert await b.ping("a@h")


@with_nodes("a@h", "b@h")
async def test_restarted_pg2_keeps_groups_and_monitors_members(a, b):
    local, remote = a.spawn(idle), b.spawn(idle)
    await a.pg2.create(X)
    await a.pg2.join(X, local)
    await a.pg2.join(X, remote)
    kill(a, "pg2")
    a.exit(local, KILL)
    b.exit(remote, KILL)
    await run_iterations()

    assert a.pg2.get_members(X) == b.pg2.get_members(X) == []


def watched(node, group):
    """The changes of a group that a watch has given so far, and the task that watches."""
    changes = []

    async def watch():
        changes.extend([change async for change in node.pg.watch(group)])

    return changes, asyncio.ensure_future(watch())


@pytest.mark.parametrize("scope", ["pg", "chat"])
@pytest.mark.parametrize("reason", [KILL, X])
def test_members_stay_when_a_pg_scope_gets_an_exit_signal(scope, reason):
    @with_nodes("a@h", "b@h")
    async def run_test(a, b):
        pg_a, pg_b = (node.pg if scope == "pg" else node.pg.start_scope(scope) for node in (a, b))
        await run_iterations()
        mine, theirs = a.spawn(idle), b.spawn(idle)
        pg_a.join(X, [mine, mine])
        pg_b.join(X, theirs)
        await run_iterations()
        events = []
        pg_a.subscribe(events.append)
        old = pg_a.pid

        a.exit(old, reason)
        await run_iterations()

        assert pg_a.alive
        assert pg_a.pid == a.whereis(scope) != old
        for pg in (pg_a, pg_b):
            assert Counter(pg.get_members(X)) == Counter([mine, mine, theirs])
        assert pg_a.get_local_members(X) == [mine, mine]
        assert events == []  # nothing has changed for the processes of this node

        more = a.spawn(idle)
        pg_a.join(X, more)
        pg_b.leave(X, theirs)
        a.exit(mine, KILL)
        await run_iterations()
        assert pg_a.get_members(X) == pg_b.get_members(X) == [more]

    run_test()


@with_nodes("a@h", "b@h")
async def test_a_restarted_pg_scope_notices_what_ends_later(a, b):
    theirs, member = b.spawn(idle), a.spawn(idle)
    b.pg.join(X, theirs)
    a.pg.join(X, member)
    await run_iterations()
    for _ in range(3):
        kill(a, "pg")
        kill(b, "pg")
    await run_iterations()
    assert set(a.pg.get_members(X)) == set(b.pg.get_members(X)) == {theirs, member}

    a.exit(member, KILL)
    await b.stop()
    await run_iterations()

    assert a.pg.get_members(X) == []
    assert a.pg.which_groups() == []


@with_nodes("a@h", "b@h")
async def test_a_stopped_pg_scope_loses_its_members_and_can_be_started_again(a, b):
    member = a.spawn(idle)
    changes, watching = watched(a, X)
    await run_iterations()
    a.pg.join(X, member)
    await run_iterations()
    old = a.pg
    old.stop()
    await asyncio.wait_for(watching, 1)
    await run_iterations()
    assert changes == [Joined((member,), X)]
    assert not old.alive
    assert old.get_members(X) == old.which_groups() == b.pg.get_members(X) == []
    with pytest.raises(NoProcess):
        old.join(X, member)

    a.pg.start_scope("pg").join(X, member)
    await run_iterations()

    assert a.pg.get_members(X) == b.pg.get_members(X) == [member]


@with_nodes("a@h")
async def test_a_scope_that_otp_starts_without_a_supervisor_ends_with_an_exit_signal(a):
    scope = a.pg.start_scope("chat", restart=False)

    kill(a, "chat")

    assert not scope.alive
    assert a.whereis("chat") is None


# global


def locker(node):
    return node.global_._server._locker


def registrar(node):
    return node.global_._server.registrar


def server(node):
    return node.whereis("global_name_server")


@pytest.mark.parametrize("part", [server, locker, registrar])
def test_global_disconnects_and_reconnects_when_one_of_its_processes_is_killed(part):
    @with_nodes("a@h", "b@h", "c@h")
    async def run_test(a, b, c):
        local, remote = a.spawn(idle), b.spawn(idle)
        assert await a.global_.register(Atom("local"), local)
        assert await b.global_.register(Atom("remote"), remote)
        parts = [server(a), locker(a), registrar(a)]
        a.exit(part(a), KILL)
        await run_iterations()
        assert not any(map(a.internals.is_alive, parts))
        assert a.global_.known() == []
        await wait_until(lambda: is_mesh([a, b, c]))
        await wait_until(lambda: all(node.global_.whereis(Atom("local")) == local for node in (a, b, c)))

        assert all(node.global_.whereis(Atom("remote")) == remote for node in (a, b, c))
        for node in (a, b, c):
            async with asyncio.timeout(60):
                assert await node.global_.register(Atom(node.name), node.spawn(idle))
        assert sorted(b.nodes()) == ["a@h", "c@h"]

    run_test()


@with_nodes("a@h", "b@h")
async def test_lock_of_a_local_process_survives_the_restart(a, b):
    release = asyncio.Event()

    async def holds(me):
        async with a.global_.trans((X, me.pid), ["a@h"], me=me):
            await release.wait()

    a.spawn(holds)
    await run_iterations()
    a.exit(server(a), KILL)
    await wait_until(lambda: is_mesh([a, b]))

    assert not await b.global_.set_lock((X, 2), ["a@h"], 0)
    release.set()
    await run_iterations()
    assert await b.global_.set_lock((X, 2), ["a@h"], 0)


@with_nodes("a@h", "b@h")
async def test_waiting_caller_gets_an_error_when_global_is_killed(a, b):
    asked = asyncio.ensure_future(a.global_.register(X, a.spawn(idle)))
    await asyncio.sleep(0)
    a.exit(registrar(a), KILL)

    with pytest.raises(CallError):
        await asked


@with_nodes("a@h", "b@h")
async def test_exception_in_the_locker_restarts_global(a, b):
    old = locker(a)

    async def fails(*_):
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Locker, "_handle_message", fails)
        a.send(old, X)
        await run_iterations()
    await wait_until(lambda: is_mesh([a, b]))

    assert locker(a) != old
    assert await b.global_.register(X, b.spawn(idle))


@with_nodes("a@h", "b@h")
async def test_server_that_fails_at_each_start_does_not_keep_the_loop_busy(a, b):
    starts = []

    async def fails(*_):
        starts.append(asyncio.get_running_loop().time())
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Locker, "run", fails)
        a.exit(locker(a), KILL)
        await asyncio.sleep(60)
        at_once = [time for time in starts if time == starts[0]]
        assert len(at_once) <= MAX_RESTARTS + 1
        assert len(starts) <= len(at_once) + 6
    await wait_until(lambda: a.global_._server.process.alive, 2 * MAX_DELAY)
    await wait_until(lambda: is_mesh([a, b]), 300)

    assert await b.global_.register(X, b.spawn(idle))


def test_restarts_come_at_once_up_to_the_limit_and_then_later_and_later():
    restarts = ServerRestarts()

    delays, now = [], 0.0
    for _ in range(MAX_RESTARTS + 8):
        delays.append(restarts.ended("pg", now))
        now += delays[-1]

    assert delays == [0.0] * MAX_RESTARTS + [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert restarts.ended("rex", now) == 0.0
    assert restarts.ended("pg", now + QUIET - 1) == MAX_DELAY
    assert restarts.ended("pg", now + QUIET - 1 + MAX_DELAY + QUIET + 1) == 0.0


def test_restarts_that_are_far_apart_come_at_once():
    restarts = ServerRestarts()

    assert {restarts.ended("pg", now) for now in range(0, 1000, 2)} == {0.0}
