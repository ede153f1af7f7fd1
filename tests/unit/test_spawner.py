"""Processes that are started without a task. They get one only if they wait, with no other visible difference."""

import asyncio

from test_process import BOOM, KILL, KILLED, NORMAL, ends, with_node

from erlmesh.errors import Exit
from erlmesh.runtime.spawner import continue_in_task, ensure_task, wait_without_task
from erlmesh.testing.loop import run_iterations


def start(node, body):
    return node._instance.spawner.start_without_task(body, (), lambda: "light")


@with_node
async def test_process_that_never_waits_has_no_task_and_terminates_normally(node):
    tasks = []

    async def body(me):
        tasks.append(asyncio.current_task())

    async def fails(_me):
        raise Exit(BOOM)

    reasons = ends(node, start(node, body).pid, start(node, fails).pid)
    await run_iterations()

    assert reasons == [NORMAL, BOOM]
    assert tasks == [None]


@with_node
async def test_process_has_a_task_after_ensure_task_and_may_wait(node):
    async def body(me):
        await ensure_task()
        await ensure_task()
        async with asyncio.timeout(1):
            raise Exit(await me.receive())

    process = start(node, body)
    reasons = ends(node, process.pid)
    await run_iterations()
    assert node.is_alive(process.pid)
    node.send(process.pid, BOOM)
    await run_iterations()

    assert reasons == [BOOM]


@with_node
async def test_process_killed_before_its_first_step_never_runs_and_later_is_cancelled(node):
    seen = []

    async def body(me):
        seen.append(me)
        await ensure_task()
        try:
            await me.receive()
        finally:
            seen.append("cancelled")

    early, late = start(node, body), None
    reasons = ends(node, early.pid)
    node.exit(early.pid, KILL)
    await run_iterations()
    assert (reasons, seen) == ([KILLED], [])

    late = start(node, body)
    await run_iterations()
    node.exit(late.pid, KILL)
    await run_iterations()

    assert seen == [late, "cancelled"]


@with_node
async def test_process_killed_before_its_task_runs_is_cancelled(node):
    seen = []

    async def body(me):
        try:
            await ensure_task()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    process = start(node, body)
    asyncio.get_running_loop().call_soon(node.exit, process.pid, KILL)  # right after its first step
    await run_iterations()

    assert seen == ["cancelled"]


class Work:
    """What a process waits for without a task. It counts how often it is cancelled."""

    cancelled = 0

    def cancel(self):
        self.cancelled += 1


@with_node
async def test_body_that_returns_none_terminates_itself_or_waits_without_a_task(node):
    work = Work()
    done, waiting = start(node, lambda me: me.stop(BOOM)), start(node, lambda me: wait_without_task(me, work))
    reasons = ends(node, done.pid, waiting.pid)
    await run_iterations()
    assert (reasons, work.cancelled) == ([BOOM], 0)
    node.exit(waiting.pid, KILL)
    await run_iterations()

    assert (reasons, work.cancelled) == ([BOOM, KILLED], 1)
    assert done._task is None


@with_node
async def test_body_that_raises_or_returns_an_awaitable_ends_as_a_coroutine_function_does(node):
    async def rest(me):
        await ensure_task()
        raise Exit(BOOM)

    def fails(_me):
        raise Exit(KILL)

    reasons = ends(node, start(node, rest).pid, start(node, lambda me: rest(me)).pid, start(node, fails).pid)  # noqa: PLW0108
    await run_iterations()

    assert sorted(reasons, key=str) == sorted([BOOM, BOOM, KILL], key=str)


@with_node
async def test_process_that_waited_without_a_task_continues_in_a_task(node):
    work = Work()

    async def rest(me):
        await ensure_task()
        raise Exit(await me.receive())

    process = start(node, lambda me: wait_without_task(me, work))
    reasons = ends(node, process.pid)
    await run_iterations()
    asyncio.get_running_loop().call_soon(continue_in_task, process, rest(process))
    await run_iterations()
    node.send(process.pid, BOOM)
    await run_iterations()

    assert (reasons, work.cancelled) == ([BOOM], 0)


@with_node
async def test_label_shows_what_the_process_runs(node):
    async def body(me):
        pass

    process = start(node, body)

    assert process.label == f"{process.pid} light"
