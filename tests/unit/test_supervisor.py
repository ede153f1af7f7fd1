"""Supervisors of Python processes, on an event loop with virtual time."""

import asyncio

import pytest
from test_gen_server_class import Counter, with_node

from erlmesh import Atom, ChildSpec, DynamicSupervisor, Exit, Map, ProcessStartError, Supervisor
from erlmesh.behaviours.child_requests import BadChildSpec, modules_term, parse_child_spec
from erlmesh.testing.loop import run_iterations

NORMAL, SHUTDOWN, KILL, BOOM, ERROR, OK = map(Atom, ("normal", "shutdown", "kill", "boom", "error", "ok"))


class Log(list):
    """What the children did: ``+a`` for a start and ``-a`` for an end in order."""

    def take(self):
        taken = " ".join(self)
        self.clear()
        return taken


def child(log, name, **options):
    """A child that ends in order when its supervisor wants it."""

    async def body(me):
        me.trap_exit = True
        log.append(f"+{name}")
        async for message in me:
            match message:
                case (Atom("EXIT"), _, reason):
                    log.append(f"-{name}")
                    raise Exit(reason)
                case (Atom("end"), reason):
                    raise Exit(reason)

    return ChildSpec.process(body, id=Atom(name), **options)


async def crash(node, supervisor, name, reason=BOOM):
    pids = await Supervisor.which_children(node, supervisor)
    node.send(pids[Atom(name)], (Atom("end"), reason))
    await run_iterations(60)


def reasons_of(node, *pids):
    got = []
    watcher = node.spawn_handler(lambda message: got.append(message[4]))
    for pid in pids:
        watcher.monitor(pid)
    return got


@with_node
async def test_children_start_in_order_and_stop_in_reverse_order(node):
    log = Log()

    async with Supervisor.running(node, [child(log, name) for name in "abc"]):
        await run_iterations()
        assert log.take() == "+a +b +c"

    assert log.take() == "-c -b -a"
    assert [pid for pid in node.internals.processes() if pid.id >= 64] == []


@pytest.mark.parametrize(
    ("strategy", "seen"),
    [("one_for_one", "+b"), ("rest_for_one", "-c +b +c"), ("one_for_all", "-c -a +a +b +c")],
)
def test_strategy_decides_which_children_start_again(strategy, seen):
    @with_node
    async def test(node):
        log = Log()
        async with Supervisor.running(node, [child(log, name) for name in "abc"], strategy=strategy) as supervisor:
            await run_iterations()
            log.take()

            await crash(node, supervisor, "b")

            assert log.take() == seen

    test()


@pytest.mark.parametrize(
    ("restart", "reason", "again"),
    [
        ("permanent", NORMAL, True),
        ("permanent", BOOM, True),
        ("transient", NORMAL, False),
        ("transient", SHUTDOWN, False),
        ("transient", (SHUTDOWN, 1), False),
        ("transient", BOOM, True),
        ("temporary", NORMAL, False),
        ("temporary", BOOM, False),
    ],
)
def test_restart_type_decides_whether_a_child_starts_again(restart, reason, again):
    @with_node
    async def test(node):
        log = Log()
        async with Supervisor.running(node, [child(log, "a", restart=restart)]) as supervisor:
            await run_iterations()
            log.take()

            await crash(node, supervisor, "a", reason)

            children = await Supervisor.which_children(node, supervisor)
            assert log.take() == ("+a" if again else "")
            assert list(children) == ([] if restart == "temporary" else [Atom("a")])
            assert (children.get(Atom("a")) is not None) is again

    test()


@with_node
async def test_too_many_restarts_end_the_supervisor_and_cancel_the_block(node):
    log = Log()

    async def block():
        specs = [child(log, "a"), child(log, "b")]
        async with Supervisor.running(node, specs, max_restarts=2, max_seconds=5) as supervisor:
            for _ in range(3):
                await crash(node, supervisor, "a")
            await asyncio.sleep(1000)

    with pytest.raises(Exit) as raised:
        await block()

    assert raised.value.reason is SHUTDOWN
    assert log.take() == "+a +b +a +a -b"


@with_node
async def test_restarts_that_are_far_apart_do_not_end_the_supervisor(node):
    log = Log()
    async with Supervisor.running(node, [child(log, "a")], max_restarts=2, max_seconds=5) as supervisor:
        for _ in range(10):
            await crash(node, supervisor, "a")
            await asyncio.sleep(3.1)

        assert node.internals.is_alive(supervisor)


@with_node
async def test_child_that_does_not_end_is_killed_after_its_time(node):
    async def stubborn(me):
        me.trap_exit = True
        async for _ in me:
            pass

    spec = ChildSpec.process(stubborn, id="stubborn", shutdown=3.0)
    began = asyncio.get_running_loop().time()
    async with Supervisor.running(node, [spec]) as supervisor:
        (pid,) = (await Supervisor.which_children(node, supervisor)).values()
        reasons = reasons_of(node, pid)
        await run_iterations()

    assert asyncio.get_running_loop().time() - began == pytest.approx(3, abs=0.1)
    assert reasons == [Atom("killed")]


@with_node
async def test_failed_start_stops_the_children_before_and_names_the_child(node):
    log = Log()

    class Failing(Counter):
        def init(self):
            raise Exit(BOOM)

    specs = [child(log, "a"), child(log, "b"), ChildSpec.server(Failing, id=Atom("c")), child(log, "d")]
    with pytest.raises(ProcessStartError) as raised:
        await Supervisor.start(node, specs)

    assert raised.value.reason == (SHUTDOWN, (Atom("failed_to_start_child"), Atom("c"), BOOM))
    assert log.take() == "+a +b -b -a"


@with_node
async def test_restart_that_fails_is_tried_again_and_counts(node):
    starts = []

    class Fragile(Counter):
        def init(self):
            starts.append(1)
            if len(starts) > 1:
                raise Exit(BOOM)
            super().init()

    supervisor = await Supervisor.start(node, [ChildSpec.server(Fragile, id=Atom("c"))], max_restarts=4)
    reasons = reasons_of(node, supervisor)
    (pid,) = (await Supervisor.which_children(node, supervisor)).values()

    node.exit(pid, KILL)
    await run_iterations(200)

    assert len(starts) == 1 + 4
    assert reasons == [SHUTDOWN]


@with_node
async def test_children_end_with_a_supervisor_that_is_killed(node):
    log = Log()
    supervisor = await Supervisor.start(node, [child(log, "a")])
    (pid,) = (await Supervisor.which_children(node, supervisor)).values()
    reasons = reasons_of(node, pid)
    await run_iterations()

    node.exit(supervisor, KILL)
    await run_iterations()

    assert reasons == [Atom("killed")]


@with_node
async def test_children_can_be_added_stopped_and_started_again(node):
    log = Log()
    async with Supervisor.running(node) as supervisor:
        pid = await Supervisor.start_child(node, supervisor, child(log, "a"))

        with pytest.raises(ProcessStartError) as raised:
            await Supervisor.start_child(node, supervisor, child(log, "a"))
        assert raised.value.reason == (Atom("already_started"), pid)
        assert await Supervisor.terminate_child(node, supervisor, Atom("a"))
        assert not await Supervisor.terminate_child(node, supervisor, Atom("b"))
        assert await Supervisor.which_children(node, supervisor) == {Atom("a"): None}
        assert (await node.call(supervisor, (Atom("restart_child"), Atom("a"))))[0] is OK
        assert await node.call(supervisor, (Atom("delete_child"), Atom("a"))) == (ERROR, Atom("running"))
        assert await node.call(supervisor, (Atom("what"),)) == (ERROR, (Atom("unknown_call"), (Atom("what"),)))


@with_node
async def test_dynamic_children_have_no_id_and_a_bound(node):
    log = Log()
    async with DynamicSupervisor.running(node, max_children=2) as supervisor:
        pids = [await DynamicSupervisor.start_child(node, supervisor, child(log, name)) for name in "ab"]

        with pytest.raises(ProcessStartError) as raised:
            await DynamicSupervisor.start_child(node, supervisor, child(log, "c"))

        assert raised.value.reason is Atom("max_children")
        assert set(await DynamicSupervisor.which_children(node, supervisor)) == set(pids)
        assert await DynamicSupervisor.terminate_child(node, supervisor, pids[0])
        assert set(await DynamicSupervisor.which_children(node, supervisor)) == {pids[1]}


@with_node
async def test_system_messages_show_the_children(node):
    got = []
    supervisor = await Supervisor.start(node, [child(Log(), "a")])
    asker = node.spawn_handler(got.append)

    asker.send(supervisor, (Atom("system"), (asker.pid, 1), Atom("get_state")))
    await run_iterations()

    assert got[0][1][0] is OK
    assert [each[0] for each in got[0][1][1]] == [Atom("a")]


@pytest.mark.parametrize("wrong", [{"restart": "often"}, {"shutdown": -1}, {"shutdown": "soon"}])
def test_wrong_specification_raises(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ChildSpec("a", lambda _: None, **wrong)


@with_node
async def test_wrong_strategy_raises(node):
    with pytest.raises(ProcessStartError, match="strategy"):
        await Supervisor.start(node, strategy="one_for_some")


async def idle(me):
    async for _ in me:
        pass


async def returns_nothing(me):
    return None


async def awaits_what_is_cancelled(me):
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize("start", [returns_nothing, awaits_what_is_cancelled])
def test_a_wrong_start_function_is_no_fault_of_the_supervisor(start):
    @with_node
    async def test(node):
        async with Supervisor.running(node, [child(Log(), "a")]) as supervisor:
            with pytest.raises(ProcessStartError):
                await Supervisor.start_child(node, supervisor, ChildSpec(Atom("b"), start))

            assert list(await Supervisor.which_children(node, supervisor)) == [Atom("a")]

    test()


@with_node
async def test_a_process_with_a_taken_name_is_already_started(node):
    async with Supervisor.running(node, [ChildSpec.process(idle, name="taken")]) as supervisor:
        with pytest.raises(ProcessStartError) as raised:
            await Supervisor.start_child(node, supervisor, ChildSpec.process(idle, id=Atom("other"), name="taken"))

        assert raised.value.reason == (Atom("already_started"), node.whereis("taken"))


@with_node
async def test_a_block_that_ends_with_its_supervisor_leaves_no_cancellation(node):
    with pytest.raises(Exit) as raised:
        async with Supervisor.running(node, [child(Log(), "a")]) as supervisor:
            node.exit(supervisor, KILL)

    await run_iterations()
    assert raised.value.reason is Atom("killed")
    assert asyncio.current_task().cancelling() == 0


async def fail_after_cancellation(node):
    async with Supervisor.running(node, [child(Log(), "a")]) as supervisor:
        node.exit(supervisor, KILL)
        try:
            await asyncio.sleep(1000)
        finally:
            raise ValueError("in the clean-up")


@with_node
async def test_an_exception_of_a_cancelled_block_leaves_no_cancellation(node):
    with pytest.raises(ValueError, match="in the clean-up"):
        await fail_after_cancellation(node)

    assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize(("restart", "reason", "lines"), [("transient", BOOM, 1), ("transient", NORMAL, 0)])
def test_a_child_that_ends_otherwise_when_stopped_is_a_line_in_the_log(restart, reason, lines, caplog):
    @with_node
    async def test(node):
        async def body(me):
            me.trap_exit = True
            await me.receive()
            raise Exit(reason)

        async with Supervisor.running(node, [ChildSpec.process(body, restart=restart)]):
            await run_iterations()

    test()
    assert sum("when stopped" in each.getMessage() for each in caplog.records) == lines


MFA = (Atom("m"), Atom("f"), [])


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("modules", 5, (Atom("invalid_modules"), 5)),
        ("modules", [5], (Atom("invalid_module"), 5)),
        ("significant", 5, (Atom("invalid_significant"), 5)),
        (
            "significant",
            True,
            (Atom("bad_combination"), [(Atom("auto_shutdown"), Atom("never")), (Atom("significant"), True)]),
        ),
    ],
)
def test_a_child_specification_is_refused_with_the_reason_of_otp(field, value, reason):
    with pytest.raises(BadChildSpec) as raised:
        parse_child_spec(Map({Atom("id"): 1, Atom("start"): MFA, Atom(field): value}))

    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "shown"),
    [({}, [Atom("m")]), ({Atom("modules"): Atom("dynamic")}, Atom("dynamic")), ({Atom("modules"): []}, [])],
)
def test_the_modules_of_a_child_are_shown_as_otp_does(fields, shown):
    spec = parse_child_spec(Map({Atom("id"): 1, Atom("start"): MFA, **fields}))

    assert modules_term(spec) == shown


async def _ignore(me):
    return Atom("ignore")


@with_node
async def test_an_ignored_child_stays_without_a_process_unless_it_is_temporary(node):
    log = Log()
    children = [ChildSpec("kept", _ignore), ChildSpec("gone", _ignore, restart="temporary"), child(log, "a")]

    async with Supervisor.running(node, children) as supervisor:
        assert (await Supervisor.which_children(node, supervisor)).keys() == {Atom("a"), "kept"}
        with pytest.raises(ProcessStartError, match="returned ignore") as caught:
            await Supervisor.start_child(node, supervisor, ChildSpec("later", _ignore))
        assert caught.value.reason == Atom("ignore")
        found = await Supervisor.which_children(node, supervisor)
        assert (found["later"], found["kept"]) == (None, None)
        assert await node.call(supervisor, (Atom("restart_child"), "kept")) == (OK, Atom("undefined"))
        assert await node.call(supervisor, (Atom("delete_child"), "kept")) == OK


@with_node
async def test_a_dynamic_supervisor_forgets_an_ignored_child(node):
    async with DynamicSupervisor.running(node) as supervisor:
        with pytest.raises(ProcessStartError, match="returned ignore"):
            await Supervisor.start_child(node, supervisor, ChildSpec("x", _ignore))

        assert await Supervisor.which_children(node, supervisor) == {}


@with_node
async def test_a_start_function_may_return_ok_pid_info(node):
    async def start(me):
        return (OK, me.spawn(lambda _: asyncio.sleep(3600), link=True), Atom("info"))

    async with Supervisor.running(node) as supervisor:
        reply = await node.call(supervisor, (Atom("start_child"), ChildSpec("x", start)))
        assert reply[0] is OK
        assert reply[2] is Atom("info")
        assert reply[1] == (await Supervisor.which_children(node, supervisor))["x"]
        one = await node.call(supervisor, (Atom("which_child"), "x"))
        assert one == (OK, ("x", reply[1], Atom("worker"), []))
