"""The processes of a benchmark: each contender twice, on the core of its clock node and on a core of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "otp"))

from beam import Beam, programs  # noqa: E402 - the benchmark uses the node drivers of the tests
from cluster import Cluster  # noqa: E402
from pynode import PyNode  # noqa: E402

__all__ = ["CONTENDERS", "Beam", "BenchHarness", "Pair", "PyNode"]

CONTENDERS = ("BEAM", "erlmesh")
CLOCK_CORE, OTHER_CORE = 0, 1


@dataclass(frozen=True)
class Pair:
    """A clock node, which is a BEAM, and the node that it measures."""

    clock: Beam
    node: Beam | PyNode


class BenchHarness:
    """All running nodes. The caller of ``start_node`` must close that node."""

    def __init__(self, cluster: Cluster, scratch: Path) -> None:
        self.cluster = cluster
        self._scratch = scratch
        self._count = 0
        source = ROOT / "bench" / "mesh_bench.erl"
        subprocess.run([programs() / "erlc", "-o", scratch, source], check=True, stdin=subprocess.DEVNULL)
        cluster.start_epmd_once()
        self.pairs = {
            (contender, where): self._pair(contender, core)
            for where, core in (("one core", CLOCK_CORE), ("two cores", OTHER_CORE))
            for contender in CONTENDERS
        }

    def start_node(self, contender: str, core: int | None = None) -> Beam | PyNode:
        """Start a node of a contender. It is not connected."""
        self._count += 1
        name = f"n{self._count}"
        if contender == "BEAM":
            return self.cluster.beam(name, core=core, arguments=["-pa", str(self._scratch)])
        node = self.cluster.pynode(name, core=core, environment={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})
        node.eval("from bench import workload")
        return node

    def _pair(self, contender: str, core: int) -> Pair:
        clock, subject = self.start_node("BEAM", CLOCK_CORE), self.start_node(contender, core)
        clock.eval("mesh_bench:serve()")  # the clock node answers calls, too
        subject.eval("mesh_bench:serve()" if contender == "BEAM" else "workload.serve(node)")
        assert clock.ping(subject.name)
        return Pair(clock, subject)
