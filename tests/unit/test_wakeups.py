"""Tasks that a read wakes up continue in the same loop iteration, after all of the read is applied.

All tests run with the classes in Python and with the native ones.
"""

import asyncio
import gc
import importlib.util
import sys
import weakref
from contextlib import suppress
from contextvars import ContextVar, copy_context

import pytest

from erlmesh import native
from erlmesh.runtime import wakeups as module
from erlmesh.runtime.deadlines import Deadlines
from erlmesh.runtime.wakeups import PureWait, PureWakeups, Wait, Wakeups
from erlmesh.testing.loop import SimulatedLoop, run_iterations
from erlmesh.testing.loop import run as run_simulated
from erlmesh.testing.loop import run_coroutine as run


@pytest.fixture(autouse=True, params=["pure", "native"])
def build(request, monkeypatch):
    """Let the tests use the classes of one build. Return its name."""
    if request.param == "pure":
        monkeypatch.setattr(sys.modules[__name__], "Wait", PureWait)
        monkeypatch.setattr(sys.modules[__name__], "Wakeups", PureWakeups)
    elif native.module is None:
        pytest.skip(native.description)
    return request.param


def python_tasks():
    """A loop whose tasks are asyncio's implementation in Python, as with alternative interpreters."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.tasks._PyTask(coroutine, loop=loop, **options))
    return loop


def loops():
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    if sys.version_info < (3, 14):  # there, asyncio.current_task() does not find tasks in Python
        yield pytest.param(python_tasks, id="python-tasks")
    yield pytest.param(SimulatedLoop, id="simulated")
    if importlib.util.find_spec("uvloop"):
        import uvloop

        uvloop.new_event_loop().close()  # libuv's first loop opens a pipe for signals that is never closed: not a leak
        yield pytest.param(uvloop.new_event_loop, id="uvloop")


def on_every_loop(test):
    """Run the test on every kind of loop."""

    @pytest.mark.parametrize("loop_factory", list(loops()))
    def wrapped(loop_factory):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


async def in_callback(function):
    """Call ``function`` from a callback of the loop, outside of all tasks. Return its result."""
    done = asyncio.get_running_loop().create_future()

    def call():
        try:
            done.set_result(function())
        except Exception as error:
            done.set_exception(error)

    asyncio.get_running_loop().call_soon(call)
    return await done


class Tasks:
    """Tasks that wait, by name. ``seen`` records what they do."""

    def __init__(self, **bounds):
        self.wakeups = Wakeups(**bounds)
        self.seen = []
        self.waits = {}
        self.tasks = {}

    async def start(self, *names, then=lambda _name: None):
        for name in names:
            self.tasks[name] = asyncio.get_running_loop().create_task(self._wait(name, then))
        await run_iterations()

    async def _wait(self, name, then):
        self.waits[name] = Wait(self.wakeups)
        try:
            self.seen.append((name, await self.waits[name]))
        except Exception as error:
            self.seen.append((name, error))
        except asyncio.CancelledError as error:
            self.seen.append((name, ("cancelled", *error.args)))
        then(name)

    def wake(self, *names):
        for name in names:
            self.waits[name].set_result("woken")

    def read(self, *names):
        """Do what a read does that wakes up these tasks. Return what was seen when it ended."""
        self.wakeups.run_round(self.wake, *names)
        return list(self.seen)


# A wait


@on_every_loop
async def test_a_task_continues_with_the_result():
    tasks = Tasks()
    await tasks.start("a")

    tasks.waits["a"].set_result(1)
    tasks.waits["a"].set_result(2)
    await tasks.tasks["a"]

    assert tasks.seen == [("a", 1)]


@on_every_loop
async def test_a_task_continues_with_the_exception():
    tasks = Tasks()
    await tasks.start("a")
    error = ValueError()

    tasks.waits["a"].set_exception(error)
    await tasks.tasks["a"]

    assert tasks.seen == [("a", error)]


@on_every_loop
async def test_a_result_that_is_there_is_returned_without_a_loop_iteration():
    wait, turns = Wait(Wakeups()), []
    wait.set_result(1)
    asyncio.get_running_loop().call_soon(turns.append, None)

    assert (await wait, turns) == (1, [])


@on_every_loop
async def test_a_waiting_task_can_be_cancelled_with_a_reason():
    tasks = Tasks()
    await tasks.start("a")

    assert tasks.tasks["a"].cancel("why") is True
    await tasks.tasks["a"]

    assert tasks.seen == [("a", ("cancelled", "why"))]
    assert tasks.waits["a"].done()


@on_every_loop
async def test_a_task_that_is_cancelled_before_it_waits_does_not_wait():
    tasks = Tasks()

    async def cancelled_first():
        asyncio.current_task().cancel()
        await tasks._wait("a", lambda _: None)

    await asyncio.create_task(cancelled_first())

    assert tasks.seen == [("a", ("cancelled",))]


@on_every_loop
async def test_a_task_that_was_woken_up_is_cancelled_before_its_step():
    tasks = Tasks()
    await tasks.start("a")

    tasks.wake("a")
    tasks.tasks["a"].cancel()
    await tasks.tasks["a"]

    assert tasks.seen == [("a", ("cancelled",))]


@on_every_loop
async def test_a_step_that_its_round_leaves_cancelled_raises_in_the_task():
    tasks = Tasks()
    await tasks.start("a", then=lambda _: tasks.tasks["b"].cancel())
    await tasks.start("b")

    seen = await in_callback(lambda: tasks.read("a", "b"))

    assert seen == [("a", "woken"), ("b", ("cancelled",))]


@on_every_loop
async def test_timeouts_of_asyncio_end_a_wait():
    wakeups = Wakeups()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_await(Wait(wakeups)), 0.001)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await Wait(wakeups)


def test_one_task_only_can_await_a_wait():
    async def main():
        wait = Wait(Wakeups())
        first = asyncio.ensure_future(_await(wait))
        await run_iterations()

        with pytest.raises(RuntimeError, match="only one task"):
            wait.add_done_callback(lambda _: None)

        wait.set_result(None)
        await first

    run(main())


def test_a_callback_that_comes_after_the_result_is_called():
    async def main():
        wait, called = Wait(Wakeups()), []
        wait.set_result(1)

        wait.add_done_callback(lambda wait: called.append(wait.result()))
        assert called == []
        await run_iterations()

        assert called == [1]

    run(main())


def test_a_coroutine_that_other_code_resumes_raises():
    async def main():
        coroutine = _await(Wait(Wakeups()))
        coroutine.send(None)

        with pytest.raises(asyncio.InvalidStateError):
            coroutine.send(None)

    run(main())


def test_an_exception_is_not_kept_after_it_is_raised():
    async def main():
        wait = Wait(Wakeups())
        wait.set_exception(ValueError("boom"))

        with pytest.raises(ValueError, match="boom"):
            wait.result()

        assert wait.result() is None

    run(main())


@on_every_loop
async def test_a_result_may_be_any_value():
    for value in (None, (), (1, 2), StopIteration(3), False):
        wait = Wait(Wakeups())
        asyncio.get_running_loop().call_soon(wait.set_result, value)

        assert await wait is value


@on_every_loop
async def test_a_wait_that_is_renewed_waits_once_more():
    wakeups, seen = Wakeups(), []
    wait = Wait(wakeups)

    async def waiting():
        await wait
        seen.append(1)
        wait.renew()
        await wait
        seen.append(2)

    task = asyncio.create_task(waiting())
    await run_iterations()
    wait.set_result(None)
    await run_iterations()
    assert seen == [1]
    assert not wait.done()
    wait.set_result(None)
    await task

    assert seen == [1, 2]


@on_every_loop
async def test_a_step_runs_in_the_context_of_its_task():
    variable, seen = ContextVar("variable", default="outside"), []
    tasks = Tasks()
    await tasks.start("a", then=lambda _: seen.append(variable.get()))

    def wake():
        variable.set("waker")
        tasks.read("a")

    await in_callback(wake)

    assert seen == ["outside"]


@pytest.mark.slow
def test_a_wait_and_its_task_are_freed_together():
    class WaitWithWeakReferences(Wait):
        pass

    async def main():
        wait = WaitWithWeakReferences(Wakeups())
        task = asyncio.ensure_future(_await(wait))
        await run_iterations()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        cycle = WaitWithWeakReferences(Wakeups())
        cycle.set_result([cycle])
        return [weakref.ref(each) for each in (task, wait, cycle)]

    freed = run(main())
    gc.collect()

    assert [reference() for reference in freed] == [None, None, None]


def test_a_round_returns_the_result_of_the_read():
    async def main():
        wakeups = Wakeups()

        assert await in_callback(lambda: wakeups.run_round(lambda a, b: a + b, 1, 2)) == 3
        assert wakeups.run_round(lambda: 4) == 4

    run(main())


async def _await(wait):
    return await wait


# Rounds


@on_every_loop
async def test_woken_tasks_run_within_the_read_in_order():
    tasks = Tasks()
    await tasks.start("a", "b", "c")

    seen = await in_callback(lambda: tasks.read("b", "c", "a"))

    assert seen == [("b", "woken"), ("c", "woken"), ("a", "woken")]


@on_every_loop
async def test_tasks_run_after_all_of_the_read_is_applied():
    tasks = Tasks()
    await tasks.start("a", "b")

    def apply():
        tasks.wake("a")
        tasks.seen.append("applied 1")
        tasks.wake("b")
        tasks.seen.append("applied 2")

    await in_callback(lambda: tasks.wakeups.run_round(apply))

    assert tasks.seen == ["applied 1", "applied 2", ("a", "woken"), ("b", "woken")]


@on_every_loop
async def test_a_step_wakes_up_tasks_of_the_same_round():
    tasks = Tasks()
    await tasks.start("a", then=lambda _: tasks.wake("c"))
    await tasks.start("b", "c")

    seen = await in_callback(lambda: tasks.read("a", "b"))

    assert seen == [("a", "woken"), ("b", "woken"), ("c", "woken")]


@on_every_loop
async def test_outside_a_round_a_woken_task_runs_in_the_next_iteration():
    tasks = Tasks()
    await tasks.start("a")

    await in_callback(lambda: (tasks.wake("a"), tasks.seen.append("callback ends")))

    assert tasks.seen == ["callback ends", ("a", "woken")]


@on_every_loop
async def test_in_a_task_no_other_task_is_entered():
    tasks = Tasks()
    await tasks.start("a")

    assert tasks.read("a") == []
    await run_iterations()

    assert tasks.seen == [("a", "woken")]


@on_every_loop
async def test_a_read_within_a_step_belongs_to_the_same_round():
    tasks = Tasks()
    seen_inside = []
    await tasks.start("a", then=lambda _: seen_inside.append(tasks.read("b")))
    await tasks.start("b")

    seen = await in_callback(lambda: tasks.read("a"))

    assert seen_inside == [[("a", "woken")]]
    assert seen == [("a", "woken"), ("b", "woken")]


@on_every_loop
async def test_a_read_while_another_one_is_applied_belongs_to_the_same_round():
    tasks = Tasks()
    await tasks.start("a", "b")

    def apply():
        tasks.wake("a")
        tasks.read("b")
        tasks.seen.append("applied")

    await in_callback(lambda: tasks.wakeups.run_round(apply))

    assert tasks.seen == ["applied", ("a", "woken"), ("b", "woken")]


@on_every_loop
async def test_nodes_on_one_loop_have_separate_rounds():
    one, other = Tasks(), Tasks()
    await other.start("b")
    await one.start("a", then=lambda _: other.wake("b"))

    seen = await in_callback(lambda: (one.read("a"), list(other.seen)))
    assert seen == ([("a", "woken")], [])
    await run_iterations()

    assert other.seen == [("b", "woken")]


@on_every_loop
async def test_tasks_that_wake_each_other_without_end_leave_the_loop_to_others():
    wakeups = Wakeups()
    count, running = [0], True
    turns = {}

    async def player(name, other):
        turns[name] = Wait(wakeups)
        while running:
            await turns[name]
            turns[name] = Wait(wakeups)
            count[0] += 1
            turns[other].set_result(None)

    players = [asyncio.ensure_future(player(*names)) for names in (("a", "b"), ("b", "a"))]
    await run_iterations()

    await in_callback(lambda: wakeups.run_round(lambda: turns["a"].set_result(None)))

    assert 0 < count[0] <= module.MAX_ROUND_STEPS + 1
    for task in players:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*players)


def test_steps_above_the_bound_run_in_order_in_the_next_iteration():
    async def main():
        tasks = Tasks(max_steps=3)
        await tasks.start(*"abcde")

        seen = await in_callback(lambda: tasks.read(*"abcde"))
        assert seen == [(name, "woken") for name in "abc"]
        await run_iterations(1)

        assert tasks.seen == [(name, "woken") for name in "abcde"]

    run(main())


def test_a_round_ends_when_its_time_is_over():
    class Clock(SimulatedLoop):
        def pass_time(self, _name):
            self._now += module.MAX_ROUND_SECONDS / 2

    async def main():
        tasks = Tasks()
        await tasks.start(*map(str, range(20)), then=asyncio.get_running_loop().pass_time)

        seen = await in_callback(lambda: tasks.read(*map(str, range(20))))
        assert len(seen) == module.CLOCK_INTERVAL
        await run_iterations()

        assert tasks.seen == [(str(number), "woken") for number in range(20)]

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(main())


@on_every_loop
async def test_an_exception_of_a_step_is_reported_and_the_others_run():
    tasks, reports = Tasks(), []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    await tasks.start("a")
    error = ValueError("boom")

    def fail():
        raise error

    def apply():
        tasks.wakeups.schedule(loop, copy_context(), fail)
        tasks.wake("a")

    await in_callback(lambda: tasks.wakeups.run_round(apply))

    assert reports == [error]
    assert tasks.seen == [("a", "woken")]


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_an_exception_that_ends_the_loop_loses_no_step(end):
    tasks = Tasks()
    loop = asyncio.new_event_loop()

    def finish(_name):
        raise end

    async def main():
        await tasks.start("a", then=finish)
        await tasks.start("b")
        loop.call_soon(tasks.read, "a", "b")
        await run_iterations()

    main_task = loop.create_task(main())
    with pytest.raises(end):
        loop.run_until_complete(main_task)
    assert tasks.seen == [("a", "woken")]

    loop.run_until_complete(main_task)

    assert tasks.seen == [("a", "woken"), ("b", "woken")]
    with pytest.raises(end):
        tasks.tasks["a"].result()
    loop.close()


@on_every_loop
async def test_if_applying_fails_the_woken_tasks_run_in_the_next_iteration():
    tasks = Tasks()
    await tasks.start("a")

    def apply():
        tasks.wake("a")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await in_callback(lambda: tasks.wakeups.run_round(apply))
    await run_iterations()

    assert tasks.seen == [("a", "woken")]
    assert await in_callback(tasks.read) == tasks.seen  # the next round begins as usual


def test_steps_of_a_paused_machine_run_when_it_resumes():
    async def main():
        machine, tasks = asyncio.get_running_loop().machine("m"), Tasks()
        with machine:
            await tasks.start("a", then=lambda _: machine.pause())
            await tasks.start("b")

        seen = await in_callback(lambda: tasks.read("a", "b"))
        assert seen == [("a", "woken")]
        await run_iterations()
        assert tasks.seen == seen
        machine.resume()
        await run_iterations()

        assert tasks.seen == [("a", "woken"), ("b", "woken")]

    run_simulated(main)


def test_steps_of_a_killed_machine_never_run():
    async def main():
        machine, tasks = asyncio.get_running_loop().machine("m"), Tasks()
        with machine:
            await tasks.start("a", then=lambda _: machine.kill())
            await tasks.start("b")

        await in_callback(lambda: tasks.read("a", "b"))
        await run_iterations()

        assert tasks.seen == [("a", "woken")]

    run_simulated(main)


# Time limits


async def expiring(deadlines, seen, *limits):
    loop = asyncio.get_running_loop()
    wakeups = Wakeups()

    async def limited(number, seconds):
        wait = Wait(wakeups)
        deadlines.add(wait, seconds)
        with suppress(TimeoutError):
            await wait
        seen.append((number, round(loop.time(), 6), wait.timed_out))

    return [asyncio.ensure_future(limited(number, seconds)) for number, seconds in enumerate(limits)]


def timers():
    return [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]


def test_waits_expire_at_their_time_limits():
    async def main():
        deadlines, seen = Deadlines(), []
        await asyncio.gather(*await expiring(deadlines, seen, 5.0, 1.0, 5.0, 0.0, -1.0, 3.0))

        assert sorted(seen) == [
            (0, 5.0, True), (1, 1.0, True), (2, 5.0, True), (3, 0.0, True), (4, 0.0, True), (5, 3.0, True)
        ]  # fmt: skip
        assert len(deadlines) == 0
        assert timers() == []

    run(main())


def test_all_waits_share_one_timer():
    async def main():
        deadlines, seen = Deadlines(), []
        tasks = await expiring(deadlines, seen, *[5.0] * 10, *[7.0] * 10, 6.0)
        await run_iterations()

        assert len(timers()) == 1
        assert len(deadlines) == 21
        await asyncio.gather(*tasks)

    run(main())


def test_a_wait_that_was_removed_does_not_expire():
    async def main():
        deadlines, wait, other = Deadlines(), Wait(Wakeups()), Wait(Wakeups())
        deadlines.add(wait, 5.0)
        deadlines.add(other, 5.0)
        deadlines.remove(wait, 5.0)
        deadlines.remove(wait, 5.0)
        await asyncio.sleep(6.0)

        assert (wait.timed_out, other.timed_out) == (False, True)
        deadlines.remove(other, 5.0)
        assert len(deadlines) == 0

    run(main())


def test_a_shorter_limit_expires_first_while_a_longer_one_waits():
    async def main():
        deadlines, long, short = Deadlines(), Wait(Wakeups()), Wait(Wakeups())
        deadlines.add(long, 100.0)
        deadlines.add(short, 1.0)
        await asyncio.sleep(2.0)
        assert (long.timed_out, short.timed_out) == (False, True)
        await asyncio.sleep(99.0)

        assert long.timed_out

    run(main())


def test_a_wait_without_a_limit_is_not_kept():
    async def main():
        deadlines = Deadlines()
        deadlines.add(Wait(Wakeups()), float("inf"))

        assert len(deadlines) == 0
        assert timers() == []

    run(main())


def test_a_limit_after_the_result_leaves_the_result():
    async def main():
        wait = Wait(Wakeups())
        wait.set_result(1)
        wait.expire()

        assert (await wait, wait.timed_out) == (1, True)

    run(main())


def test_closing_cancels_the_timer():
    async def main():
        deadlines = Deadlines()
        deadlines.add(Wait(Wakeups()), 5.0)
        deadlines.close()

        assert len(deadlines) == 0
        assert timers() == []

    run(main())


def test_the_timer_runs_in_the_context_of_the_node():
    async def main():
        loop = asyncio.get_running_loop()
        machine, other = loop.machine("node"), loop.machine("process")
        with machine:
            deadlines = Deadlines()
        wait = Wait(Wakeups())
        with other:
            deadlines.add(wait, 1.0)
        other.kill()
        await asyncio.sleep(2.0)

        assert wait.timed_out

    run_simulated(main)
