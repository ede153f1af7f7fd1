"""The supervising process of ``erlmesh start --workers N``: it starts N nodes, and restarts those that fail.

::

    starting ── all are ready ──▶ running ── a signal, too many restarts ──▶ stopping ──▶ the end
        └── one ends before it was ready ────────────────────────────────────────▲

It runs no node and no code of the user. The restarts are those of a ``transient`` child of a supervisor of OTP: a node
that ends with status 0 is not started again. When all have ended, so does this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from typing import Final, TextIO

from erlmesh.cli.output import print_error, shown
from erlmesh.cli.shutdown import EXIT_SIGINT, SHUTDOWN_TIMEOUT
from erlmesh.cli.worker_slot import READY, STOP, VARIABLE, WorkerSlot, worker_name
from erlmesh.core.exit_reasons import NORMAL
from erlmesh.core.supervision import Child, ChildBook, Nothing, TooManyRestarts
from erlmesh.services.output import OutputQueue
from erlmesh.terms import Atom

__all__ = ["run_workers"]

MAX_SECONDS: Final = 30
"""More than N + 2 restarts within so many seconds end all workers. So the loss of all at once is survived. It is longer
than OTP's 5 seconds, because a program with a model takes a while to start, and to fail."""
SPARE_RESTARTS: Final = 2
KILL_MARGIN: Final = 2.0
"""Seconds from the end of the grace to SIGKILL. A node itself forces its exit after 0.8 seconds."""
OUTPUT_TIMEOUT: Final = 1.0
"""Seconds to read what a worker that has ended has printed. A process that it has started may hold its output open."""
MAX_LINE: Final = 64 * 1024
FAILED: Final = Atom("failed")
FORWARDED: Final = (signal.SIGUSR1, signal.SIGUSR2)
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_workers(name: str, count: int, grace: float, arguments: Sequence[str]) -> int:
    """Run ``erlmesh ARGUMENTS`` as ``count`` nodes until they end. Return the exit status."""
    return asyncio.run(_Supervisor(name, count, grace, arguments).run())


class _Worker:
    """One run of one worker."""

    def __init__(self, process: Process, control: socket.socket, outputs: tuple[int, int]) -> None:
        self.process = process
        self.control = control
        self.outputs = outputs
        """Where its stdout and its stderr are read."""
        self.is_ready = False

    def say_stop(self) -> None:
        """Ask it to stop in order."""
        with contextlib.suppress(OSError):  # It has ended.
            self.control.send(STOP)

    def signal(self, number: int) -> None:
        """Send it a signal, or SIGKILL to all of its process group."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)


class _Supervisor:
    def __init__(self, name: str, count: int, grace: float, arguments: Sequence[str]) -> None:
        self._name = name
        self._count = count
        self._grace = grace
        self._arguments = arguments
        self._book = ChildBook("one_for_one", count + SPARE_RESTARTS, MAX_SECONDS)
        self._workers: dict[int, _Worker] = {}
        self._output = OutputQueue()
        self._code = 0
        self._is_up = False
        self._stop_begun = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self._on_stop_signal, number)
        for number in FORWARDED:
            loop.add_signal_handler(number, self._forward, number)
        await asyncio.gather(*(self._supervise(number) for number in range(1, self._count + 1)))
        return self._code

    # Signals

    def _on_stop_signal(self, number: int) -> None:
        if self._stop_begun.is_set():  # The second one ends all at once.
            if number == signal.SIGINT:
                self._code = EXIT_SIGINT
            self._forward(signal.SIGKILL)
        self._stop()

    def _forward(self, number: int) -> None:
        for worker in self._workers.values():
            worker.signal(number)

    def _stop(self) -> None:
        if self._stop_begun.is_set():
            return
        self._stop_begun.set()
        for worker in self._workers.values():
            worker.say_stop()
        limit = self._grace + SHUTDOWN_TIMEOUT + KILL_MARGIN
        asyncio.get_running_loop().call_later(limit, self._forward, signal.SIGKILL)

    def _fail(self, text: str) -> None:
        if not self._stop_begun.is_set():
            print_error(text)
            self._code = 1
            self._stop()

    # Workers

    async def _supervise(self, number: int) -> None:
        """Run one worker until it is not started again."""
        name = worker_name(self._name, number)
        child = Child(number, "transient", None)
        self._book.add(child)
        while not self._stop_begun.is_set():
            try:
                worker = await self._start(number)
            except OSError as error:  # too many processes or descriptors
                self._fail(f"{name} cannot start: {error}")
                return
            code = await self._run_to_end(name, worker)
            del self._workers[number]
            if self._stop_begun.is_set():
                return
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"
            if not self._is_up and not worker.is_ready:
                self._fail(f"{name} {how} before it was ready")
                return
            match self._book.exited(child, FAILED if code else NORMAL, asyncio.get_running_loop().time()):
                case Nothing():
                    return
                case TooManyRestarts():
                    self._fail(f"{name} {how}: too many restarts within {MAX_SECONDS} s, so all workers stop")
                    return
            print_error(f"{name} {how}, and starts again")

    async def _start(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        # Not the pipes of asyncio: before Python 3.13 it reports the end of a process only when they are closed, too.
        (out, child_out), (err, child_err) = os.pipe(), os.pipe()
        slot = WorkerSlot(number, self._count, theirs.fileno(), self._name)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "erlmesh", *self._arguments),
                stdin=DEVNULL,
                stdout=child_out,
                stderr=child_err,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in the terminal reaches this process only.
                env={**os.environ, VARIABLE: slot.as_text(), "PYTHONUNBUFFERED": "1"},
            )
        finally:
            theirs.close()
            os.close(child_out)
            os.close(child_err)
        ours.setblocking(False)
        worker = self._workers[number] = _Worker(process, ours, (out, err))
        if self._stop_begun.is_set():  # A signal came meanwhile.
            worker.say_stop()
        return worker

    async def _run_to_end(self, name: str, worker: _Worker) -> int:
        """Pass on what a worker prints until it has ended. Return its exit status, or minus its signal."""
        prefix = f"[{name.partition('@')[0]}] "
        pumps = [
            asyncio.ensure_future(self._pump(fd, stream, prefix))
            for fd, stream in zip(worker.outputs, (sys.stdout, sys.stderr), strict=True)
        ]
        ready = asyncio.ensure_future(self._await_ready(worker))
        code = await worker.process.wait()
        worker.signal(signal.SIGKILL)  # What it has started may hold its output open.
        await asyncio.wait([*pumps, ready], timeout=OUTPUT_TIMEOUT)
        for each in (*pumps, ready):
            each.cancel()
        await asyncio.gather(*pumps, ready, return_exceptions=True)
        worker.control.close()
        return code

    async def _await_ready(self, worker: _Worker) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            if await loop.sock_recv(worker.control, len(READY)) != READY:
                return
            worker.is_ready = True
            if not self._is_up and sum(each.is_ready for each in self._workers.values()) == self._count:
                self._is_up = True
                names = ", ".join(worker_name(self._name, number) for number in range(1, self._count + 1))
                print(f"{self._name} is up: {self._count} workers, {names}", flush=True)

    async def _pump(self, fd: int, stream: TextIO, prefix: str) -> None:
        reader = asyncio.StreamReader()
        pipe = os.fdopen(fd, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        rest = b""
        try:
            while data := await reader.read(MAX_LINE):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) >= MAX_LINE:
                    lines.append(rest)
                    rest = b""
                self._print(stream, prefix, lines)
        finally:
            transport.close()
            self._print(stream, prefix, [rest] if rest else [])

    def _print(self, stream: TextIO, prefix: str, lines: list[bytes]) -> None:
        # A line of the log in JSON names its node, and must stay JSON.
        starts = ("" if line.startswith(b'{"time": ') else prefix for line in lines)
        text = "".join(
            f"{start}{shown(line.decode(errors='replace'))}\n" for start, line in zip(starts, lines, strict=True)
        )
        if text:
            with contextlib.suppress(OSError, ValueError):  # Nobody reads any more.
                self._output.write(stream, text)
