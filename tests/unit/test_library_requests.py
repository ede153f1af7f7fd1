"""Requests whose callers wait without a time limit, towards processes that may not understand them."""

import asyncio

import pytest
from test_process import with_node

from erlmesh import native
from erlmesh.core.gen import is_library_request
from erlmesh.core.library_requests import PATIENCE, is_reply, refusal
from erlmesh.core.log_rate import BURST
from erlmesh.runtime.mailbox import PureMailbox
from erlmesh.terms import Atom, ImproperList, Pid, Ref
from erlmesh.testing.loop import run_iterations

ERROR, CALL, CHILDREN = Atom("error"), Atom("$gen_call"), Atom("which_children")
A, B = (Pid(Atom("a@h"), number, 0, 1) for number in (1, 2))
REF = Ref(Atom("a@h"), 1, (1, 2, 3))
CALLER = (A, ImproperList((Atom("alias"),), REF))
IO, FILE = Atom("io_request"), Atom("file_request")

REQUESTS = [
    *((CALL, CALLER, Atom(name)) for name in ("which_children", "count_children")),
    *((CALL, CALLER, (Atom(f"{name}_child"), 1)) for name in ("start", "terminate", "restart", "delete", "which")),
    (CALL, CALLER, (Atom("get_childspec"), 1)),
    (CALL, CALLER, (Atom("start_task"), [], Atom("temporary"), 5000)),
    (A, CALLER, Atom("which_handlers")),
    (IO, A, REF, (Atom("put_chars"), Atom("unicode"), b"text")),
    (FILE, A, REF, Atom("close")),
]
OTHERS = [
    (CALL, CALLER, Atom("get")),
    (CALL, CALLER, (Atom("start_child"), 1, 2)),
    (CALL, CALLER, (Atom("get"), 1)),
    (CALL, CALLER, (Atom("a"), 1, 2, 3)),
    (CALL, CALLER, [CHILDREN]),
    (CALL, CALLER, ("which_children",)),
    (CALL, A, CHILDREN),
    (CALL, (1, 2), CHILDREN),
    (CALL, CALLER, CHILDREN, 4),
    (Atom("$gen_cast"), CHILDREN),
    (B, CALLER, Atom("which_handlers")),
    (A, A, 1),
    (IO, 1, REF, 1),
    (Atom("other"), A, REF, 1),
    (1, 2, 3),
    (Atom("system"), A, 1),
    [CALL, CALLER, CHILDREN],
    CHILDREN,
]


@pytest.mark.parametrize("message", REQUESTS)
def test_request_is_recognised_and_can_be_refused(message):
    assert is_library_request(message)
    to, answer = refusal(message)
    assert to in (A, REF)
    assert is_reply(answer, message)
    assert not is_reply((1, 2), message)
    assert not is_reply((1, 2, 3), message)
    assert not is_reply(1, message)


@pytest.mark.parametrize("message", OTHERS)
def test_other_message_is_no_library_request(message):
    assert not is_library_request(message)


@pytest.mark.parametrize("message", [*REQUESTS, *OTHERS, (Atom("system"), CALLER, 1)])
@pytest.mark.skipif(native.module is None, reason=native.description)
def test_both_builds_see_the_same_special_messages(message):
    assert native.module.Mailbox().put(message) is PureMailbox().put(message)


def test_refusals_have_the_form_that_the_caller_expects():
    assert refusal((CALL, CALLER, CHILDREN)) == (REF, (CALLER[1], (ERROR, (Atom("unknown_call"), CHILDREN))))
    assert refusal((A, CALLER, 1)) == (REF, (CALLER[1], (ERROR, (Atom("unknown_call"), 1))))
    assert refusal((IO, A, REF, 1)) == (A, (Atom("io_reply"), REF, (ERROR, Atom("request"))))
    assert refusal((FILE, A, REF, 1)) == (A, (Atom("file_reply"), REF, (ERROR, Atom("request"))))
    assert refusal((Atom("$gen_cast"), 1)) is None


REFUSED = (ERROR, (Atom("unknown_call"), CHILDREN))


def ask(node, pid, request=CHILDREN):
    """Start a call that waits without a limit."""
    return asyncio.ensure_future(node.call(pid, request, timeout=None))


async def loop(me):
    async for _ in me:
        pass


async def receives(me):
    while True:
        await me.receive()


async def never_receives(me):
    await asyncio.Event().wait()


async def receives_only_numbers(me):
    await me.receive(lambda message: type(message) is int)


async def polls(me):
    while True:
        me.receive_nowait()
        await asyncio.sleep(0.001)


async def ends_slowly(me):
    await me.receive()
    await asyncio.Event().wait()


async def filters(me):
    while True:
        await me.receive(lambda message: type(message) is tuple)


@pytest.mark.parametrize("body", [loop, receives, never_receives, receives_only_numbers, polls, filters])
def test_request_that_a_body_ignores_is_refused(body, caplog):
    @with_node
    async def check(node):
        pid = node.spawn(body)
        await run_iterations()

        assert await ask(node, pid) == REFUSED
        assert await ask(node, pid, (Atom("start_child"), 1)) == (
            ERROR,
            (Atom("unknown_call"), (Atom("start_child"), 1)),
        )
        assert node.is_alive(pid)

    check()
    assert "unknown request" in caplog.text


@with_node
async def test_request_is_refused_at_once_when_the_body_receives_again(node):
    pid = node.spawn(loop)
    await run_iterations()

    answer = ask(node, pid)
    await run_iterations()

    assert answer.result() == REFUSED


@with_node
async def test_request_to_a_handler_that_ignores_it_is_refused(node):
    got = []
    process = node.spawn_handler(got.append)

    assert await ask(node, process.pid) == REFUSED
    assert [message[2] for message in got] == [CHILDREN]


@with_node
async def test_handler_that_answers_is_not_disturbed(node):
    process = node.spawn_handler(lambda message: process.reply(message[1], 7))

    assert [await ask(node, process.pid) for _ in range(2)] == [7, 7]


@with_node
async def test_handler_that_answers_later_says_so(node):
    callers = []
    process = node.spawn_handler(lambda message: callers.append(message[1]))
    process.handles_library_requests = True
    answer = ask(node, process.pid)
    await asyncio.sleep(10)

    process.reply(callers[0], 8)

    assert await answer == 8


def test_body_that_answers_is_not_disturbed(caplog):
    @with_node
    async def check(node):
        async def server(me):
            async for _, caller, request in me:
                me.reply(caller, request)

        pid = node.spawn(server)

        assert [await ask(node, pid) for _ in range(3)] == [CHILDREN] * 3

    check()
    assert caplog.records == []


@with_node
async def test_body_may_wait_for_something_else_before_it_answers(node):
    async def server(me):
        _, caller, _ = await me.receive()
        number = await me.receive(lambda message: type(message) is int)
        me.send(caller[1].tail, (caller[1], number))  # A reply by hand counts, too.
        await asyncio.Event().wait()

    pid = node.spawn(server)
    answer = ask(node, pid)
    await asyncio.sleep(10 * PATIENCE)
    assert not answer.done()

    node.send(pid, 5)

    assert await answer == 5


@with_node
async def test_body_that_has_answered_one_keeps_the_next_in_its_mailbox(node):
    async def server(me):
        _, caller, _ = await me.receive()
        me.reply(caller, 1)
        await me.receive(lambda message: message == 2)
        _, caller, _ = await me.receive()
        me.reply(caller, 3)

    pid = node.spawn(server)
    assert await ask(node, pid) == 1
    second = ask(node, pid)
    await asyncio.sleep(10 * PATIENCE)
    assert not second.done()

    node.send(pid, 2)

    assert await second == 3


@with_node
async def test_body_that_handles_the_requests_itself_gets_no_help(node):
    async def server(me):
        me.handles_library_requests = True
        callers = [(await me.receive())[1] for _ in range(2)]
        for caller in callers:
            me.reply(caller, len(callers))

    pid = node.spawn(server)

    first, second = ask(node, pid), ask(node, pid)

    assert (await first, await second) == (2, 2)


@with_node
async def test_suspended_process_takes_the_request_when_it_is_resumed(node):
    got = []

    async def server(me):
        while True:
            got.append(await me.receive())

    pid = node.spawn(server)
    asker = node.spawn_handler(lambda _: None)
    await run_iterations()
    asker.send(pid, (Atom("system"), (asker.pid, 1), Atom("suspend")))
    answer = ask(node, pid)
    await asyncio.sleep(10 * PATIENCE)
    assert not answer.done()

    asker.send(pid, (Atom("system"), (asker.pid, 1), Atom("resume")))

    assert await answer == REFUSED
    assert len(got) == 1


@with_node
async def test_other_messages_keep_their_order_with_the_requests(node):
    got = []

    async def server(me):
        while True:
            message = await me.receive()
            got.append(message if type(message) is int else message[2])

    pid = node.spawn(server)
    node.send(pid, 1)
    answer = ask(node, pid)
    await run_iterations()
    node.send(pid, 2)
    await answer
    await run_iterations()

    assert got == [1, CHILDREN, 2]


@with_node
async def test_unknown_io_request_is_refused_by_unhandled(node):
    got = []
    asker = node.spawn_handler(got.append)

    async def server(me):
        me.handles_library_requests = True
        me.unhandled(await me.receive())

    asker.send(node.spawn(server), (IO, asker.pid, 1, Atom("getopts")))
    await run_iterations()

    assert got == [(Atom("io_reply"), 1, (ERROR, Atom("request")))]


@with_node
async def test_process_that_skips_requests_still_gets_the_message_that_it_waits_for(node):
    got = []

    async def server(me):
        while True:
            got.append(await me.receive(lambda message: message == "it"))

    pid = node.spawn(server)
    node.send(pid, 1)
    await run_iterations()
    answers = [ask(node, pid) for _ in range(3)]
    await asyncio.sleep(PATIENCE)
    node.send(pid, "it")  # In the same iteration as the refusals.
    assert [await answer for answer in answers] == [REFUSED] * 3
    await run_iterations()

    assert got == ["it"]


@with_node
async def test_messages_that_are_not_refused_keep_their_order(node):
    got, go = [], asyncio.Event()

    async def server(me):
        await go.wait()
        while True:
            got.append(await me.receive())

    pid = node.spawn(server)
    node.send(pid, 1)
    first = ask(node, pid)
    node.send(pid, 2)
    second = ask(node, pid)
    for number in (3, 4):
        node.send(pid, number)
    assert (await first, await second) == (REFUSED, REFUSED)
    go.set()
    await run_iterations()

    assert got == [1, 2, 3, 4]


def test_many_refused_requests_cause_few_lines_in_the_log(caplog):
    @with_node
    async def check(node):
        pid = node.spawn(loop)

        assert [await ask(node, pid) for _ in range(50)] == [REFUSED] * 50

    check()
    assert len(caplog.records) == BURST
