"""Process groups of a hidden node: its scopes start the exchange with each node that it is connected to."""

import math
import random

import pytest

from erlmesh import Atom
from erlmesh.services.pg.hidden_peers import LONGEST_PAUSE, HiddenPeers
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

A, B = Atom("a@h"), Atom("b@h")


def simulated(test):
    def wrapper():
        async def main():
            async with Cluster(7) as cluster:
                await test(cluster)

        run(main)

    wrapper.__name__ = test.__name__
    return wrapper


async def idle(me):
    await me.receive(lambda message: message == "never")


def member(node, scope=None):
    pid = node.spawn(idle)
    (scope or node.pg).join("g", pid)
    return pid


async def pair(cluster, **options):
    """A visible node with a member, and a hidden one that is connected to it."""
    visible, hidden = *await cluster.start("visible"), *await cluster.start("hidden", hidden=True, **options)
    return visible, hidden, member(visible)


async def sees(cluster, node, pids, scope=None):
    await cluster.wait_until(lambda: set((scope or node.pg).get_members("g")) == set(pids))


# The decisions


def test_a_node_that_runs_no_scope_gets_discovers_at_growing_intervals():
    peers, now, pauses = HiddenPeers(random.Random(1)), 0.0, []
    peers.connected(A, now)
    for _ in range(12):
        before, now = now, peers.next_deadline()
        assert peers.due([], now - 0.001) == []
        assert peers.due([], now) == [A]
        pauses.append(now - before)

    assert 0.75 <= pauses[0] <= 1.25
    assert pauses[3] > 4 * pauses[0]
    assert 0.75 * LONGEST_PAUSE <= pauses[-1] <= 1.25 * LONGEST_PAUSE


def test_a_node_whose_server_is_known_gets_no_discover_until_the_server_is_lost():
    peers = HiddenPeers(random.Random(1))
    peers.connected(A, 0.0)
    peers.connected(B, 0.0)

    assert peers.due({A}, 2.0) == [B]
    peers.disconnected(B)
    assert peers.next_deadline() == math.inf
    peers.server_lost(A, 100.0)
    peers.server_lost(B, 100.0)

    assert peers.due([], 101.25) == [A]


# On a node


@simulated
async def test_members_are_exchanged_in_both_directions_after_a_connection(cluster):
    visible, hidden, theirs = await pair(cluster)
    ours = member(hidden)

    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))

    await sees(cluster, visible, [ours, theirs])
    await sees(cluster, hidden, [ours, theirs])
    hidden.pg.leave("g", ours)
    await sees(cluster, visible, [theirs])
    assert visible.nodes() == []


@pytest.mark.parametrize("caller", ["hidden", "visible"])
def test_members_vanish_with_the_connection_and_return_with_it(caller):
    @simulated
    async def test(cluster):
        visible, hidden, theirs = await pair(cluster)
        ours = member(hidden)
        caller_node, other = (hidden, visible) if caller == "hidden" else (visible, hidden)
        await cluster.run_on(caller_node, lambda: caller_node.connect(other.name))
        await sees(cluster, visible, [ours, theirs])

        cluster.partition([visible], [hidden])
        await sees(cluster, visible, [theirs])
        await sees(cluster, hidden, [ours])
        cluster.heal()
        if caller == "visible":  # A visible node does not reconnect to a hidden one that has connected to it.
            await cluster.run_on(visible, lambda: visible.connect(hidden.name))

        await sees(cluster, visible, [ours, theirs])
        await sees(cluster, hidden, [ours, theirs])

    test()


@simulated
async def test_a_scope_that_starts_after_the_connection_is_found(cluster):
    visible, hidden, _ = await pair(cluster)
    ours_scope = hidden.pg.start_scope("late")
    ours = member(hidden, ours_scope)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    await cluster.sleep(100)

    scope = visible.pg.start_scope("late")
    theirs = member(visible, scope)

    await sees(cluster, visible, [ours, theirs], scope)
    await sees(cluster, hidden, [ours, theirs], ours_scope)


@simulated
async def test_a_scope_of_the_hidden_node_that_starts_late_is_known_at_once(cluster):
    visible, hidden, _ = await pair(cluster)
    scope = visible.pg.start_scope("late")
    theirs = member(visible, scope)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))

    ours_scope = hidden.pg.start_scope("late")
    await cluster.sleep(0.1)

    assert ours_scope.get_members("g") == [theirs]


@simulated
async def test_a_scope_that_starts_again_is_found_again(cluster):
    visible, hidden, theirs = await pair(cluster)
    ours = member(hidden)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    await sees(cluster, visible, [ours, theirs])

    visible.pg.stop()
    await sees(cluster, hidden, [ours])
    scope = visible.pg.start_scope("pg")

    await sees(cluster, visible, [ours], scope)


@simulated
async def test_the_server_of_the_hidden_node_starts_again_and_its_members_stay(cluster):
    visible, hidden, theirs = await pair(cluster)
    ours = member(hidden)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    await sees(cluster, visible, [ours, theirs])

    joined = []
    visible.pg.subscribe(joined.append)
    hidden.exit(hidden.pg.pid, Atom("kill"))
    await cluster.wait_until(lambda: len(joined) == 2)  # the member has left with its server, and joined again

    await sees(cluster, visible, [ours, theirs])
    await sees(cluster, hidden, [ours, theirs])


@simulated
async def test_a_server_that_starts_again_continues_to_search(cluster):
    visible, hidden, _ = await pair(cluster)
    ours_scope = hidden.pg.start_scope("late")
    ours = member(hidden, ours_scope)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    hidden.exit(ours_scope.pid, Atom("kill"))
    await cluster.sleep(5)

    scope = visible.pg.start_scope("late")

    await sees(cluster, visible, [ours], scope)


@simulated
async def test_nothing_more_is_sent_to_a_node_whose_scope_is_known(cluster):
    visible, hidden, theirs = await pair(cluster)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    await sees(cluster, hidden, [theirs])
    await cluster.sleep(5)
    received, handle = [], visible.pg._server.process._handler
    visible.pg._server.process._handler = lambda message: (received.append(message), handle(message))

    await cluster.sleep(200)

    assert received == []


@simulated
async def test_the_option_turns_the_exchange_off(cluster):
    visible, hidden, theirs = await pair(cluster, hidden_groups=False)
    ours = member(hidden)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    await cluster.sleep(100)
    assert visible.pg.get_members("g") == [theirs]

    hidden.pg.discover(visible.name)

    await sees(cluster, visible, [ours, theirs])


@simulated
async def test_another_node_cannot_multiply_the_timer(cluster):
    visible, hidden, _ = await pair(cluster)
    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    scope = hidden.pg.start_scope("only here")
    fired, fire = [], scope._server._exchange.timer_fired
    scope._server._exchange.timer_fired = lambda: (fired.append(True), fire())

    for _ in range(10):
        visible.send(scope.pid, Atom("discover"))
        visible.send(scope.pid, (Atom("nodedown"), visible.internals.atom))
    await cluster.sleep(5)

    assert 1 <= len(fired) <= 3


@simulated
async def test_monitor_nodes_reports_hidden_nodes_if_asked(cluster):
    visible, hidden, _ = await pair(cluster)
    events = []
    visible.monitor_nodes(
        visible.spawn_handler(lambda message: events.append(("all", message[0].name))).pid, hidden=True
    )
    visible.monitor_nodes(visible.spawn_handler(lambda message: events.append(("visible", message[0].name))).pid)

    await cluster.run_on(hidden, lambda: hidden.connect(visible.name))
    cluster.kill(hidden)
    await cluster.wait_until(lambda: len(events) == 2)

    assert events == [("all", "nodeup"), ("all", "nodedown")]
