"""Messages in the name of others: a node of the cluster sends what another node would send. Services ignore it."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from memory_network import MemoryEpmd, MemoryNetwork, started

from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.node import Node
from erlmesh.terms import Atom, Pid, Ref
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
PG, PG2, REX, GLOBAL, NET_KERNEL, ERLMESH = map(
    Atom, ("pg", "pg2", "rex", "global_name_server", "net_kernel", "erlmesh")
)
DOWN, PROCESS, NODEUP, NODEDOWN, X = map(Atom, ("DOWN", "process", "nodeup", "nodedown", "x"))


class Cluster:
    """``a`` and ``b`` are full nodes. ``c`` is a hidden member that sends anything."""

    def __init__(self, a, b, c, calls, caplog):
        self.a, self.b, self.c, self.calls, self.caplog = a, b, c, calls, caplog

    async def send(self, sender, name, message):
        """Send ``message`` from a node to a service of ``b``, and let ``b`` handle it."""
        runtime = sender.internals if isinstance(sender, Node) else sender
        runtime.send((name, B), message)
        await run_iterations()

    def refused(self):
        """How many messages ``b`` has refused since the last call."""
        count = sum("in the name of" in record.getMessage() for record in self.caplog.records)
        self.caplog.clear()
        return count

    def pid(self, node, name):
        pid = node.whereis(name)
        assert pid is not None
        return pid


def with_forger(test):
    def wrapped(caplog, *arguments, **options):
        async def main():
            network, calls = MemoryNetwork(), []
            async with AsyncExitStack() as stack:
                a, b = [
                    await stack.enter_async_context(
                        Node(
                            name,
                            cookie="monster",
                            network=network,
                            resolver=network,
                            epmd=MemoryEpmd(network, "h"),
                            seed=seed,
                        )
                    )
                    for seed, name in enumerate(("a@h", "b@h"))
                ]
                c = await stack.enter_async_context(started(network, "c@h", hidden=True))
                b.expose(calls.append, as_="m", name="note")
                assert await a.connect("b@h")
                assert await c.connect("b@h")
                await asyncio.sleep(10)
                assert a.global_.known() == ["b@h"]
                cluster = Cluster(a, b, c, calls, caplog)
                assert cluster.refused() == 0
                await test(cluster, *arguments, **options)

        run(main())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


@with_forger
async def test_a_member_cannot_change_the_groups_of_another_node(cluster):
    a, b, c = cluster.a, cluster.b, cluster.c
    member, server = a.spawn(idle), cluster.pid(a, "pg")
    a.pg.join("group", member)
    await run_iterations()
    other = Pid(A, 9999, 0, member.creation)
    messages = [
        (Atom("join"), server, b"group", other),
        (Atom("leave"), server, member, [b"group"]),
        (GEN_CAST, (Atom("sync"), server, [(b"group", [other])])),
        (Atom("discover"), Pid(A, 9998, 0, server.creation)),
        (NODEDOWN, A),
    ]

    for message in messages:
        await cluster.send(c, PG, message)

    assert b.pg.get_members("group") == [member]
    assert cluster.refused() == len(messages)
    await cluster.send(a, PG, messages[0])
    assert b.pg.get_members("group") == [other, member]
    assert cluster.refused() == 0


@with_forger
async def test_a_member_cannot_report_the_end_of_a_member_of_a_group(cluster):
    member = cluster.a.spawn(idle)
    cluster.a.pg.join("group", member)
    await run_iterations()
    server = cluster.pid(cluster.a, "pg")
    ref = cluster.b.pg._server._monitor_refs[server]

    await cluster.send(cluster.c, PG, (DOWN, ref, PROCESS, server, X))

    assert cluster.b.pg.get_members("group") == [member]
    assert cluster.refused() == 1


@with_forger
async def test_a_member_cannot_make_a_node_connect_by_a_nodeup(cluster):
    await cluster.send(cluster.c, PG, (NODEUP, Atom("nobody@h")))

    assert cluster.b.internals.last_connect_error("nobody@h") is None
    assert cluster.refused() == 1


@with_forger
async def test_a_member_cannot_add_groups_of_pg2_in_the_name_of_another_node(cluster):
    message = (GEN_CAST, (Atom("exchange"), A, [[X, []]]))

    await cluster.send(cluster.c, PG2, message)
    assert cluster.b.pg2.which_groups() == []
    assert cluster.refused() == 1

    await cluster.send(cluster.a, PG2, message)
    assert cluster.b.pg2.which_groups() == [X]


@pytest.mark.parametrize("owner", ["a", "b"])
def test_a_member_cannot_take_a_lock_in_the_name_of_another_process(owner, caplog):
    """With a pid of the node itself as the caller, the lock would be held for as long as that process lives."""

    @with_forger
    async def test(cluster):
        caller = getattr(cluster, owner).spawn(idle)
        locks = cluster.b.global_._server.locks
        message = (GEN_CALL, (caller, Ref(C, 1, (1, 2, 3))), (Atom("set_lock"), (X, X)))

        await cluster.send(cluster.c, GLOBAL, message)
        assert not locks.is_set(X)
        assert cluster.refused() == 1

        await cluster.send(cluster.a if owner == "a" else cluster.b, GLOBAL, message)
        assert locks.is_set(X)

    test(caplog)


@with_forger
async def test_a_member_cannot_release_the_lock_of_another_process(cluster):
    caller = cluster.a.spawn(idle)
    tag = Ref(A, 1, (1, 2, 3))
    await cluster.send(cluster.a, GLOBAL, (GEN_CALL, (caller, tag), (Atom("set_lock"), (X, X))))

    await cluster.send(cluster.c, GLOBAL, (GEN_CALL, (caller, tag), (Atom("del_lock"), (X, X))))

    assert cluster.b.global_._server.locks.is_set(X)
    assert cluster.refused() == 1


@pytest.mark.parametrize(
    "message",
    [
        (NODEDOWN, A),
        (Atom("extra_nodedown"), A),
        (Atom("recheck"), A),
        (Atom("remove_connection"), A),
        (Atom("cancel_connect"), A, 1),
        (Atom("init_connect_ack"), A, 1, 2),
        (GEN_CAST, (Atom("init_connect"), (8, 1), A, (Atom("locker"), Atom("no_longer_a_pid"), [], X))),
        (GEN_CAST, (Atom("in_sync"), A, True)),
        (GEN_CAST, (Atom("exchange"), A, [], [], 1)),
        (GEN_CAST, (Atom("exchange_ops"), A, 1, [], [])),
        (GEN_CAST, (Atom("resolved"), A, [], [], [], [], 1)),
        (GEN_CAST, (Atom("lock_is_set"), A, 1, (X, X))),
        (GEN_CAST, (Atom("new_nodes"), A, [], [], [Atom("nobody@h")], X)),
        (GEN_CAST, (Atom("lock_set"), Pid(A, 1, 0, 1), True, [])),
        (Atom("whereis"), X, (Pid(A, 1, 0, 1), X)),
        (GEN_CALL, (Pid(A, 1, 0, 1), X), (Atom("register"), X, Pid(A, 1, 0, 1), X)),
    ],
    ids=lambda message: message[1][0].name if message[0] is GEN_CAST else message[0].name,
)
def test_a_member_cannot_speak_for_another_node_in_global(message, caplog):
    @with_forger
    async def test(cluster):
        await cluster.send(cluster.c, GLOBAL, message)

        assert cluster.refused() == 1
        assert cluster.b.global_.known() == ["a@h"]
        assert cluster.b.nodes() == ["a@h"]
        assert cluster.b.global_.whereis(X) is None

    test(caplog)


@with_forger
async def test_a_loss_is_reported_by_others_too(cluster):
    """Servers pass these reports on in the name of the node that lost the connection (global.erl)."""
    await cluster.send(cluster.c, GLOBAL, (Atom("lost_connection"), Atom("d@h"), 1, 1, A))
    await asyncio.sleep(1)

    assert cluster.refused() == 0
    assert cluster.b.nodes() == []


@with_forger
async def test_a_member_cannot_call_functions_in_the_name_of_another_node(cluster):
    pid = cluster.a.spawn(idle)
    call = (Atom("call"), Atom("m"), Atom("note"), [1], Atom("user"))

    await cluster.send(cluster.c, REX, (GEN_CALL, (pid, Ref(A, 1, (1, 2, 3))), call))
    await cluster.send(cluster.c, REX, (pid, call))
    await cluster.send(cluster.c, REX, (pid, Atom("features_request")))
    assert cluster.calls == []
    assert cluster.refused() == 3

    await cluster.send(cluster.a, REX, (pid, call))
    assert cluster.calls == [1]


@with_forger
async def test_net_kernel_does_not_answer_a_call_of_another_node(cluster):
    received = []
    caller = cluster.a.internals.spawn_handler(received.append)
    message = (GEN_CALL, (caller.pid, Ref(A, 1, (1, 2, 3))), (Atom("is_auth"), A))

    await cluster.send(cluster.c, NET_KERNEL, message)
    assert received == []
    assert cluster.refused() == 1

    await cluster.send(cluster.a, NET_KERNEL, message)
    assert len(received) == 1


@with_forger
async def test_a_node_speaks_for_itself_when_it_closes_or_is_blocked(cluster):
    a, b, c = cluster.a, cluster.b, cluster.c
    await cluster.send(c, ERLMESH, (Atom("loop_blocked"), A, 2000))
    await cluster.send(c, ERLMESH, (Atom("closing"), A))
    assert b.blocked_peers() == {}
    assert cluster.refused() == 2

    await cluster.send(a, ERLMESH, (Atom("loop_blocked"), A, 2000))
    assert b.blocked_peers() == {"a@h": 2.0}
    await cluster.send(c, ERLMESH, (Atom("loop_recovered"), A))
    assert list(b.blocked_peers()) == ["a@h"]


@with_forger
async def test_a_node_reconnects_although_another_says_that_the_peer_closes(cluster):
    a, b, c = cluster.a, cluster.b, cluster.c
    await cluster.send(c, ERLMESH, (Atom("closing"), A))

    a.internals.disconnect_and_reconnect("b@h")
    await asyncio.sleep(120)

    assert b.nodes() == ["a@h"]


@with_forger
async def test_messages_held_while_a_service_is_suspended_keep_their_sender(cluster):
    server = cluster.pid(cluster.a, "pg")
    other = Pid(A, 9999, 0, server.creation)
    tag = Ref(C, 1, (1, 2, 3))
    control = cluster.c.spawn_handler(lambda _: None).pid

    for name in (PG, PG2):
        await cluster.send(cluster.c, name, (Atom("system"), (control, tag), Atom("suspend")))
    await cluster.send(cluster.c, PG, (Atom("join"), server, b"group", other))
    await cluster.send(cluster.c, PG2, (GEN_CAST, (Atom("exchange"), A, [[X, []]])))
    await cluster.send(cluster.a, PG, (Atom("join"), server, b"honest", other))
    assert cluster.refused() == 0
    for name in (PG, PG2):
        await cluster.send(cluster.c, name, (Atom("system"), (control, tag), Atom("resume")))

    assert cluster.b.pg.which_groups() == [b"honest"]
    assert cluster.b.pg2.which_groups() == []
    assert cluster.refused() == 2


async def idle(me):
    async for _ in me:
        pass
