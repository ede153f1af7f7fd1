"""Mutants of waits, rounds and time limits."""

from simulation.mutants.mutation import Mutant

WAKEUPS = "erlmesh.runtime.wakeups:"
DEADLINES = "erlmesh.runtime.deadlines:Deadlines."

MUTANTS = [
    Mutant(
        WAKEUPS + "PureWakeups.schedule",
        "a woken process runs between two signals of a read",
        "steps.append((context, callback, arguments))",
        "context.run(callback, *arguments)",
    ),
    Mutant(
        WAKEUPS + "PureWakeups.run_round",
        "a round runs inside a task",
        "if self._steps is not None or asyncio.current_task(loop) is not None:",
        "if self._steps is not None:",
    ),
    Mutant(
        WAKEUPS + "PureWakeups.run_round",
        "a read inside a round starts a second round",
        "if self._steps is not None or asyncio.current_task(loop) is not None:",
        "if asyncio.current_task(loop) is not None:",
    ),
    Mutant(
        WAKEUPS + "PureWakeups.run_round",
        "steps above the bound of a round are lost",
        "for context, callback, step_arguments in steps:",
        "for context, callback, step_arguments in ():",
    ),
    Mutant(
        WAKEUPS + "PureWakeups.run_round",
        "a round never ends for the processes that are woken up later",
        "self._steps = None",
        "pass",
    ),
    Mutant(
        WAKEUPS + "PureWakeups.run_round",
        "a woken process runs in the next loop iteration",
        "if steps:",
        "if False:",
    ),
    Mutant(
        WAKEUPS + "PureWakeups._run_steps",
        "the steps of a round are not bounded",
        "for count in range(1, self._max_steps + 1):",
        "for count in range(1, 100_000_000):",
    ),
    Mutant(
        WAKEUPS + "PureWakeups._run_steps",
        "the time of a round is not bounded",
        "loop.time() >= end",
        "False",
    ),
    Mutant(
        WAKEUPS + "PureWakeups._run_steps",
        "woken processes run in the wrong order",
        "steps.popleft()",
        "steps.pop()",
    ),
    Mutant(
        WAKEUPS + "PureWakeups._run_steps",
        "an exception of a step ends the round",
        'loop.call_exception_handler({"message": message, "exception": error})',
        "raise",
    ),
    Mutant(
        WAKEUPS + "PureWakeups._run_steps",
        "the step of a killed machine runs",
        "if may_run is not None and not may_run(context):",
        "if False:",
    ),
    Mutant(
        WAKEUPS + "PureWait.cancel",
        "a process that was killed before its step runs on",
        "return False",
        "return True",
    ),
    Mutant(
        WAKEUPS + "PureWait.cancel",
        "a waiting process cannot be cancelled",
        "self.set_exception(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))",
        "pass",
    ),
    Mutant(
        WAKEUPS + "PureWait.expire",
        "a time limit after the wake-up is lost",
        "self.timed_out = True",
        "self.timed_out = not self._done",
    ),
    Mutant(
        "erlmesh.runtime.mailbox:PureMailbox.put",
        "a cancelled wait swallows a message",
        "waiting.set_result(None)",
        "self.pop() if waiting.done() else waiting.set_result(None)",
    ),
    Mutant(
        "erlmesh.runtime.mailbox:PureMailbox.put",
        "a message wakes up no process",
        "waiting.set_result(None)",
        "pass",
    ),
    Mutant(
        "erlmesh.runtime.process:LocalProcess._wait",
        "a cancelled receive removes the wait of another task",
        "if mailbox.waiting is wait:",
        "if True:",
    ),
    Mutant(
        DEADLINES + "add",
        "a shorter time limit does not move the timer",
        "if expires_at < self._timer_at:",
        "if self._timer is None:",
    ),
    Mutant(
        DEADLINES + "_on_timer",
        "the timer does not start again for later time limits",
        "if next_at != math.inf:",
        "if False:",
    ),
    Mutant(
        DEADLINES + "remove",
        "the time limit of a call that has ended is kept",
        "queue.pop(wait, None)",
        "pass",
    ),
]
