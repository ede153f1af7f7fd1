"""The nodes of a benchmark: each contender twice, on the core of its clock node and on a core of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import ROOT, Contender
from bench.tls_files import TlsFiles

sys.path.insert(0, str(ROOT / "tests" / "otp"))

from beam import Beam, installed_otp, programs
from cluster import Cluster
from os_process import EvaluationFailed, ProcessGone
from pynode import PyNode

__all__ = ["CLOCK_CORE", "OTHER_CORE", "Beam", "BenchHarness", "MeasureFailed", "Pair", "PyNode", "measuring"]

CLOCK_CORE, OTHER_CORE = 0, 1
TIME_LIMIT = 60.0
"""Seconds for one evaluation on a node."""


class MeasureFailed(Exception):
    """A node ended, failed or did not answer in time. The message names the row and has the output of the node."""


@dataclass(frozen=True)
class Pair:
    """A clock node, which is a BEAM, and the node that it measures."""

    clock: Beam
    node: Beam | PyNode


class BenchHarness:
    """All running nodes. ``scale`` multiplies the numbers of messages; 1.0 is a full run."""

    def __init__(self, cluster: Cluster, scratch: Path, *, scale: float = 1.0, time_limit: float = TIME_LIMIT) -> None:
        self.cluster = cluster
        self.time_limit = time_limit
        self._scale = scale
        self._scratch = scratch
        self._started = 0
        self._pairs: dict[tuple[Contender, int, bool], Pair] = {}
        self._tls_files: TlsFiles | None = None
        """Made at the first use."""
        source = ROOT / "bench" / "mesh_bench.erl"
        subprocess.run([programs() / "erlc", "-o", scratch, source], check=True, stdin=subprocess.DEVNULL)
        cluster.start_epmd_once()

    def otp_release(self) -> str:
        """The release of the BEAM contender."""
        return str(installed_otp())

    def count(self, full: int, *, multiple_of: int = 1) -> int:
        """A number of messages for this run, not 0."""
        return max(1, round(full * self._scale / multiple_of)) * multiple_of

    def pair(self, contender: Contender, core: int, *, tls: bool = False) -> Pair:
        """The contender on ``core`` and its clock node on ``CLOCK_CORE``, connected. They start at the first use."""
        pair = self._pairs.get((contender, core, tls))
        if pair is None:
            clock, node = self._start_beam(CLOCK_CORE, tls=tls), self.start(contender, core, tls=tls)
            clock.eval("mesh_bench:serve()")  # the clock node answers calls, too
            node.eval("mesh_bench:serve()" if isinstance(node, Beam) else "await workload.serve(node)")
            if not clock.ping(node.name):
                raise ProcessGone(f"{node.name} cannot be connected\n{node.recent_log()}")
            pair = self._pairs[contender, core, tls] = Pair(clock, node)
        return pair

    def drop_pairs(self, contender: Contender) -> None:
        """End the nodes of a contender after a failure. The next use starts new ones."""
        for key in [key for key in self._pairs if key[0] == contender]:
            pair = self._pairs.pop(key)
            self.close(pair.node, pair.clock)

    def close(self, *nodes: Beam | PyNode) -> None:
        for node in nodes:
            node.close()
            self.cluster.processes.remove(node)

    @contextlib.contextmanager
    def two_nodes(self, contender: Contender) -> Iterator[tuple[Beam, Beam | PyNode]]:
        """A new BEAM on ``CLOCK_CORE`` and a new node of the contender on ``OTHER_CORE``, not connected."""
        nodes: list[Beam | PyNode] = []
        try:
            beam = self._start_beam(CLOCK_CORE)
            nodes.append(beam)
            nodes.append(node := self.start(contender, OTHER_CORE))
            yield beam, node
        finally:
            self.close(*nodes)

    def start(self, contender: Contender, core: int, *, tls: bool = False) -> Beam | PyNode:
        """Start a node of a contender. It is not connected. ``close`` ends it."""
        if contender.is_beam:
            return self._start_beam(core, contender.beam_arguments, tls=tls)
        options = {"tls": self._certificates().node_options} if tls else {}
        node = self.cluster.pynode(
            self._next_name(), core=core, environment=contender.environment, event_loop=contender.event_loop, **options
        )
        node.eval("from bench import workload")
        for option in contender.options:
            node.eval(f"workload.switch_on_{option}(node)")
        return node

    def _start_beam(self, core: int, arguments: tuple[str, ...] = (), *, tls: bool = False) -> Beam:
        more = self._certificates().beam_arguments if tls else ()
        return self.cluster.beam(self._next_name(), core=core, arguments=["-pa", str(self._scratch), *arguments, *more])

    def _certificates(self) -> TlsFiles:
        if self._tls_files is None:
            self._tls_files = TlsFiles(self._scratch / "tls")
        return self._tls_files

    def _next_name(self) -> str:
        self._started += 1
        return f"n{self._started}"


@contextlib.contextmanager
def measuring(row: str, contender: Contender) -> Iterator[None]:
    """Turn every failure of a node into a MeasureFailed that names the row and the contender."""
    try:
        yield
    except (EvaluationFailed, ProcessGone, OSError, subprocess.SubprocessError) as failure:
        raise MeasureFailed(f"{row}, {contender.name}: {failure}") from failure
