"""The measurements. Each measures one contender and returns one number for each line of the table."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.harness import CLOCK_CORE, OTHER_CORE, ROOT, Beam, BenchHarness, PyNode

__all__ = ["LINES", "MEASURES", "Numbers", "ReportLine"]

Numbers = dict[str, float]
MESSAGES, TRIPS, CALLS, IN_FLIGHT, JOINS = 100_000, 3000, 20_000, 100, 200
GROUPS, MEMBERS = 10_000, 10
IDLE_SECONDS = 4.0


@dataclass(frozen=True)
class ReportLine:
    """A line of the table. ``goal`` is the ratio to the BEAM that the pure-Python erlmesh is meant to reach, or the
    number itself where ``unit`` says ``absolute``; ``more`` tells whether more is better.
    """

    key: str
    label: str
    unit: str
    higher_is_better: bool = False
    goal: float | None = None
    absolute: bool = False


LINES = [
    ReportLine("received", "small messages received", "1/s", higher_is_better=True, goal=0.3),
    ReportLine("sent", "small messages sent", "1/s", higher_is_better=True, goal=0.3),
    ReportLine("trip1 p50", "round trip, one core, median", "µs", goal=2.5),
    ReportLine("trip1 p99", "round trip, one core, p99", "µs"),
    ReportLine("trip2 p50", "round trip, two cores, median", "µs", goal=2.5),
    ReportLine("trip2 p99", "round trip, two cores, p99", "µs"),
    ReportLine("requests", "requests answered, 100 open, one asker", "1/s", higher_is_better=True, goal=0.3),
    ReportLine("calls", "gen_server calls answered, 100 callers", "1/s", higher_is_better=True, goal=0.3),
    ReportLine("calls from", "gen_server calls made, 100 callers", "1/s", higher_is_better=True, goal=0.3),
    ReportLine("join there1", "its join seen by a BEAM, one core", "µs"),
    ReportLine("join there2", "its join seen by a BEAM, two cores", "µs"),
    ReportLine("join here1", "a BEAM's join seen by it, one core", "µs"),
    ReportLine("join here2", "a BEAM's join seen by it, two cores", "µs"),
    ReportLine("learn", "100,000 memberships learnt from a BEAM", "ms"),
    ReportLine("learn memory", "memory per membership learnt", "bytes"),
    ReportLine("teach", "100,000 memberships taught to a BEAM", "ms"),
    ReportLine("start", "start of a process with a node", "ms", goal=300, absolute=True),
    ReportLine("import", "import of the library", "ms", goal=100, absolute=True),
    ReportLine("idle memory", "memory of an idle, connected node", "MB", goal=35, absolute=True),
    ReportLine("idle cpu", "processor time of an idle node", "%", goal=0.2, absolute=True),
]


def throughput(harness: BenchHarness, contender: str) -> Numbers:
    pair = harness.pairs[contender, "two cores"]
    return {
        name: pair.clock.eval(f"mesh_bench:{function}(Node, {arguments})", Node=pair.node.atom, timeout=60)
        for name, function, arguments in (
            ("received", "received", MESSAGES),
            ("sent", "sent", MESSAGES),
            ("requests", "requests", f"{CALLS}, {IN_FLIGHT}"),
            ("calls", "calls", f"{CALLS}, {IN_FLIGHT}"),
            ("calls from", "calls_from", f"{CALLS}, {IN_FLIGHT}"),
        )
    }


def latency(harness: BenchHarness, contender: str) -> Numbers:
    numbers: Numbers = {}
    for cores, where in ((1, "one core"), (2, "two cores")):
        pair = harness.pairs[contender, where]

        def ask(function: str, count: int, pair=pair) -> tuple[float, float]:
            return pair.clock.eval(f"mesh_bench:{function}(Node, {count})", Node=pair.node.atom, timeout=60)

        numbers[f"trip{cores} p50"], numbers[f"trip{cores} p99"] = ask("round_trips", TRIPS)
        numbers[f"join there{cores}"], _ = ask("joins_there", JOINS)
        numbers[f"join here{cores}"], _ = ask("joins_here", JOINS)
    return numbers


def memberships(harness: BenchHarness, contender: str) -> Numbers:
    """A new node connects to one with all memberships; then the other way round."""
    beam, learner = harness.start_node("BEAM", CLOCK_CORE), harness.start_node(contender, OTHER_CORE)
    beam.eval(f"mesh_bench:hold({GROUPS}, {MEMBERS})", timeout=60)
    before = resident_bytes(learner)
    seconds = learn(learner, beam)
    numbers = {"learn": seconds * 1000, "learn memory": (resident_bytes(learner) - before) / (GROUPS * MEMBERS)}
    beam.close()
    learner.close()

    teacher, beam = harness.start_node(contender, OTHER_CORE), harness.start_node("BEAM", CLOCK_CORE)
    if isinstance(teacher, PyNode):
        teacher.eval(f"workload.join_groups(node, {GROUPS}, {MEMBERS})", timeout=60)
    else:
        teacher.eval(f"mesh_bench:hold({GROUPS}, {MEMBERS})", timeout=60)
    numbers["teach"] = learn(beam, teacher) * 1000
    beam.close()
    teacher.close()
    return numbers


def learn(learner: Beam | PyNode, teacher: Beam | PyNode) -> float:
    if isinstance(learner, PyNode):
        return learner.eval(f"workload.learn(node, peer, {GROUPS})", peer=teacher.name, timeout=60)
    return learner.eval(f"mesh_bench:learn(Node, {GROUPS})", Node=teacher.atom, timeout=60)


def start_and_idle(harness: BenchHarness, contender: str) -> Numbers:
    """Start a node until it answers; then measure it idle, connected to another node."""
    started = time.perf_counter()
    node = harness.start_node(contender, OTHER_CORE)
    numbers = {"start": (time.perf_counter() - started) * 1000}
    assert harness.pairs[contender, "two cores"].clock.ping(node.name)
    before = cpu_seconds(node)
    time.sleep(IDLE_SECONDS)
    numbers["idle cpu"] = (cpu_seconds(node) - before) / IDLE_SECONDS * 100
    numbers["idle memory"] = resident_bytes(node) / 1e6
    node.close()
    if contender == "erlmesh":
        numbers["import"] = statistics.median(import_time() for _ in range(5)) * 1000
    return numbers


def import_time() -> float:
    source = "import time; start = time.perf_counter(); from erlmesh import Node; print(time.perf_counter() - start)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def resident_bytes(node: Beam | PyNode) -> int:
    """Bytes of memory in use by the process."""
    return int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(node: Beam | PyNode) -> float:
    """CPU seconds of all threads, from schedstat (nanoseconds): an idle node needs less than one tick of ``stat``."""
    threads = Path(f"/proc/{node.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


MEASURES: list[Callable[[BenchHarness, str], Numbers]] = [throughput, latency, memberships, start_and_idle]
