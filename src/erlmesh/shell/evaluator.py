"""Run lines in a process of the node. Other processes can send to ``self()``, monitor it and kill it.

The process can exit: another process kills it, or a linked process fails. Then the running line ends, and a new
process replaces it. The new process has a new pid and is in no group. Names bound so far stay bound.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from inspect import CO_COROUTINE, isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias

from erlmesh.core.exit_reasons import KILL
from erlmesh.records import record
from erlmesh.shell.commands import is_command
from erlmesh.shell.interrupts import Interrupts
from erlmesh.shell.parser import TOP_LEVEL_AWAIT
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.node import Node, Process

__all__ = ["Evaluator", "Exited", "Interrupted", "Outcome", "ProcessDied", "Raised", "Value"]


@record(frozen=True)
class Value:
    """The line ended. ``value`` is the value of its last expression, or None if it does not end with one."""

    value: Any


@record(frozen=True)
class Raised:
    """The line raised ``error``."""

    error: BaseException


@record(frozen=True)
class Interrupted:
    """The line was stopped by Ctrl-C."""


@record(frozen=True)
class Exited:
    """The line called ``exit()`` or ``sys.exit(2)``: the session ends with this exit code."""

    code: int


@record(frozen=True)
class ProcessDied:
    """The process that ran the line exited with ``reason``."""

    reason: Term


Outcome: TypeAlias = Value | Raised | Interrupted | Exited | ProcessDied


@record
class _Job:
    tree: ast.Module
    filename: str
    done: asyncio.Future[Outcome]


class Evaluator:
    """Runs the lines of one session, one at a time.

    ``on_process_exit(pid, reason)`` is called after the shell's process exited and a new one was started.
    """

    def __init__(
        self,
        node: Node,
        namespace: dict[str, Any],
        interrupts: Interrupts,
        on_process_exit: Callable[[Pid, Term], None],
    ) -> None:
        self._node = node
        self._namespace = namespace
        self._interrupts = interrupts
        self._on_process_exit = on_process_exit
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._running: _Job | None = None
        self._started: asyncio.Future[Process] | None = None
        self._monitor_process: Process | None = None
        self._closed = False

    @property
    def me(self) -> Process:
        """The process that runs the lines. Raises RuntimeError until :meth:`process` has returned once."""
        if self._started is None or not self._started.done():
            raise RuntimeError("the shell's process has not started yet")
        return self._started.result()

    async def process(self) -> Process:
        """Return the process that runs the lines. Starts it if there is none."""
        return await asyncio.shield(self._started or self._start())

    def _start(self) -> asyncio.Future[Process]:
        self._started = asyncio.get_running_loop().create_future()
        self._jobs = asyncio.Queue()
        pid = self._node.spawn(self._body, self._started)
        if self._monitor_process is None:
            self._monitor_process = self._node.spawn_handler(self._on_down)
        self._monitor_process.monitor(pid)
        return self._started

    async def run(self, tree: ast.Module, filename: str) -> Outcome:
        """Run one line and return its outcome. Exceptions of the line are part of the outcome, not raised."""
        await self.process()
        self._running = job = _Job(tree, filename, asyncio.get_running_loop().create_future())
        self._jobs.put_nowait(job)
        try:
            return await job.done
        finally:
            self._running = None

    def close(self) -> None:
        """Expect the shell's process to exit: do not report it and do not start another."""
        self._closed = True

    def terminate(self) -> None:
        """Kill the shell's process, and the line that it runs."""
        self.close()
        if self._monitor_process is None:
            return
        if self._started is not None and self._started.done():
            self._monitor_process.exit(self._started.result().pid, KILL)
        self._monitor_process.exit(self._monitor_process.pid, KILL)

    async def _body(self, me: Process, started: asyncio.Future[Process]) -> None:
        started.set_result(me)
        while True:
            job = await self._jobs.get()
            line = asyncio.get_running_loop().create_task(self._evaluate(job))
            try:
                with self._interrupts.cancel_on_sigint(line):
                    await asyncio.wait([line])
            finally:
                line.cancel()
            if not job.done.done():
                job.done.set_result(Interrupted() if line.cancelled() else line.result())

    def _on_down(self, message: Term) -> None:
        match message:
            case (Atom("DOWN"), _, _, Pid() as pid, reason) if not self._closed:
                self._start()
                self._on_process_exit(pid, reason)
                if self._running is not None and not self._running.done.done():
                    self._running.done.set_result(ProcessDied(reason))

    async def _evaluate(self, job: _Job) -> Outcome:
        try:
            return Value(await self._interrupts.run_interruptible(self._run_tree(job)))
        except KeyboardInterrupt:
            return Interrupted()
        except SystemExit as error:  # from inside a task it would stop the event loop, and so the node
            return Exited(error.code if isinstance(error.code, int) else int(error.code is not None))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return Raised(error)  # the line awaited a cancelled task; the line itself was not cancelled
        except Exception as error:
            return Raised(error)

    async def _run_tree(self, job: _Job) -> Any:
        body = job.tree.body
        last = body[-1] if body and isinstance(body[-1], ast.Expr) else None
        statements = body[:-1] if last is not None else body
        if statements:
            await self._execute(ast.Module(statements, []), job.filename, "exec")
        if last is None:
            return None
        value = await self._execute(ast.Expression(last.value), job.filename, "eval")
        if is_command(value):
            value = value()  # the command was written without parentheses
        while isawaitable(value) and not isinstance(value, asyncio.Task):  # a task runs in the background on purpose
            value = await value
        return value

    async def _execute(self, tree: ast.Module | ast.Expression, filename: str, mode: str) -> Any:
        code = compile(tree, filename, mode, TOP_LEVEL_AWAIT)
        value = eval(code, self._namespace)
        return await value if code.co_flags & CO_COROUTINE else value
