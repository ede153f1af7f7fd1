"""``node.run``: a process whose end is the result of a call."""

import asyncio

import pytest
from test_gen_server_class import with_node

from erlmesh import Atom, Exit
from erlmesh.testing.loop import run_iterations

BOOM, SHUTDOWN = Atom("boom"), Atom("shutdown")


@with_node
async def test_run_returns_what_the_body_returns(node):
    async def body(me, number):
        await asyncio.sleep(1)
        return [number, None]

    assert await node.run(body, 7) == [7, None]


@pytest.mark.parametrize("error", [ValueError("broken"), Exit(BOOM)])
def test_run_raises_what_the_body_raises(error, caplog):
    @with_node
    async def test(node):
        async def body(me):
            raise error

        with pytest.raises(type(error)) as raised:
            await node.run(body)
        assert raised.value is error

    test()

    assert caplog.records == []


class NotAnException(BaseException):
    """As pytest's ``Failed``, and as those of other libraries that end something larger than a function."""


@with_node
async def test_run_raises_also_what_is_not_an_exception(node):
    async def body(me):
        raise NotAnException("broken")

    with pytest.raises(NotAnException, match="broken"):
        await node.run(body)


@with_node
async def test_others_see_the_exit_of_a_process_that_raised_what_is_not_an_exception(node):
    reasons = []
    watcher = node.spawn_handler(lambda message: reasons.append(message[4]))

    async def body(me):
        watcher.monitor(me.pid)
        raise NotAnException("broken")

    pid = node.spawn(body)
    with pytest.raises(NotAnException):
        await node.internals._instance.router.registry.local(pid)._task
    assert reasons[0][0] == (Atom("NotAnException"), b"broken")
    assert pid not in node.internals.processes()


@with_node
async def test_others_see_the_exit_reason_of_an_exception(node):
    reasons = []
    watcher = node.spawn_handler(lambda message: reasons.append(message[4]))

    async def body(me):
        watcher.monitor(me.pid)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await node.run(body)
    assert reasons[0][0] == (Atom("ValueError"), b"broken")


@with_node
async def test_run_raises_the_reason_of_an_exit_signal(node):
    async def body(me):
        node.exit(me.pid, BOOM)
        await asyncio.sleep(1)

    with pytest.raises(Exit) as raised:
        await node.run(body)
    assert raised.value.reason is BOOM


@with_node
async def test_cancelled_run_ends_the_process(node):
    reasons = []

    async def body(me):
        try:
            await asyncio.sleep(100)
        finally:
            reasons.append(me.exit_reason)

    running = asyncio.ensure_future(node.run(body, name="body"))
    await run_iterations()
    running.cancel()
    await run_iterations()

    assert running.cancelled()
    assert reasons == [SHUTDOWN]
    assert node.whereis("body") is None
