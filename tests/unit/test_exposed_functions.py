"""Where exposed functions run when another node calls them: in a thread of the node, or in its event loop."""

import asyncio
import functools
import threading

import pytest

from erlmesh import Atom, Node, NoEpmd, Process
from erlmesh.errors import CalleeExited, RemoteError
from erlmesh.runtime.thread_pool import Job
from erlmesh.terms import Export
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run as simulate
from polling import wait_until_async as wait_until

REX, CALL, BLOCK_CALL, CAST, USER = Atom("rex"), Atom("call"), Atom("block_call"), Atom("cast"), Atom("user")
EXECUTE = (Atom("erpc"), Atom("execute_call"))


class Blocking:
    """A function that blocks until it is released."""

    __name__ = "block"

    def __init__(self):
        self.calls, self.threads, self.released = [], [], threading.Event()

    def __call__(self, number):
        self.calls.append(number)
        self.threads.append(threading.current_thread())
        assert self.released.wait(10)
        return number


def with_node(**options):
    """Run ``test(node, block)`` with a node that exposes ``m:block/1``."""

    def decorate(test):
        @functools.wraps(test)
        def run():
            async def main():
                block = Blocking()
                async with Node("a@127.0.0.1", cookie="c", epmd=NoEpmd(), **options) as node:
                    node.expose(block, as_="m")
                    try:
                        await test(node, block)
                    finally:
                        block.released.set()

            asyncio.run(main())

        del run.__wrapped__  # pytest would take its parameters for fixtures
        return run

    return decorate


def in_main_thread():
    return threading.current_thread() is threading.main_thread()


async def call(node, function, *arguments, **options):
    return await node.rpc(node.name, "m", function, arguments, **options)


def as_text(reason):
    """A reason ``{Name, Text}``. Between two nodes the text is a binary."""
    name, text = reason
    return name, text.decode() if isinstance(text, bytes) else text


@with_node()
async def test_plain_functions_run_in_a_thread_and_all_others_in_the_event_loop(node, block):
    async def coroutine_function():
        return in_main_thread()

    def takes_process(_me: Process):
        return in_main_thread()

    class Callable:
        async def __call__(self):
            return in_main_thread()

    node.expose(in_main_thread, as_="m", name="plain")
    node.expose(in_main_thread, as_="m", name="inline", inline=True)
    node.expose(functools.partial(coroutine_function), as_="m", name="partial")
    node.expose(Callable(), as_="m", name="callable")
    node.expose(lambda: coroutine_function(), as_="m", name="returns_coroutine")  # noqa: PLW0108
    for function in (coroutine_function, takes_process):
        node.expose(function, as_="m")

    assert await call(node, "plain") is False
    for name in ("inline", "partial", "callable", "returns_coroutine", "coroutine_function", "takes_process"):
        assert await call(node, name) is True, name


@with_node(expose_threads=0)
async def test_without_threads_plain_functions_run_in_the_event_loop(node, block):
    node.expose(in_main_thread, as_="m", name="plain")

    assert await call(node, "plain") is True


@with_node()
async def test_the_functions_that_every_node_answers_use_no_thread(node, block):
    assert await node.rpc(node.name, "erlang", "node") is Atom("a@127.0.0.1")
    assert await node.rpc(node.name, "pg", "get_members", [Atom("g")]) == []
    assert await node.rpc(node.name, "erlmesh", "blocked_peers") == []
    assert [thread for thread in threading.enumerate() if "exposed" in thread.name] == []


@with_node(expose_threads=8)
async def test_every_kind_of_call_runs_in_a_thread(node, block):
    arguments = [Atom("m"), Atom("block")]
    rex = (REX, node.name)

    async def main(me):
        me.cast(rex, (CAST, *arguments, [1], USER))
        await me.receive()

    node.spawn(main)
    node.rpc.cast(node.name, "m", "block", [2])
    node.internals.spawn_remote_nowait(node.name, "m", "block", [3])
    calls = [
        asyncio.create_task(node.call(rex, (CALL, *arguments, [4], USER))),
        asyncio.create_task(node.call(rex, (BLOCK_CALL, *arguments, [5], USER))),
        asyncio.create_task(call(node, "block", 6)),
        asyncio.create_task(node.rpc(node.name, "erlang", "apply", [Export(Atom("m"), Atom("block"), 1), [7]])),
    ]
    await wait_until(lambda: len(block.calls) == 7)
    assert threading.main_thread() not in block.threads
    assert len(set(block.threads)) == 7
    assert all("exposed functions of a@127.0.0.1" in thread.name for thread in block.threads)

    block.released.set()

    assert await asyncio.gather(*calls) == [4, 5, 6, 7]
    assert sorted(block.calls) == [1, 2, 3, 4, 5, 6, 7]


@with_node(expose_threads=1, expose_queue_limit=1)
async def test_a_call_beyond_the_limit_gets_the_error_overloaded(node, block):
    calls = [asyncio.create_task(call(node, "block", number)) for number in range(2)]
    await wait_until(lambda: block.calls and node.internals.function_pool._queue)

    with pytest.raises(RemoteError) as refused:
        await call(node, "block", 3)
    reply = await node.call((REX, node.name), (CALL, Atom("m"), Atom("block"), [4], USER))

    text = "all 1 threads are busy, and 1 calls wait for one"
    assert as_text(refused.value.reason) == (Atom("overloaded"), text)
    badrpc, (exit_, (reason, stack)) = reply
    assert (badrpc, exit_, as_text(reason), stack) == (Atom("badrpc"), Atom("EXIT"), (Atom("overloaded"), text), [])

    block.released.set()
    assert await asyncio.gather(*calls) == [0, 1]


@with_node(expose_threads=2)
async def test_a_call_in_a_thread_needs_no_task_and_may_return_an_awaitable(node, block):
    async def later(me):
        return asyncio.current_task() is not None

    node.expose(lambda: later(None), as_="m", name="later")
    replies = [asyncio.create_task(call(node, "block", number)) for number in range(2)]
    await wait_until(lambda: len(block.calls) == 2)
    work = [process._task for process in node.internals._router.registry.processes.values()]
    block.released.set()

    assert await asyncio.gather(*replies) == [0, 1]
    assert [type(each) for each in work].count(Job) == 2
    assert await call(node, "later") is True


@with_node(expose_threads=1)
async def test_a_process_that_is_killed_before_a_thread_is_free_calls_nothing(node, block):
    first = asyncio.create_task(call(node, "block", 1))
    await wait_until(lambda: block.calls)
    before = set(node.internals.processes())
    second = asyncio.create_task(call(node, "block", 2))
    await wait_until(lambda: node.internals.function_pool._queue)
    (pid,) = set(node.internals.processes()) - before

    node.exit(pid, Atom("kill"))

    with pytest.raises(CalleeExited, match="killed"):
        await second
    block.released.set()
    assert await first == 1
    assert await call(node, "block", 3) == 3
    assert block.calls == [1, 3]


@with_node(expose_threads=1)
async def test_a_process_that_is_killed_while_its_function_runs_drops_the_result(node, block):
    before = set(node.internals.processes())
    running = asyncio.create_task(call(node, "block", 1))
    await wait_until(lambda: block.calls)
    (pid,) = set(node.internals.processes()) - before

    node.exit(pid, Atom("kill"))
    with pytest.raises(CalleeExited, match="killed"):
        await running

    block.released.set()
    assert await call(node, "block", 2) == 2


@with_node(expose_threads=1)
async def test_a_caller_that_gives_up_before_a_thread_is_free_calls_nothing(node, block):
    first = asyncio.create_task(call(node, "block", 1))
    await wait_until(lambda: block.calls)
    given_up = asyncio.Event()

    async def caller(me):
        arguments = [node.internals.make_ref(), Atom("m"), Atom("block"), [2]]
        _, ref = await me.spawn_remote(node.name, *EXECUTE, arguments, monitor=True)
        await wait_until(lambda: node.internals.function_pool._queue)
        me.demonitor(ref)
        given_up.set()

    node.spawn(caller)
    await given_up.wait()
    cast = [Atom("m"), Atom("block"), [3]]
    await node.spawn_remote(node.name, "erpc", "execute_cast", cast)
    await node.spawn_remote(node.name, *EXECUTE, [node.internals.make_ref(), Atom("m"), Atom("block"), [4]])

    block.released.set()
    assert await first == 1
    await wait_until(lambda: len(block.calls) == 3)
    assert block.calls == [1, 3, 4]  # nobody monitors a cast, or a process that was started without a monitor


@with_node()
async def test_an_error_has_the_stack_of_the_function_alone(node, block):
    def fail(number):
        return 1 / number

    def leave():
        raise SystemExit(3)

    node.expose(fail, as_="m")
    node.expose(leave, as_="m")

    with pytest.raises(RemoteError) as failed:
        await call(node, "fail", 0)
    with pytest.raises(RemoteError) as left:
        await call(node, "leave")
    with pytest.raises(RemoteError, match="there is no function m:missing/0"):
        await call(node, "missing")

    assert as_text(failed.value.reason) == (Atom("ZeroDivisionError"), "division by zero")
    ((module, function, arity, _place),) = failed.value.stack
    assert (module.name, function.name.rpartition(".")[2], arity) == (__name__, "fail", 1)
    assert as_text(left.value.reason) == (Atom("SystemExit"), "3")


def test_stopping_the_node_waits_for_no_function():
    block = Blocking()

    async def main():
        async with Node("a@127.0.0.1", cookie="c", epmd=NoEpmd(), expose_threads=1) as node:
            node.expose(block, as_="m")
            for number in range(2):
                node.rpc.cast(node.name, "m", "block", [number])
            await wait_until(lambda: block.calls)

    asyncio.run(main())

    (thread,) = block.threads
    assert thread.is_alive()
    assert thread.daemon
    block.released.set()
    thread.join(10)
    assert block.calls == [0]


def test_in_a_simulation_plain_functions_run_in_the_event_loop():
    async def main():
        async with Cluster() as cluster:
            a, b = await cluster.start("a", "b")
            b.expose(in_main_thread, as_="m", name="plain")
            return await a.rpc(b.name, "m", "plain")

    assert simulate(main) is True


# A function that terminates its own process


async def ran(log):
    log.append("began")
    await asyncio.sleep(0)
    log.append("ended")


@pytest.mark.parametrize("make", [ran, lambda log: asyncio.ensure_future(ran(log))])
def test_what_a_function_returns_after_it_ended_its_process_is_not_awaited(make):
    log, made = [], []

    def end_and_return(me: Process):
        me.stop(Atom("over"))
        made.append(make(log))
        return made[-1]

    @with_node()
    async def check(node, block):
        node.expose(end_and_return, as_="m")

        with pytest.raises(CalleeExited) as ended:
            await call(node, "end_and_return")
        rex_reply = await node.call((REX, node.name), (CALL, Atom("m"), Atom("end_and_return"), [], USER))
        for _ in range(5):
            await asyncio.sleep(0)

        assert ended.value.reason is Atom("over")
        assert rex_reply == (Atom("badrpc"), (Atom("EXIT"), Atom("over")))

    check()

    assert log == []
    assert len(made) == 2


@with_node()
async def test_the_task_of_an_async_function_ends_without_a_cancellation(node, block):
    tasks = []

    async def wait_once():
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        return 7

    node.expose(wait_once, as_="m")

    assert await node.rpc(node.name, "m", "wait_once", []) == 7

    await wait_until(tasks[0].done)
    assert not tasks[0].cancelled()


@with_node()
async def test_a_process_that_ends_itself_and_then_waits_is_cancelled(node, block):
    log = []

    async def end_and_wait(me: Process):
        me.stop(Atom("over"))
        try:
            log.append("waits")
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    node.internals.serve_spawn_request("m", "end_and_wait", 0, end_and_wait)
    await node.spawn_remote(node.name, "m", "end_and_wait")

    await wait_until(lambda: log == ["waits", "cancelled"])


def test_an_exit_signal_before_the_task_runs_closes_the_awaitable():
    made = []

    def returns_coroutine(me: Process):
        made.append(ran([]))
        # The signal arrives when the process has a task that has not run yet.
        asyncio.get_running_loop().call_soon(me.node.exit, me.pid, Atom("kill"))
        return made[0]

    @with_node()
    async def check(node, block):
        node.expose(returns_coroutine, as_="m")
        with pytest.raises(CalleeExited, match="killed"):
            await call(node, "returns_coroutine")

    check()

    assert made[0].cr_frame is None


# The caller


@with_node()
async def test_multicall_without_nodes_says_what_is_missing(node, block):
    for wrong in ("erlang", Atom("erlang"), b"erlang"):
        with pytest.raises(TypeError, match=r"list of nodes, such as node\.nodes\(\), not "):
            await node.rpc.multicall(wrong, "node", [])
