"""What a member says fills no table: entries are for nodes and processes that exist, or bounded, and go with the link.

``flood@h`` is a member without services that sends anything in its own name.
"""

import asyncio
from contextlib import AsyncExitStack

import pytest
from memory_network import MemoryEpmd, MemoryNetwork, started

from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.node import Node
from erlmesh.services.global_ import partitions as partitions_module
from erlmesh.services.global_ import server as server_module
from erlmesh.services.global_.protocol import Monitor, Recheck, Reply
from erlmesh.services.global_.sync_calls import MAX_CALLS, SyncCalls
from erlmesh.services.pg import monitors as monitors_module
from erlmesh.services.pg.state import MAX_SERVERS
from erlmesh.terms import Atom, Map, Pid, Ref, node_numbers
from erlmesh.terms.erlang import format_erlang
from erlmesh.testing.loop import run_coroutine, run_iterations

A, FLOOD = Atom("a@h"), Atom("flood@h")
GLOBAL, PG, NET_KERNEL, REX = map(Atom, ("global_name_server", "pg", "net_kernel", "rex"))
TRUE, SYNC, LOCKER = True, Atom("sync"), Atom("locker")
COUNT = 300


def with_flood(test=None, *, hidden=False):
    """Pass a full node and the member to the test."""

    def decorate(test):
        def wrapped(*arguments, **options):
            async def main():
                network = MemoryNetwork()
                async with AsyncExitStack() as stack:
                    epmd = MemoryEpmd(network, "h")
                    settings = {"cookie": "monster", "network": network, "resolver": network, "epmd": epmd, "seed": 1}
                    node = await stack.enter_async_context(Node("a@h", reconnect=False, **settings))
                    flood = await stack.enter_async_context(started(network, "flood@h", hidden=hidden))
                    assert await flood.connect("a@h")
                    await asyncio.sleep(10)
                    await test(node, flood, *arguments, **options)

            run_coroutine(main())

        wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
        return wrapped

    return decorate if test is None else decorate(test)


def sizes(*parts):
    """The sizes of all tables of these objects."""
    return {
        f"{type(part).__name__}.{name}": len(value)
        for part in parts
        for name, value in vars(part).items()
        if isinstance(value, dict | list | set)
    }


def global_sizes(node):
    server = node.global_._server
    return sizes(server, server.sync, server.partitions, server.locks, server.names) | {
        "calls": len(server._sync_calls),
        "delayed": server._delayed,
    }


def pid_of(number):
    return Pid(FLOOD, 10_000 + number, 0, 1)


def call_from(number, request):
    return (GEN_CALL, (pid_of(number), Ref(FLOOD, 1, (number, 0, 0))), request)


def name_of(number):
    return Atom(f"nobody{number}@nowhere")


def in_sync(number):
    return (GEN_CAST, (Atom("in_sync"), FLOOD if number % 2 else name_of(number), True))


def init_connect(number):
    return (
        GEN_CAST,
        (Atom("init_connect"), (8, number), name_of(number), (LOCKER, Atom("x"), Map({}), pid_of(number))),
    )


def sync_of_missing_nodes(number):
    return call_from(number, (SYNC, [name_of(each) for each in range(number)]))


def sync_of_the_member(number):
    return call_from(number, (SYNC, [FLOOD]))


def lost_connection(number):
    return (Atom("lost_connection"), FLOOD, number, number, name_of(number))


def new_nodes(number):
    return (GEN_CAST, (Atom("new_nodes"), FLOOD, [], [], [name_of(number)], []))


def whereis(number):
    return (Atom("whereis"), number, (pid_of(number), number))


def set_lock(number):
    return call_from(number, (Atom("set_lock"), (number, number)))


def register(number):
    return call_from(number, (Atom("register"), number, pid_of(number), Atom("method")))


KEPT_WHILE_CONNECTED = [set_lock, register]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    "message", [in_sync, init_connect, sync_of_missing_nodes, sync_of_the_member, new_nodes, whereis]
)
def test_global_keeps_nothing_of_what_a_member_says_of_nodes_that_are_not_there(message, hidden):
    @with_flood(hidden=hidden)
    async def test(node, flood):
        before = global_sizes(node)
        for number in range(COUNT):
            flood.send((GLOBAL, A), message(number))
        await asyncio.sleep(30)
        if hidden:
            flood.disconnect("a@h")
            await asyncio.sleep(1)

        after = global_sizes(node)
        before["Partitions._loss_reports"] = partitions_module.MAX_LOSSES  # of nodes that it could not connect to
        assert {name: (before[name], after[name]) for name in after if after[name] > before[name]} == {}

    test()


@pytest.mark.parametrize("message", KEPT_WHILE_CONNECTED)
def test_what_global_keeps_for_the_processes_of_a_member_goes_with_it(message):
    @with_flood
    async def test(node, flood):
        # These processes exist, so far as their node says.
        flood._router._handlers[type_of_monitor(flood)] = lambda _signal, _peer: None
        before = global_sizes(node)
        for number in range(COUNT):
            flood.send((GLOBAL, A), message(number))
        await asyncio.sleep(1)
        assert sum(global_sizes(node).values()) >= sum(before.values()) + COUNT
        flood.disconnect("a@h")
        await asyncio.sleep(1)

        after = global_sizes(node)
        before["Partitions._loss_reports"] += 1  # the loss of the member
        assert {name: (before[name], after[name]) for name in after if after[name] > before[name]} == {}

    test()


def type_of_monitor(runtime):
    return next(kind for kind in runtime._router._handlers if kind.__name__ == "Monitor")


def test_the_reports_of_losses_that_global_remembers_are_bounded(monkeypatch):
    monkeypatch.setattr(partitions_module, "MAX_REPORTS", 50)
    monkeypatch.setattr(partitions_module, "MAX_LOSSES", 20)

    @with_flood
    async def test(node, flood):
        for number in range(COUNT):
            flood.send((GLOBAL, A), lost_connection(number))
        await run_iterations()

        partitions = node.global_._server.partitions
        assert len(partitions._seen_reports) == 50
        assert len(partitions._loss_reports) == 20
        assert next(reversed(partitions._seen_reports)) == (FLOOD, name_of(COUNT - 1))

    test()


def test_losses_that_are_over_are_forgotten():
    @with_flood
    async def test(node, flood):
        flood.send((GLOBAL, A), lost_connection(1))
        await asyncio.sleep(6)
        flood.send((GLOBAL, A), lost_connection(2))
        await run_iterations()

        assert list(node.global_._server.partitions._loss_reports) == [name_of(2)]

    test()


def test_whereis_calls_that_wait_for_a_lock_are_bounded(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_DELAYED", 20)

    @with_flood
    async def test(node, flood):
        assert await node.global_.set_lock((Atom("global"), 1), [])
        node.global_._server.locks.set((Atom("global"), 1), node.global_._server.process.pid)
        for number in range(COUNT):
            flood.send((GLOBAL, A), whereis(number))
        await run_iterations()
        assert node.global_._server._delayed == 20
        await asyncio.sleep(20)
        assert node.global_._server._delayed == 20
        node.global_._server.locks.delete((Atom("global"), 1), node.global_._server.process.pid)
        await asyncio.sleep(20)

        assert node.global_._server._delayed == 0

    test()


# The calls of global:sync/0


def caller(number):
    return (pid_of(number), number)


def test_a_sync_call_is_answered_when_its_nodes_are_in_sync_or_lost():
    calls = SyncCalls()

    assert calls.add(caller(1), [A, FLOOD]) == [Monitor(pid_of(1))]
    assert calls.node_done(A) == []
    assert Reply(caller(1), Atom("ok")) in calls.node_done(FLOOD)
    assert calls.add(caller(1), []) == [Reply(caller(1), Atom("ok"))]
    assert len(calls) == 0


def test_a_sync_call_of_a_dead_process_is_forgotten():
    calls = SyncCalls()
    calls.add(caller(1), [A])
    calls.caller_down(pid_of(1))

    assert len(calls) == 0
    assert calls.node_done(A) == []


def test_a_second_sync_call_of_a_process_replaces_the_first():
    calls = SyncCalls()
    calls.add(caller(1), [A])
    calls.add((pid_of(1), 2), [A])

    assert [effect for effect in calls.node_done(A) if isinstance(effect, Reply)] == [Reply((pid_of(1), 2), Atom("ok"))]


def test_the_oldest_sync_call_is_answered_if_there_are_too_many():
    calls = SyncCalls()
    effects = [effect for number in range(MAX_CALLS + 1) for effect in calls.add(caller(number), [A])]

    assert [effect for effect in effects if isinstance(effect, Reply)] == [Reply(caller(0), Atom("ok"))]
    assert len(calls) == MAX_CALLS


def test_in_sync_of_a_node_is_checked_once_if_it_is_repeated():
    @with_flood
    async def test(node, flood):
        state = node.global_._server.sync
        state.remove_node(FLOOD)

        assert [isinstance(effect, Recheck) for effect in state.in_sync(FLOOD)] == [True]
        assert state.in_sync(FLOOD) == []

    test()


# pg


def discover(number):
    return (Atom("discover"), pid_of(number))


def sync(number):
    return (GEN_CAST, (Atom("sync"), pid_of(number), [(number, [pid_of(number)])]))


@pytest.mark.parametrize("message", [discover, sync])
def test_pg_keeps_some_servers_of_a_member_and_none_when_it_has_gone(message):
    @with_flood
    async def test(node, flood):
        flood._router._handlers[type_of_monitor(flood)] = lambda _signal, _peer: None
        for number in range(COUNT):
            flood.send((PG, A), message(number))
        await run_iterations()
        state = node.pg._server.state
        assert node.pg.statistics().peers == MAX_SERVERS
        flood.disconnect("a@h")
        await run_iterations()

        assert node.pg.statistics().peers == len(state._peers_on_node) == 0
        assert node.pg.which_groups() == []

    test()


def test_pg_keeps_some_monitors_of_a_member_and_none_when_it_has_gone(monkeypatch):
    monkeypatch.setattr(monitors_module, "MAX_REMOTE", 20)

    @with_flood
    async def test(node, flood):
        flood._router._handlers[type_of_monitor(flood)] = lambda _signal, _peer: None
        for number in range(COUNT):
            flood.send((PG, A), call_from(number, Atom("monitor") if number % 2 else (Atom("monitor"), number)))
        await run_iterations()
        assert len(node.pg._server.observers.monitors._by_ref) == 20
        flood.disconnect("a@h")
        await run_iterations()

        assert sizes(node.pg._server.observers.monitors) == {
            "MonitorTable._by_ref": 0,
            "MonitorTable._by_key": 0,
            "MonitorTable._of_node": 0,
        }

    test()


# Printed pids


def test_the_names_that_have_a_number_are_bounded_and_no_number_is_used_twice(monkeypatch):
    monkeypatch.setattr(node_numbers, "MAX_NUMBERS", len(node_numbers._numbers) + 10)
    printed = [format_erlang(Pid(name_of(number), 1, 0, 1)) for number in range(100)]

    assert len(set(printed)) == 100
    assert len(node_numbers._numbers) == len(node_numbers._nodes) == node_numbers.MAX_NUMBERS
    newest = node_numbers.node_number(name_of(99))
    assert printed[99] == f"<{newest}.1.0>"
    assert node_numbers.node_by_number(newest) is name_of(99)
    assert node_numbers.node_by_number(newest - 99) is None
    assert format_erlang(Pid(name_of(0), 1, 0, 1)) == f"<{newest + 1}.1.0>"
