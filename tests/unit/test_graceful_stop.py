"""A node that stops in order, in simulated clusters: what ends when, and what its callers get."""

import asyncio
import inspect
import logging
from functools import partial

import pytest

from erlmesh import (
    NO_REPLY,
    Atom,
    CallError,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    GenServer,
    NoConnection,
    NodeNotAlive,
    Supervisor,
)
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

EXIT, SHUTDOWN, KILLED, GO = map(Atom, ("EXIT", "shutdown", "killed", "go"))


def simulated(test):
    """Run ``test(cluster, a, b)`` with two connected nodes. Other parameters are those of pytest."""
    signature = inspect.signature(test)

    def wrapper(**arguments):
        async def main():
            async with Cluster(7) as cluster:
                await test(cluster, *await cluster.mesh(2), **arguments)

        run(main)

    wrapper.__name__ = test.__name__
    wrapper.__signature__ = signature.replace(parameters=list(signature.parameters.values())[3:])
    return wrapper


def reasons_of(node, *pids):
    """A list that gets the exit reason of each process."""
    got = []
    watcher = node.spawn_handler(lambda message: got.append(message[4]))
    for pid in pids:
        watcher.monitor(pid)
    return got


def stop(cluster, node, **options):
    """Start to stop the node on its machine. Return the task."""
    return asyncio.create_task(cluster.run_on(node, partial(node.stop, **options)))


def now():
    return asyncio.get_running_loop().time()


class Batches(GenServer):
    """Collects calls, and answers them all after two seconds."""

    def init(self):
        self.waiting = []

    async def handle_call(self, request, caller):
        self.waiting.append((caller, request))
        if len(self.waiting) == 1:
            self.me.send_after(2, GO)
        return NO_REPLY

    def handle_info(self, message):
        for caller, request in self.waiting:
            self.reply(caller, request * 2)
        self.waiting = []


async def asker(me, to, request, answers):
    answers.append(await me.call(to, request, timeout=None))


# What a process gets


@simulated
async def test_a_process_that_traps_exits_is_told_and_may_receive_send_and_call(cluster, a, b):
    log = []

    async def echo(me):
        async for message in me:
            match message:
                case (Atom("$gen_call"), caller, request):
                    me.reply(caller, request)
                case (Atom("receipt?"), pid):
                    await me.sleep(1)
                    me.send(pid, Atom("receipt"))

    other = b.spawn(echo)

    async def body(me):
        me.trap_exit = True
        log.append(await me.receive())
        log.append(await me.call(other, 7))
        me.send(other, (Atom("receipt?"), me.pid))
        log.append(await me.receive(timeout=5))

    pid = a.spawn(body)
    reasons = reasons_of(b, pid)
    await cluster.sleep(1)
    sender = a.internals.pid

    await stop(cluster, a)

    assert log == [(EXIT, sender, SHUTDOWN), 7, Atom("receipt")]
    await cluster.wait_until(lambda: reasons == [Atom("normal")])


@simulated
async def test_a_process_that_does_not_trap_exits_ends_at_once_and_its_cleanup_is_awaited(cluster, a, b):
    log = []

    async def body(me):
        try:
            await me.receive()
        finally:
            await asyncio.sleep(3)
            log.append("clean")

    reasons = reasons_of(b, a.spawn(body))
    await cluster.sleep(1)

    stopping = stop(cluster, a)

    await cluster.wait_until(lambda: reasons == [SHUTDOWN], timeout=1)
    await stopping
    assert log == ["clean"]


@simulated
async def test_a_process_that_never_ends_costs_the_grace_and_one_line(cluster, a, b, caplog):
    async def body(me):
        me.trap_exit = True
        async for _ in me:
            pass

    pid = a.spawn(body)
    reasons, label = reasons_of(b, pid), a.internals.local_process(pid).label
    await cluster.sleep(1)
    before = now()

    with caplog.at_level(logging.WARNING, "erlmesh"):
        await stop(cluster, a, grace=5)

    assert 5 <= now() - before < 6
    lines = [each.getMessage() for each in caplog.records if "did not end in time" in each.getMessage()]
    assert len(lines) == 1
    assert label in lines[0]
    await cluster.wait_until(lambda: reasons == [KILLED])


@simulated
async def test_a_node_without_work_stops_without_a_pause(cluster, a, b):
    async def listener(me):
        await me.receive()

    a.spawn(listener)
    before = now()

    await stop(cluster, a)

    assert now() - before < 0.2


@simulated
async def test_without_grace_a_process_that_traps_exits_is_terminated_at_once(cluster, a, b):
    log = []

    async def body(me):
        me.trap_exit = True
        try:
            await me.receive()
        finally:
            log.append(me.exit_reason)

    a.spawn(body)
    await cluster.sleep(1)
    before = now()

    await stop(cluster, a, grace=0)

    assert log == [SHUTDOWN]
    assert now() - before < 0.5


@simulated
async def test_a_second_stop_shortens_the_time_of_the_first(cluster, a, b):
    async def body(me):
        me.trap_exit = True
        while True:
            await me.receive()

    a.spawn(body)
    before = now()
    first = stop(cluster, a, grace=60)
    await cluster.sleep(1)

    await stop(cluster, a, grace=1)

    assert 2 <= now() - before < 3
    await first


@simulated
async def test_a_process_that_stops_its_node_is_not_waited_for(cluster, a, b):
    log = []

    async def first(me):
        await me.node.stop()
        log.append("first")

    async def second(me):
        me.trap_exit = True
        await me.receive()
        await me.node.stop()
        log.append("second")

    a.spawn(first)
    a.spawn(second)
    before = now()

    await cluster.wait_until(lambda: sorted(log) == ["first", "second"])

    assert now() - before < 2


@simulated
async def test_a_cancelled_stop_ends_the_node_all_the_same(cluster, a, b):
    async def body(me):
        me.trap_exit = True
        while True:
            await me.receive()

    a.spawn(body)

    async def stop_for_a_moment():
        async with asyncio.timeout(1):
            await a.stop()

    with pytest.raises(TimeoutError):
        await cluster.run_on(a, stop_for_a_moment)

    await cluster.wait_until(lambda: b.nodes() == [], timeout=2)
    with pytest.raises(NodeNotAlive):
        a.spawn(body)


@simulated
async def test_a_process_started_meanwhile_is_told_when_its_parent_has_ended(cluster, a, b):
    log = []

    async def helper(me):
        me.trap_exit = True
        log.append((await me.receive())[0])
        log.append((await me.receive())[0])

    async def parent(me):
        me.trap_exit = True
        await me.receive()
        pid = me.spawn(helper)
        await me.sleep(1)
        me.send(pid, (Atom("work"),))
        await me.sleep(1)

    a.spawn(parent)
    await cluster.sleep(1)

    await stop(cluster, a)

    assert log == [Atom("work"), EXIT]


# Groups and new work


@simulated
async def test_the_groups_are_left_before_any_process_is_told(cluster, a, b):
    log = []

    async def member(me):
        me.trap_exit = True
        me.node.pg.join("workers", me.pid)
        await me.node.pg2.create("old")
        await me.node.pg2.join("old", me.pid)
        await me.receive()
        log.append((b.pg.get_members("workers"), b.pg2.get_members("old"), len(b.nodes())))
        me.node.pg.join("workers", me.pid)
        assert me.node.pg.get_members("workers") == []

    scope = a.pg.start_scope("mine")
    b.pg.start_scope("mine")
    pid = a.spawn(member)
    scope.join("workers", pid)
    await cluster.wait_until(lambda: b.pg.get_members("workers") and len(b.pg2.get_members("old")) == 1)
    await cluster.wait_until(lambda: b.pg.find_scope("mine").get_members("workers") == [pid])

    await stop(cluster, a)

    assert log == [([], [], 1)]


@simulated
async def test_new_work_is_refused_while_the_node_stops_and_calls_to_living_processes_are_served(cluster, a, b):
    async def server(me):
        me.trap_exit = True
        me.register("server")
        async for message in me:
            match message:
                case (Atom("$gen_call"), caller, Atom("end")):
                    me.reply(caller, 0)
                    return
                case (Atom("$gen_call"), caller, request):
                    me.reply(caller, request)

    a.expose(lambda: 1, as_="m", name="f", inline=True)
    a.spawn(server)
    (c,) = await cluster.start("c")
    await cluster.sleep(1)
    assert await b.rpc(a.name, "m", "f", []) == 1

    stopping = stop(cluster, a)
    await cluster.sleep(1)

    with pytest.raises(NoConnection):
        await b.rpc(a.name, "m", "f", [])
    with pytest.raises(NoConnection):
        await b.spawn_remote(a.name, "m", "f")
    old = (Atom("call"), Atom("m"), Atom("f"), [], Atom("user"))
    assert await b.call((Atom("rex"), a.name), old) == (Atom("badrpc"), Atom("nodedown"))
    assert not await c.connect(a.name)
    assert await b.call(("server", a.name), 7) == 7
    assert b.nodes() == [a.name]
    assert await b.call(("server", a.name), Atom("end")) == 0
    await stopping


# Work in flight


@simulated
async def test_a_call_of_an_exposed_function_in_flight_is_answered(cluster, a, b):
    async def slow(number):
        await asyncio.sleep(2)
        return number * 2

    a.expose(slow, as_="m", name="slow")
    calls = [asyncio.create_task(cluster.run_on(b, partial(b.rpc, a.name, "m", "slow", [n]))) for n in range(8)]
    request = (Atom("call"), Atom("m"), Atom("slow"), [100], Atom("user"))
    old = asyncio.create_task(cluster.run_on(b, partial(b.call, (Atom("rex"), a.name), request)))
    await cluster.sleep(1)

    await stop(cluster, a)

    assert await asyncio.gather(*calls, old) == [*range(0, 16, 2), 200]


@pytest.mark.parametrize("supervised", [False, True])
@simulated
async def test_callers_with_a_promised_reply_get_it(cluster, a, b, supervised):
    answers = []
    if supervised:
        await Supervisor.start(a, [ChildSpec.server(Batches, name="batches")])
    else:
        await Batches.start(a, name="batches")
    for number in range(8):
        b.spawn(asker, ("batches", a.name), number, answers)
    await cluster.sleep(1)

    await stop(cluster, a)

    await cluster.wait_until(lambda: answers == list(range(0, 16, 2)), timeout=1)


@simulated
async def test_calls_on_their_way_and_in_the_mailbox_are_answered(cluster, a, b):
    class Slow(GenServer):
        async def handle_call(self, request, caller):
            await asyncio.sleep(0.5)
            return request * 2

    answers = []
    await Slow.start(a, name="slow")
    for number in range(8):
        b.spawn(asker, ("slow", a.name), number, answers)

    await stop(cluster, a)

    await cluster.wait_until(lambda: answers == list(range(0, 16, 2)), timeout=1)


@simulated
async def test_work_beside_the_loop_of_a_server_finishes(cluster, a, b):
    class Worker(GenServer):
        def handle_call(self, request, caller):
            return self.reply_with(caller, self.work(request))

        async def work(self, request):
            await asyncio.sleep(request)
            return request

    answers = []
    await Worker.start(a, name="worker")
    for number in (3, 1, 2):
        b.spawn(asker, ("worker", a.name), number, answers)
    await cluster.sleep(0.5)

    await stop(cluster, a)

    await cluster.wait_until(lambda: answers == [1, 2, 3], timeout=1)


@simulated
async def test_a_caller_that_gives_up_does_not_hold_the_node(cluster, a, b):
    class Silent(GenServer):
        def handle_call(self, request, caller):
            return NO_REPLY

    async def impatient(me):
        with pytest.raises(CallError):
            await me.call(("silent", a.name), 1, timeout=2)

    pid = await Silent.start(a, name="silent")
    reasons = reasons_of(b, pid)
    b.spawn(impatient)
    await cluster.sleep(0.5)
    before = now()

    await stop(cluster, a)

    assert 1 < now() - before < 2
    await cluster.wait_until(lambda: reasons == [SHUTDOWN])


@pytest.mark.parametrize("traps", [True, False])
@simulated
async def test_terminate_runs_if_the_server_traps_exits(cluster, a, b, traps):
    log = []

    class Server(GenServer):
        def init(self):
            self.me.trap_exit = traps

        def handle_info(self, message):
            log.append(message)

        async def terminate(self, reason):
            log.append(await self.me.call(other, 1))

    async def echo(me):
        _, caller, request = await me.receive()
        me.reply(caller, request)

    other = b.spawn(echo)
    pid = await Server.start(a)
    reasons = reasons_of(b, pid)
    await cluster.sleep(1)

    await stop(cluster, a)

    assert log == ([1] if traps else [])
    await cluster.sleep(1)
    assert reasons == [SHUTDOWN]


# Supervisors


def child(log, name, seconds=0.0):
    async def body(me):
        me.trap_exit = True
        message = await me.receive()
        await me.sleep(seconds)
        log.append((name, message[1]))
        raise Exit(message[2])

    return ChildSpec.process(body, id=Atom(name))


@simulated
async def test_a_supervisor_stops_its_children_in_order_and_the_node_tells_only_the_supervisor(cluster, a, b):
    log = []
    inner = ChildSpec(
        Atom("inner"),
        start=lambda me: Supervisor.start_link(me, [child(log, "x", 0.5), child(log, "y")]),
        type="supervisor",
        shutdown=None,
    )
    top = await Supervisor.start(a, [child(log, "a"), inner, child(log, "c", 1)])
    await cluster.sleep(1)
    inner_pid = (await Supervisor.which_children(a, top))[Atom("inner")]

    await stop(cluster, a)

    assert log == [("c", top), ("y", inner_pid), ("x", inner_pid), ("a", top)]


@simulated
async def test_a_supervisor_that_is_stopped_twice_stops_its_children_in_order(cluster, a, b):
    """The node tells the supervisor, and so does the process that has started it."""
    log = []

    async def main(me):
        async with Supervisor.running(me.node, [child(log, "a"), child(log, "b"), child(log, "c", 1)]):
            await me.receive()

    a.spawn(main)
    await cluster.sleep(1)

    await stop(cluster, a)

    assert [name for name, _ in log] == ["c", "b", "a"]
    assert len({pid for _, pid in log}) == 1


@simulated
async def test_a_process_that_a_child_has_started_is_told_when_its_supervisor_has_ended(cluster, a, b):
    log = []

    async def helper(me):
        me.trap_exit = True
        log.append((await me.receive())[1])

    async def worker(me):
        me.spawn(helper)
        me.trap_exit = True
        await me.receive()
        await me.sleep(1)
        log.append("worker")

    await Supervisor.start(a, [ChildSpec.process(worker)])
    await cluster.sleep(1)
    sender = a.internals.pid

    await stop(cluster, a)

    assert log == ["worker", sender]


@simulated
async def test_a_task_under_a_supervisor_finishes(cluster, a, b):
    done = []

    async def work(number):
        await asyncio.sleep(2)
        done.append(number)
        return number

    a.expose(work, as_="m", name="work")
    supervisor = await DynamicSupervisor.start(a, name="tasks")

    async def owner(me):
        request = (
            Atom("start_task"),
            [(Atom("owner"), b.name.encode(), me.pid), Atom("monitor")],
            Atom("temporary"),
            5000,
        )
        _, pid = await me.call(("tasks", a.name), request)
        ref = me.monitor(pid)
        me.send(pid, (me.pid, ref, me.pid, [], (Atom("m"), Atom("work"), [7])))
        done.append(await me.receive(lambda message: message[0] == ref))

    assert supervisor is not None
    b.spawn(owner)
    await cluster.sleep(1)

    await stop(cluster, a)

    assert done[0] == 7


@simulated
async def test_a_grace_that_is_no_time_is_refused(cluster, a, b):
    for grace in (-1, float("nan")):
        with pytest.raises(ValueError, match="grace is a number of seconds"):
            await a.stop(grace=grace)
