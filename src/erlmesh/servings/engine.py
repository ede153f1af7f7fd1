"""Collects requests into batches, runs the function for each batch, and answers the callers.

The decisions are those of :class:`~erlmesh.core.batching.BatchBook`. This adds the timer and the tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from erlmesh.behaviours.cancellation import require_cancelled_task
from erlmesh.core.batching import FOREVER, BatchBook, Entry
from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.etf import encode_term
from erlmesh.net.event_log import event_log
from erlmesh.runtime.exceptions import to_erlang
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.servings.outputs import checked_outputs
from erlmesh.servings.requests import Request
from erlmesh.servings.runners import Runner
from erlmesh.terms import Atom, Term

__all__ = ["OVERLOADED", "ServingEngine"]

log = event_log("erlmesh.serving")
_peer_log = PeerLog(log)

OVERLOADED: Final = Atom("overloaded")
TIMEOUT: Final = Atom("timeout")


class ServingEngine:
    """The batches of one serving on one node.

    ``on_idle()`` is called when nothing waits or runs any more.
    """

    def __init__(
        self,
        label: str,
        runner: Runner,
        book: BatchBook[Request],
        *,
        on_idle: Callable[[], object],
    ) -> None:
        self._label = label
        self._runner = runner
        self.book = book
        self._on_idle = on_idle
        self._tasks: dict[asyncio.Task[None], list[Entry[Request]]] = {}
        """The batches that run."""
        self._abandoned: set[asyncio.Task[None]] = set()
        """The tasks of batches whose requests are all over. They were cancelled."""
        self._timer: asyncio.TimerHandle | None = None
        self._closed: tuple[Term] | None = None
        self._drained = asyncio.Event()

    async def start(self) -> None:
        """Prepare the runner. Raises what it raises."""
        await self._runner.start()

    def submit(self, request: Request) -> Term | None:
        """Take a request. Return the reason if it is refused, and None if its caller gets the answer later."""
        if self._closed is not None:
            return self._closed[0]
        if not self.book.add(request, asyncio.get_running_loop().time(), request.size):
            return OVERLOADED
        self._drained.clear()
        self._advance()
        return None

    def finish_soon(self) -> None:
        """No more requests are expected: start the batches without waiting for others."""
        self.book.closing = True
        self._advance()

    async def finish(self) -> None:
        """Do the same, and wait until all requests are answered."""
        self.finish_soon()
        if not self.book.idle:
            await self._drained.wait()

    def close(self, reason: Term) -> None:
        """End now. All requests that have no answer yet fail with ``reason``."""
        self._closed = (reason,)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for request in self.book.take_all():
            _fail(request, reason)
        self._runner.close()

    def _advance(self) -> None:
        """Do all that is due now, and set the timer for the next time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed is not None:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        expired = self.book.expire(now)
        for request in expired:
            _fail(request, TIMEOUT)
        if expired and self._runner.can_cancel:
            self._abandon_batches()
        while batch := self.book.next_batch(now):
            task = loop.create_task(self._run(batch))
            self._tasks[task] = batch
            task.add_done_callback(self._task_done)
        deadline = self.book.next_deadline()
        if deadline != FOREVER:
            self._timer = loop.call_at(deadline, self._advance)
        if self.book.idle:
            self._drained.set()
            self._on_idle()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)
        self._abandoned.discard(task)

    def _abandon_batches(self) -> None:
        """Cancel the batches that nobody waits for, so that one that hangs does not keep its slot."""
        for task, batch in self._tasks.items():
            if task not in self._abandoned and not any(self.book.is_open(entry) for entry in batch):
                self._abandoned.add(task)
                task.cancel()

    async def _run(self, batch: list[Entry[Request]]) -> None:
        """Run one batch to its end. An exception answers the callers of this batch, and nobody else."""
        try:
            inputs = [entry.request.input for entry in batch]
            if self._runner.is_streaming:
                await self._stream(batch, inputs)
                outputs: list[Any] | None = None
            else:
                outputs = checked_outputs(await self._runner.run(inputs), len(inputs), "returned")
        except asyncio.CancelledError:
            if self._closed is not None:
                raise
            is_abandoned = asyncio.current_task() in self._abandoned
            self._finished(batch, error=Exit(TIMEOUT) if is_abandoned else _own_cancellation())
        except (Exception, SystemExit) as error:  # sys.exit() in the function ends the batch, not the node
            self._finished(batch, error=error)
        else:
            self._finished(batch, outputs)

    async def _stream(self, batch: list[Entry[Request]], inputs: list[Any]) -> None:
        stream = self._runner.stream(inputs)
        try:
            async for step in stream:
                for entry, event in zip(batch, checked_outputs(step, len(batch), "yielded"), strict=True):
                    if event is not None and self.book.is_open(entry):
                        _deliver(entry.request, entry.request.event, event)
                        await entry.request.drain()
                if not any(self.book.is_open(entry) for entry in batch):
                    return  # Nobody reads the rest.
        finally:
            await stream.aclose()

    def _finished(
        self, batch: list[Entry[Request]], outputs: list[Any] | None = None, error: BaseException | None = None
    ) -> None:
        requests = self.book.finished(batch)
        if error is not None:
            self.book.statistics.failed_batches += 1
            reason = self._reason_of(error, len(batch))
            for failed in filter(None, requests):
                _fail(failed, reason)
        else:
            # The generator of a stream ends without outputs.
            for request, output in zip(requests, outputs or [None] * len(batch), strict=True):
                if request is not None:
                    self._answer(request, output, is_stream=outputs is None)
        self._advance()

    def _answer(self, request: Request, output: Any, *, is_stream: bool) -> None:
        if is_stream:
            _deliver(request, lambda _: request.end_stream(), None)
        elif isinstance(output, Exception):  # The function says so for one of its inputs.
            _fail(request, to_erlang(output)[1])
        else:
            _deliver(request, request.result, output)

    def _reason_of(self, error: BaseException, size: int) -> Term:
        """Return the reason for the callers of a batch. It is logged if it does not stand for an Erlang error."""
        if not isinstance(error, (Exit, Throw, ErlangError)):
            # Inputs of callers may be what fails, so they must not fill the log.
            line = getattr(error, "worker_line", None)  # A stack does not leave its process.
            where = "" if line is None else f" in a worker process, at {line}"
            text = "%s: a batch of %d failed%s"
            _peer_log.write(logging.ERROR, "serving_failed", self._label, text, self._label, size, where, error=error)
        return to_erlang(error)[1]


def _deliver(request: Request, how: Callable[[Any], None], output: Any) -> None:
    """Give one output to its caller. If it is not a term, this caller alone gets the error."""
    try:
        how(output)
    except Exception as error:
        _peer_log.write(
            logging.ERROR, "serving_answer_failed", "", "an output cannot be sent to its caller", error=error
        )
        _fail(request, to_erlang(error)[1])


def _fail(request: Request, reason: Term) -> None:
    """Give the reason to a caller. One that is not a term is told as text: it must not cost others their answers."""
    try:
        encode_term(reason)
    except Exception:
        reason = repr(reason).encode("utf-8", "backslashreplace").decode()
    try:
        request.fail(reason)
    except Exception as error:
        _peer_log.write(
            logging.ERROR, "serving_answer_failed", "", "a reason cannot be sent to its caller", error=error
        )


def _own_cancellation() -> BaseException:
    """Return the error of a function that has awaited something which was cancelled."""
    try:
        require_cancelled_task()
    except RuntimeError as error:
        return error
    return Exit(Atom("killed"))
