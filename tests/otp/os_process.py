"""An operating system process that a test drives by lines. Both kinds of node are built on it.

A request is one line, ``NUMBER FIELD ...`` with base64 fields; its answer is one line, ``\\x02 NUMBER ok|error FIELD``.
Everything else the process prints is its log, shown if the test fails.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from erlmesh.terms import Pid
from polling import HANG

__all__ = ["EvaluationFailed", "NodeProcess", "OsProcess", "ProcessGone", "sorted_pids"]

MARK = "\x02"
LOG_LINES = 400


class ProcessGone(AssertionError):
    """The process ended, or did not answer in time. The message has its log."""


class EvaluationFailed(AssertionError):
    """The evaluation raised an exception on the other side. The message has its text."""


class OsProcess:
    """A process with its output collected line by line. Signals go to its pid and to nothing else."""

    def __init__(self, title: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.title = title
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {title}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """``kill -9``. The process has ended when this returns."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self.wait()

    def stop(self) -> None:
        """SIGSTOP: the process pauses, its sockets stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT after :meth:`stop`."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM; does not wait."""
        self._process.terminate()

    def wait(self, timeout: float = HANG) -> int:
        """Wait until the process has ended and all its output is read. Return the exit status."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessGone(f"{self.title} still runs after {timeout} s\n{self.recent_log()}") from None
        self._reader.join(timeout)
        if not self._reader.is_alive():
            self._close_pipes()
        return status

    def close(self) -> None:
        """End the process in any state. May be called again."""
        if self.is_running():
            self.kill()
        else:
            self.wait()

    def recent_log(self) -> str:
        """Its last output, for the message of a failure."""
        lines = "".join(f"    {line}\n" for line in list(self.log))
        return f"--- {self.title}, {'running' if self.is_running() else f'exited {self._process.returncode}'}\n{lines}"

    def logged(self, text: str) -> bool:
        """True if a line of its output contains ``text``."""
        return any(text in line for line in list(self.log))

    def write(self, line: str) -> None:
        """Write one line to its standard input. Raises PeerGone if nobody is there to read it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise ProcessGone(f"{self.title} is gone\n{self.recent_log()}") from None

    def line_received(self, line: str) -> None:
        """One line of output (in the reader's thread)."""
        self.log.append(line)

    def output_ended(self) -> None:
        """Called after the last line of output (in the reader's thread)."""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            self.line_received(raw.decode(errors="replace").rstrip("\r\n"))
        self.output_ended()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class NodeProcess(OsProcess):
    """A node in a process of its own that evaluates what it is asked. Ready when the constructor returns.

    ``inside`` is what comes before the command to run it elsewhere, such as in a network namespace; it must exec.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        core: int | None = None,
        exec_prefix: Sequence[str] = (),
        start_timeout: float = HANG,
    ) -> None:
        self.name = name
        self._numbers = itertools.count(1)
        self._pending: dict[int, Future[bytes]] = {0: Future()}
        self._ready = self._pending[0]
        super().__init__(name, [*exec_prefix, *pin_to_core(command, core)], environment)
        try:
            self._wait(self._ready, start_timeout, "to be ready")
        except BaseException:
            self.close()
            raise

    def request(self, *fields: bytes, timeout: float = HANG) -> bytes:
        """Sends one request and waits for its answer. Raises EvaluationFailed or PeerGone."""
        number, answer = next(self._numbers), Future[bytes]()
        self._pending[number] = answer
        if self._ready.exception() is None and not self._reader.is_alive():
            self.output_ended()
        self.write(" ".join([str(number), *(base64.b64encode(field).decode() or "-" for field in fields)]))
        return self._wait(answer, timeout, "to answer")

    async def request_async(self, *fields: bytes, timeout: float = HANG) -> bytes:
        """The same for a test with a node in its own event loop, which must keep running."""
        return await asyncio.to_thread(self.request, *fields, timeout=timeout)

    def _wait(self, answer: Future[bytes], timeout: float, what: str) -> bytes:
        try:
            return answer.result(timeout)
        except FutureTimeout:
            raise ProcessGone(f"{self.title} took more than {timeout} s {what}\n{self.recent_log()}") from None
        except EvaluationFailed as failure:
            raise EvaluationFailed(f"{failure}\n{self.recent_log()}") from None

    def line_received(self, line: str) -> None:
        if not line.startswith(MARK):
            super().line_received(line)
            return
        _, number, verdict, value = line.split(" ", 3)
        answer, content = self._pending.pop(int(number)), base64.b64decode(value)
        if verdict == "ok":
            answer.set_result(content)
        else:
            answer.set_exception(EvaluationFailed(f"{self.title}: {content.decode(errors='replace')}"))

    def output_ended(self) -> None:
        while self._pending:
            _, answer = self._pending.popitem()
            answer.set_exception(ProcessGone(f"{self.title} ended\n{self.recent_log()}"))


def pin_to_core(command: Sequence[str], core: int | None) -> list[str]:
    """Return ``command`` pinned to one core, if ``core`` is given."""
    return list(command) if core is None else ["taskset", "--cpu-list", str(core), *command]


def sorted_pids(pids: Iterable[Pid]) -> list[Pid]:
    """Members in a comparable order: by node, number and creation."""
    return sorted(pids, key=lambda pid: (pid.node.name, pid.id, pid.serial, pid.creation))
