"""The cluster of one test: an EPMD and nodes of every kind, which end with the test."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from beam import Beam, programs
from os_process import OsProcess, ProcessGone
from polling import wait_until
from pynode import PyNode
from repl_driver import ErlmeshShell, Iex

__all__ = ["Cluster", "free_port", "is_listening", "running_cluster"]

ProcessT = TypeVar("ProcessT", bound=OsProcess)


def free_port() -> int:
    """A free TCP port, below the range of ephemeral ports."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def is_listening(port: int) -> bool:
    """True if ``port`` of 127.0.0.1 accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


class Cluster:
    """Starts nodes that share one private EPMD port. OTP's epmd starts with the first node, unless ``otp_epmd`` is
    false: then a Python node has to be the EPMD.
    """

    def __init__(self, home: Path, *, epmd_port: int | None = None, otp_epmd: bool = True) -> None:
        self.home = home
        self.epmd_port = epmd_port or free_port()
        self.processes: list[OsProcess] = []
        self._otp_epmd = otp_epmd

    def beam(self, name: str, **options: Any) -> Beam:
        """An Erlang node; see :class:`beam.Beam` for the options (``otp=23``, ``cookie=``, ``arguments=``)."""
        return self._start(Beam, name, **options)

    def pynode(self, name: str, **options: Any) -> PyNode:
        """A Python node in its own process; see :class:`pynode.PyNode`."""
        return self._start(PyNode, name, **options)

    def iex(self, name: str, **options: Any) -> Iex:
        """A real iex with a pipe as its input."""
        return self._start(Iex, name, **options)

    def shell(self, name: str, **options: Any) -> ErlmeshShell:
        """``erlmesh shell`` with a pipe as its input."""
        return self._start(ErlmeshShell, name, **options)

    def start_epmd(self) -> OsProcess:
        """OTP's epmd, in the foreground, on the private port."""
        command = [str(programs() / "epmd"), "-port", str(self.epmd_port), "-address", "127.0.0.1"]
        epmd = OsProcess("epmd", command, {})
        self.processes.append(epmd)
        wait_until(lambda: is_listening(self.epmd_port) or not epmd.is_running(), what="an epmd that listens")
        if not epmd.is_running():
            raise ProcessGone(epmd.recent_log())
        return epmd

    def start_epmd_once(self) -> None:
        """Start the private EPMD once. Call this before several threads start nodes."""
        if self._otp_epmd:
            self._otp_epmd = False
            self.start_epmd()

    def _start(self, kind: Callable[..., ProcessT], name: str, **options: Any) -> ProcessT:
        self.start_epmd_once()
        peer = kind(name, epmd_port=self.epmd_port, home=self.home, **options)
        self.processes.append(peer)
        return peer

    def logs(self) -> str:
        """The logs of all processes, for the report of a failure."""
        return "".join(member.recent_log() for member in self.processes)

    def close(self) -> None:
        """End every process that was started here, the last one first."""
        while self.processes:
            self.processes.pop().close()


@contextlib.contextmanager
def running_cluster(home: Path, **options: Any) -> Iterator[Cluster]:
    """A cluster for a ``with`` statement."""
    cluster = Cluster(home, **options)
    try:
        yield cluster
    finally:
        cluster.close()
