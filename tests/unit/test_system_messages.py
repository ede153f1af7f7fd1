"""What local processes answer to ``sys`` and to ``GenServer.stop``, on an event loop with virtual time."""

import asyncio

import pytest
from test_process import with_node

from erlmesh.core.gen import is_system_message
from erlmesh.core.system_messages import SystemState, answer_request
from erlmesh.runtime.system_messages import PlainCallbacks
from erlmesh.terms import Atom, Pid, Ref
from erlmesh.testing.loop import run_iterations

OK, ERROR, NORMAL, SYSTEM = map(Atom, ("ok", "error", "normal", "system"))
SUSPEND, RESUME, GET_STATE, GET_STATUS = map(Atom, ("suspend", "resume", "get_state", "get_status"))
DEBUG, TRUE = Atom("debug"), True


class Asker:
    """A process that sends system messages and collects the answers."""

    def __init__(self, node):
        self.answers, self.downs = [], []
        self.me = node.spawn_handler(self._received)

    def _received(self, message):
        if message[0] is Atom("DOWN"):
            self.downs.append(message[4])
        else:
            self.answers.append(message)

    def ask(self, pid, request, tag=1):
        self.me.send(pid, (SYSTEM, (self.me.pid, tag), request))

    async def answer(self, pid, request):
        self.answers.clear()
        self.ask(pid, request)
        await run_iterations()
        return [answer for _, answer in self.answers]


async def loop(me, got):
    async for message in me:
        got.append(message)


async def receives(me, got):
    while True:
        got.append(await me.receive())


async def receives_only_odd(me, got):
    while True:
        got.append(await me.receive(lambda message: message % 2 == 1))


async def never_receives(me, got):
    await asyncio.Event().wait()


async def polls(me, got):
    while True:
        message = me.receive_nowait()
        if message is not None:
            got.append(message)
        await asyncio.sleep(0.001)


def handler_body(node, got):
    return node.spawn_handler(got.append).pid


BODIES = [loop, receives, receives_only_odd, never_receives, polls, None]


@pytest.fixture(params=BODIES, ids=lambda body: body.__name__ if body else "handler")
def body(request):
    return request.param


def start(node, body, got):
    return node.spawn_handler(got.append).pid if body is None else node.spawn(body, got)


def for_each_body(test):
    def wrapped(body):
        with_node(lambda node: test(node, body))()

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


@for_each_body
async def test_stop_is_answered_and_ends_the_process_with_the_reason(node, body):
    asker = Asker(node)
    pid = start(node, body, [])
    await run_iterations()
    asker.me.monitor(pid)

    answers = await asker.answer(pid, (Atom("terminate"), (Atom("shutdown"), 7)))
    await asyncio.sleep(1)

    assert (answers or [each for _, each in asker.answers]) == [OK]
    assert asker.downs == [(Atom("shutdown"), 7)]


@for_each_body
async def test_messages_are_answered_when_the_process_has_just_started(node, body):
    asker = Asker(node)
    pid = start(node, body, [])

    asker.ask(pid, GET_STATE)
    await asyncio.sleep(1)

    undef = (ERROR, (Atom("callback_failed"), (Atom("erlmesh"), Atom("system_get_state")), (ERROR, Atom("undef"))))
    assert asker.answers == [(1, undef)]


@for_each_body
async def test_suspended_process_gets_no_message_until_it_is_resumed(node, body):
    asker, got = Asker(node), []
    pid = start(node, body, got)
    await run_iterations()

    asker.ask(pid, SUSPEND)
    await asyncio.sleep(1)
    for message in (1, 3, 5):
        node.send(pid, message)
    asker.ask(pid, GET_STATUS, 2)
    await asyncio.sleep(1)

    assert got == []
    assert [tag for tag, _ in asker.answers] == [1, 2]
    assert asker.answers[1][1][3][1] is Atom("suspended")
    asker.ask(pid, RESUME, 3)
    node.send(pid, 7)
    await asyncio.sleep(1)
    assert asker.answers[2] == (3, OK)
    assert got == ([] if body is never_receives else [1, 3, 5, 7])


@with_node
async def test_stop_comes_after_the_messages_before_it(node):
    asker, got = Asker(node), []
    pid = node.spawn(loop, got)
    await run_iterations()

    for number in range(3):
        asker.me.send(pid, number)
    asker.ask(pid, (Atom("terminate"), NORMAL))
    asker.me.send(pid, 3)
    await run_iterations()

    assert got == [0, 1, 2]
    assert asker.answers == [(1, OK)]


@with_node
async def test_stop_does_not_wait_for_messages_that_a_receive_has_skipped(node):
    asker, got = Asker(node), []
    pid = node.spawn(receives_only_odd, got)
    await run_iterations()

    asker.me.send(pid, 2)
    await run_iterations()
    asker.ask(pid, (Atom("terminate"), NORMAL))
    await run_iterations()

    assert asker.answers == [(1, OK)]


@with_node
async def test_process_cleans_up_when_it_is_stopped(node):
    asker, done = Asker(node), []

    async def body(me):
        try:
            async for _ in me:
                pass
        finally:
            me.send(asker.me.pid, (2, Atom("bye")))
            done.append(me.exit_reason)

    pid = node.spawn(body)
    await run_iterations()

    assert await asker.answer(pid, (Atom("terminate"), Atom("enough"))) == [OK, Atom("bye")]
    assert done == [Atom("enough")]


@with_node
async def test_body_that_handles_system_messages_itself_gets_them_in_order(node):
    asker, got = Asker(node), []

    async def body(me):
        me.handles_system_messages = True
        got.append(await me.receive())
        got.extend([await me.receive(), await me.receive()])

    pid = node.spawn(body)
    await run_iterations()
    node.send(pid, 1)
    asker.ask(pid, GET_STATE)
    node.send(pid, 2)
    await run_iterations()

    assert got == [1, (SYSTEM, (asker.me.pid, 1), GET_STATE), 2]
    assert asker.answers == []


@with_node
async def test_handler_that_handles_system_messages_itself_gets_them(node):
    asker, got = Asker(node), []
    process = node.spawn_handler(got.append)
    process.handles_system_messages = True

    assert await asker.answer(process.pid, GET_STATE) == []
    assert got == [(SYSTEM, (asker.me.pid, 1), GET_STATE)]


@with_node
async def test_message_that_only_resembles_a_system_message_is_a_message(node):
    got = []
    pid = node.spawn(loop, got)
    like = [(SYSTEM, 1, 2), (SYSTEM, (1, 2), 3), (SYSTEM,), [SYSTEM, 1, 2], (Atom("other"), (pid, 2), 3)]

    for message in like:
        node.send(pid, message)
    await run_iterations()

    assert got == like


@for_each_body
async def test_statistics_and_log_show_the_messages_that_came_in(node, body):
    if body is never_receives:
        return
    asker, got = Asker(node), []
    pid = start(node, body, got)
    await run_iterations()
    for tag, what in enumerate(((Atom("statistics"), True), (Atom("log"), True), (Atom("trace"), True))):
        asker.ask(pid, (DEBUG, what), tag)
    await asyncio.sleep(1)
    for message in (1, 3, 5):
        node.send(pid, message)
    await asyncio.sleep(1)

    asker.ask(pid, (DEBUG, (Atom("statistics"), Atom("get"))), 4)
    asker.ask(pid, (DEBUG, (Atom("log"), Atom("get"))), 5)
    asker.ask(pid, (DEBUG, Atom("no_debug")), 6)
    await asyncio.sleep(1)

    answers = dict(asker.answers)
    assert got == [1, 3, 5]
    assert (Atom("messages_in"), 3) in answers[4][1]
    assert answers[5] == (OK, [(Atom("in"), number) for number in (1, 3, 5)])
    assert answers[6] is OK


def test_receive_with_a_timeout_expires_although_system_messages_come():
    @with_node
    async def test(node):
        asker, times = Asker(node), []

        async def body(me):
            with pytest.raises(TimeoutError):
                await me.receive(timeout=2)
            times.append(asyncio.get_running_loop().time())

        began = asyncio.get_running_loop().time()
        pid = node.spawn(body)
        for _ in range(3):
            await asyncio.sleep(0.5)
            asker.ask(pid, GET_STATUS)
        await asyncio.sleep(1)
        assert len(asker.answers) == 3
        assert times == [pytest.approx(began + 2)]

    test()


@with_node
async def test_unhandled_answers_a_call_and_logs_every_message(node):
    got = []

    async def body(me):
        async for message in me:
            me.unhandled(message)

    pid = node.spawn(body)
    asker = node.spawn_handler(got.append)
    for kind in (Atom("$gen_call"), asker.pid):
        asker.send(pid, (kind, (asker.pid, 1), Atom("what")))
    asker.send(pid, Atom("hello"))
    await run_iterations()

    assert got == [(1, (ERROR, (Atom("unknown_call"), Atom("what"))))] * 2


# The answers, without a process

PID = Pid(Atom("a@h"), 64, 0, 1)


def ask(state, request, callbacks=None):
    return answer_request(
        PID, request, state, callbacks or PlainCallbacks(None), lambda: ((2026, 1, 2), (3, 4, 5))
    ).reply


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (Atom("no_such"), (ERROR, (Atom("unknown_system_msg"), Atom("no_such")))),
        ((DEBUG, Atom("no_such")), Atom("unknown_debug")),
        ((DEBUG, (Atom("log"), (True, 0))), Atom("unknown_debug")),
        ((DEBUG, (Atom("log"), Atom("get"))), (OK, [])),
        ((DEBUG, (Atom("log"), Atom("print"))), OK),
        ((DEBUG, (Atom("log_to_file"), False)), OK),
        ((DEBUG, (Atom("log_to_file"), b"/etc/passwd")), (ERROR, Atom("open_file"))),
        ((DEBUG, (Atom("statistics"), Atom("get"))), (OK, Atom("no_statistics"))),
        ((DEBUG, (Atom("install"), (1, 2))), (ERROR, Atom("undef"))),
        ((DEBUG, (Atom("remove"), 1)), OK),
        (
            (Atom("change_code"), Atom("m"), Atom("undefined"), []),
            (ERROR, (Atom("unknown_system_msg"), (Atom("change_code"), Atom("m"), Atom("undefined"), []))),
        ),
    ],
)
def test_answers_have_the_shapes_of_otp(request_, answer):
    assert ask(SystemState(), request_) == answer


def test_code_can_be_changed_while_the_process_is_suspended():
    state = SystemState()
    ask(state, SUSPEND)

    assert ask(state, (Atom("change_code"), Atom("m"), Atom("undefined"), [])) is OK


def test_log_keeps_the_last_events_only():
    state = SystemState()
    ask(state, (DEBUG, (Atom("log"), (True, 2))))

    for number in range(5):
        state.event((Atom("in"), number))

    assert ask(state, (DEBUG, (Atom("log"), Atom("get")))) == (OK, [(Atom("in"), 3), (Atom("in"), 4)])


def test_a_caller_cannot_make_the_log_as_large_as_it_likes():
    state = SystemState()

    ask(state, (DEBUG, (Atom("log"), (True, 1 << 80))))

    assert state.log.maxlen == 10_000


def test_system_message_has_a_caller():
    caller = (PID, Ref(Atom("a@h"), 1, (1, 2, 3)))

    assert is_system_message((SYSTEM, caller, GET_STATE))
    assert not is_system_message((SYSTEM, PID, GET_STATE))
