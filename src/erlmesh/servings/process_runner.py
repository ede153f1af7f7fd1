"""Worker processes for a function: each has one interpreter and one GIL of its own.

A batch goes to a free worker through a pipe, in a thread that waits for the answer. If the worker ends before that (a
segmentation fault, ``kill -9``, the out-of-memory killer), the batch fails and another worker takes its place. A worker
that has ended between two batches fails none. If the system refuses a new process, the next batch tries it again.
"""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import pickle
import signal
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from erlmesh.errors import ErlangError
from erlmesh.net.event_log import event_log
from erlmesh.runtime.thread_pool import ThreadPool
from erlmesh.servings.outputs import checked_outputs
from erlmesh.servings.worker_process import FAILED, READY, run_worker
from erlmesh.terms import Atom

__all__ = ["ProcessRunner", "WorkerDied"]

log = event_log("erlmesh.serving")

BAD_INPUT: Final = Atom("bad_input")
END_TIMEOUT: Final = 5.0
"""Seconds to wait for the exit status of a worker whose pipe has closed."""


class WorkerDied(Exception):
    """A worker process has ended while it ran a batch."""


class _Worker:
    """One worker process and the pipe to it. The methods block: only a thread calls them."""

    def __init__(self, module: str, qualname: str) -> None:
        context = multiprocessing.get_context("spawn")  # A fork would copy the node with all its sockets.
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=run_worker, args=(theirs, module, qualname), daemon=True)
        self._process.start()
        theirs.close()  # Now the end of the worker is the end of the pipe.
        self._is_ready = False
        self._has_failed = False
        _living.add(self)

    @property
    def pid(self) -> int | None:
        """The pid of the operating system."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """True if it cannot run a batch any more. This does not block."""
        return self._has_failed or self._process.exitcode is not None

    def wait_ready(self) -> None:
        """Wait until it has imported the function. Raises WorkerDied, or the exception of the import."""
        if not self._is_ready:
            try:
                self._receive()
            except BaseException:
                self._has_failed = True
                raise
            self._is_ready = True

    def run(self, inputs: list[Any]) -> Any:
        """Return the outputs, or raise what the function has raised. Raises WorkerDied.

        An input that cannot be passed on has an exception in its place.
        """
        self.wait_ready()
        try:
            packed = _packed(inputs)
        except ErlangError:  # One caller has sent what fails here, and the others get their answers.
            good, errors = _separate(inputs)
        else:
            return self._run_packed(packed)
        outputs = iter(checked_outputs(self._run_packed(_packed(good)), len(good), "returned") if good else [])
        return [next(outputs) if error is None else error for error in errors]

    def _run_packed(self, inputs: bytes) -> Any:
        try:
            self._pipe.send_bytes(inputs)
        except OSError:
            raise self._died() from None
        return self._receive()

    def kill(self) -> None:
        """End it at once. A thread that reads the pipe notices, so the pipe is not closed here."""
        _living.discard(self)
        self._process.kill()
        # The end of a process with much memory takes a while, and the event loop must not wait for it.
        threading.Thread(target=self._process.join, daemon=True).start()

    def _receive(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if kind == FAILED:
            raise value
        assert kind == READY or kind is True
        return value

    def _died(self) -> WorkerDied:
        self._process.join(END_TIMEOUT)
        code = self._process.exitcode
        if code is not None and code < 0:
            return WorkerDied(f"the worker process was ended by signal {_signal_name(-code)} while it ran the batch")
        return WorkerDied(f"the worker process ended with exit status {code} while it ran the batch")


def _packed(value: Any) -> bytes:
    """Raises ErlangError for what pickle cannot read, as a term of many levels."""
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        text = f"the input cannot be passed to a worker process: {type(error).__name__}: {error}"
        raise ErlangError((BAD_INPUT, text)) from None


def _separate(inputs: list[Any]) -> tuple[list[Any], list[ErlangError | None]]:
    """Return the inputs that can be passed on, and for each input what is wrong with it."""
    good: list[Any] = []
    errors: list[ErlangError | None] = []
    for each in inputs:
        try:
            _packed([each])
        except ErlangError as error:
            errors.append(error)
        else:
            good.append(each)
            errors.append(None)
    return good, errors


_living: Final[weakref.WeakSet[_Worker]] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    """Workers ignore SIGTERM, for which multiprocessing would wait at the end of the program."""
    for worker in list(_living):
        worker.kill()


class ProcessRunner:
    """Runs a function in ``size`` processes. It is found there by module and name, so it is defined at module level."""

    is_streaming = False
    can_cancel = True

    def __init__(self, function: Callable[..., Any], name: str, size: int) -> None:
        self._target = (function.__module__, function.__qualname__)
        self._size = size
        self._name = name
        self._pool = ThreadPool(f"workers of {name}", size, size)
        self._free: list[_Worker] = []
        self._closed = False
        self.replaced = 0
        """The workers that have died and were replaced."""

    async def start(self) -> None:
        """Start the workers, and wait until all have imported the function."""
        try:
            for _ in range(self._size):
                self._free.append(_Worker(*self._target))
            for worker in self._free:  # They import at the same time; this waits for the slowest.
                await self._pool.run(worker.wait_ready)
        except BaseException:
            self.close()
            raise

    async def run(self, inputs: list[Any]) -> Any:
        """See :class:`~erlmesh.servings.runners.Runner`. Raises WorkerDied."""
        worker = self._take()
        try:
            outputs = await self._pool.run(worker.run, inputs)
        except (WorkerDied, asyncio.CancelledError) as error:  # Nobody reads what a cancelled batch will return.
            worker.kill()
            if not self._closed:
                self._replace(error)
            raise
        except BaseException:
            self._release(worker)
            raise
        self._release(worker)
        return outputs

    def stream(self, inputs: list[Any]) -> AsyncGenerator[Any, None]:
        """Not possible: a generator stays in its process."""
        raise NotImplementedError

    def close(self) -> None:
        """Kill the workers."""
        self._closed = True
        self._pool.close()
        for worker in self._free:
            worker.kill()
        self._free.clear()

    def _take(self) -> _Worker:
        """Return a worker that lives. Raises OSError if it cannot be started."""
        if not self._free:  # There are as many workers as batches at a time, so one could not be started.
            return _Worker(*self._target)
        worker = self._free.pop()
        if not worker.has_ended:
            return worker
        worker.kill()
        self.replaced += 1
        log.error(
            "serving_worker_ended", "%s: a worker process has ended between two batches; another one starts", self._name
        )
        return _Worker(*self._target)

    def _replace(self, error: BaseException) -> None:
        self.replaced += 1
        # A log record with an exception would keep the worker, whose methods are in the traceback.
        text = (
            str(error) if isinstance(error, WorkerDied) else "the time limit of a batch is over: its worker is killed"
        )
        log.error("serving_worker_ended", "%s: %s; another one starts", self._name, text)
        try:
            # It imports now, and the next batch waits for the rest of it.
            self._free.append(_Worker(*self._target))
        except OSError as refused:
            log.error(  # noqa: TRY400 - no bug
                "serving_worker_missing",
                "%s: no worker process can be started now (%s)",
                self._name,
                str(refused),
                reason=refused,
            )

    def _release(self, worker: _Worker) -> None:
        if self._closed:
            worker.kill()
        else:
            self._free.append(worker)


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
