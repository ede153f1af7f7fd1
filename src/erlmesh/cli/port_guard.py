"""The process between a BEAM and a node that the BEAM has started under a port.

``erlmesh start --under-port`` forks before it imports anything large::

    BEAM ── stdin ──> guard ── fork ──> node, with a process group of its own

A BEAM sends no signal when it closes a port or ends: it only closes stdin. The guard reads stdin and never runs user
code, so it reacts also while a C function in the node holds the GIL:

=====================  ===========================================================================================
stdin                  the guard
=====================  ===========================================================================================
the first line         passes the cookie to the node
``stop``, or its end   sends SIGTERM to the node. After the node's grace it kills the process group
``kill``               kills the process group
=====================  ===========================================================================================

When the node has ended, the guard kills what is left of its process group and ends with the same status. If the guard
is killed, Linux kills the node (``PR_SET_PDEATHSIG``). Elsewhere the node stops at the end of its pipe from the guard.

The kernel kills only the node then: a forked process does not inherit ``PR_SET_PDEATHSIG``. ``Erlmesh.Python`` sees the
end of the guard and kills the process group. If the guard and the BEAM are killed together, processes that the node has
started stay. A subreaper would not change this: it adopts orphans, and ends nothing when it is killed itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import Final

__all__ = ["GuardConnection", "guard_connection", "start_guard"]

KILL_MARGIN: Final = 2.0
"""Seconds from the end of the node's grace to SIGKILL. The node itself forces its exit after 0.8 seconds."""
ORPHAN_GRACE: Final = 1.0
"""The grace of a node whose BEAM has died. The next BEAM may start soon, and its node needs the same name."""
ORPHAN_CHECK: Final = 0.2
"""Seconds between two looks at the parent while the node stops: stdin ends a moment before the parent does."""
MAX_LINE: Final = 1024
MAX_READ: Final = 4096
PR_SET_PDEATHSIG: Final = 1


class GuardConnection:
    """The node's side. ``fd`` delivers the cookie as one line. Its end means that the guard has ended."""

    def __init__(self, fd: int, grace_fd: int) -> None:
        self.fd = fd
        self._grace_fd = grace_fd

    def send_grace(self, seconds: float) -> None:
        """Tell the guard how long the node may take to stop."""
        with contextlib.suppress(OSError):
            os.write(self._grace_fd, f"{seconds}\n".encode())


_connection: Final[list[GuardConnection]] = []


def guard_connection() -> GuardConnection | None:
    """Return the connection of this node to its guard, if it has one."""
    return _connection[0] if _connection else None


def start_guard() -> None:
    """Fork. Return in the process of the node only: the guard runs until the node has ended, and exits."""
    from_guard, to_node = os.pipe()
    from_node, to_guard = os.pipe()
    guard = os.getpid()
    node = os.fork()
    if node:
        os.close(from_guard)
        os.close(to_guard)
        with contextlib.suppress(OSError):  # the node has done it, or has already ended
            os.setpgid(node, node)
        os._exit(_Guard(node, to_node, from_node).run())
    os.close(to_node)
    os.close(from_node)
    os.setpgid(0, 0)
    _end_with(guard)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # stdin is the guard's
    os.close(null)
    _connection.append(GuardConnection(from_guard, to_guard))


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, where the kernel can do that."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # It ended before the call, so no signal comes.
        os._exit(1)


class _Guard:
    """The guard's side: a loop until the node has ended."""

    def __init__(self, node: int, to_node: int, from_node: int) -> None:
        self._node = node
        self._to_node = to_node
        self._from_node = from_node
        self._parent = os.getppid()
        self._grace = 0.0
        """The node has not started before it says what its grace is."""
        self._input = b""
        self._has_cookie = False
        self._stopping_since: float | None = None
        self._poll = select.poll()
        self._wakeup = os.pipe()

    def run(self) -> int:
        """Return the exit status of the node, or 128 + the signal that ended it."""
        for fd in self._wakeup:
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it only ends the wait
        for fd in (0, self._from_node, self._wakeup[0]):
            self._poll.register(fd, select.POLLIN)
        while (status := self._status()) is None:
            for fd, _ in self._poll.poll(self._timeout()):
                self._read(fd)
            if self._is_overdue():
                self._report_kill()
                self._kill()
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def _status(self) -> int | None:
        """Reap the node if it has ended, after the rest of its process group is killed."""
        if hasattr(os, "waitid"):
            # While the ended node is not reaped, no other process can get its number.
            if os.waitid(os.P_PID, self._node, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._kill()
            return os.waitpid(self._node, 0)[1]
        ended, status = os.waitpid(self._node, os.WNOHANG)
        if not ended:
            return None
        self._kill()
        return status

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, MAX_READ)
        except BlockingIOError:
            return
        if fd == self._from_node:
            with contextlib.suppress(ValueError, IndexError):
                self._grace = float(data.split()[-1])
            if not data:
                self._poll.unregister(fd)
        elif fd == 0 and data:
            self._take_lines(data)
        elif fd == 0:
            self._poll.unregister(fd)
            self._stop()

    def _take_lines(self, data: bytes) -> None:
        *lines, self._input = (self._input + data).split(b"\n")
        self._input = self._input[:MAX_LINE]
        for line in lines:
            if not self._has_cookie:
                self._has_cookie = True
                with contextlib.suppress(OSError):  # the node has already ended
                    os.write(self._to_node, line[:MAX_LINE] + b"\n")
            elif line == b"stop":
                self._stop()
            elif line == b"kill":
                self._kill()

    def _stop(self) -> None:
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            with contextlib.suppress(OSError):
                os.kill(self._node, signal.SIGTERM)
            if not self._has_cookie:
                os.close(self._to_node)  # the node waits for it
                self._has_cookie = True

    def _timeout(self) -> float | None:
        """Return milliseconds for ``poll``."""
        return None if self._stopping_since is None else ORPHAN_CHECK * 1000

    def _is_overdue(self) -> bool:
        if self._stopping_since is None:
            return False
        is_orphan = os.getppid() != self._parent
        limit = min(self._grace, ORPHAN_GRACE) if is_orphan else self._grace + KILL_MARGIN
        return time.monotonic() - self._stopping_since > limit

    def _kill(self) -> None:
        with contextlib.suppress(OSError):  # nothing is left of the group
            os.killpg(self._node, signal.SIGKILL)

    def _report_kill(self) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more
            os.write(1, b"\x1elog error erlmesh the node did not stop in time and is killed\n")
