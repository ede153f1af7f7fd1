"""The measurements. Each function measures one contender and returns one number for each of its rows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.contenders import Contender
from bench.harness import CLOCK_CORE, OTHER_CORE, Beam, BenchHarness, Pair, PyNode, measuring
from bench.rows import TERMS, Numbers, cpu_key
from bench.synchronous import synchronous
from bench.takeovers import takeovers

__all__ = ["MEASURES"]

MESSAGES, TRIPS, CALLS, ERPC_CALLS, IN_FLIGHT, JOINS = 100_000, 3000, 20_000, 5000, 100, 200
KILOBYTES = {"1K": (1024, 50_000), "64K": (65_536, 3000)}
"""By suffix of the row: size of a binary and how many are sent."""
GROUPS, MEMBERSHIPS, ONE_BY_ONE = 10_000, 100_000, 10_000
IDLE_SECONDS = 4.0


class Clock:
    """Runs functions of mesh_bench on a clock node, and measures the CPU time of the measured node meanwhile."""

    def __init__(self, harness: BenchHarness, contender: Contender, core: int, *, tls: bool = False) -> None:
        self._harness = harness
        self._tls = tls
        self._contender = contender
        self._core = core

    def run(self, row: str, function: str, *arguments: object, operations: int) -> tuple[Any, Numbers]:
        """The result of ``function(Node, arguments...)``, and the CPU time per operation under the key of the row."""
        with measuring(row, self._contender):
            pair = self._pair()
            source = f"mesh_bench:{function}({', '.join(['Node', *map(str, arguments)])})"
            before = cpu_seconds(pair.node)
            result = pair.clock.eval(source, Node=pair.node.atom, timeout=self._harness.time_limit)
            return result, {cpu_key(row): (cpu_seconds(pair.node) - before) / operations * 1e6}

    def rate(self, row: str, function: str, *arguments: object, operations: int, factor: float = 1.0) -> Numbers:
        """Run a function that returns operations per second."""
        result, numbers = self.run(row, function, *arguments, operations=operations)
        return {row: result * factor, **numbers}

    def _pair(self) -> Pair:
        return self._harness.pair(self._contender, self._core, tls=self._tls)


def throughput(harness: BenchHarness, contender: Contender) -> Numbers:
    clock, count = Clock(harness, contender, OTHER_CORE), harness.count(MESSAGES)
    return {
        **clock.rate("received", "received", count, operations=count),
        **clock.rate("sent", "sent", count, operations=count),
    }


def binaries(harness: BenchHarness, contender: Contender) -> Numbers:
    clock, numbers = Clock(harness, contender, OTHER_CORE), Numbers()
    for suffix, (size, full) in KILOBYTES.items():
        count = harness.count(full)
        for row, function in ((f"received {suffix}", "received_data"), (f"sent {suffix}", "sent_data")):
            numbers |= clock.rate(row, function, count, size, operations=count, factor=size / 1e6)
    return numbers


def calls(harness: BenchHarness, contender: Contender) -> Numbers:
    clock, count = Clock(harness, contender, OTHER_CORE), harness.count(CALLS, multiple_of=IN_FLIGHT)
    numbers: Numbers = {}
    for row, function in (
        ("requests", "requests"),
        ("calls", "calls"),
        ("calls from", "calls_from"),
        ("class calls", "class_calls"),
        ("class calls from", "class_calls_from"),
        ("bare", "bare"),
        ("bare from", "bare_from"),
    ):
        if function.startswith("class") and not has_gen_server(harness, contender):
            continue
        numbers |= clock.rate(row, function, count, IN_FLIGHT, operations=count)
    return numbers


def has_gen_server(harness: BenchHarness, contender: Contender) -> bool:
    """False for a version of erlmesh before the class GenServer."""
    node = harness.pair(contender, OTHER_CORE).node
    return not isinstance(node, PyNode) or bool(node.eval("await workload.serve_part(node, 'gen_servers')"))


def broadcasts(harness: BenchHarness, contender: Contender) -> Numbers:
    """Broadcasts of Phoenix.PubSub between two nodes, with one subscriber."""
    clock, count = Clock(harness, contender, OTHER_CORE), harness.count(MESSAGES)
    with measuring("broadcasts received", contender):
        pair = harness.pair(contender, OTHER_CORE)
        pair.clock.eval("mesh_bench:serve_broadcasts()")
        if isinstance(pair.node, Beam):
            pair.node.eval("mesh_bench:serve_broadcasts()")
        elif not pair.node.eval("await workload.serve_part(node, 'broadcasts')"):
            return {}
    return {
        **clock.rate("broadcasts received", "broadcasts_received", count, operations=count),
        **clock.rate("broadcasts sent", "broadcasts_sent", count, operations=count),
    }


def serving_requests(harness: BenchHarness, contender: Contender) -> Numbers:
    """Requests of a hundred callers to a serving, which collects them in batches."""
    clock, count = Clock(harness, contender, OTHER_CORE), harness.count(CALLS, multiple_of=IN_FLIGHT)
    with measuring("serving", contender):
        node = harness.pair(contender, OTHER_CORE).node
        if isinstance(node, Beam):
            node.eval("mesh_bench:serve_serving()")
        elif not node.eval("await workload.serve_part(node, 'servings')"):
            return {}
    return clock.rate("serving", "serving_requests", count, IN_FLIGHT, operations=count)


def deliveries(harness: BenchHarness, contender: Contender) -> Numbers:
    """An outbox of one Python node, and an inbox of another one. A BEAM has none."""
    if contender.is_beam or not (contender.source / "erlmesh" / "sharding.py").is_file():
        return {}
    with measuring("acknowledged", contender):
        receiver = harness.start(contender, CLOCK_CORE)
        try:
            source = harness.pair(contender, OTHER_CORE).node
            assert isinstance(receiver, PyNode)
            assert isinstance(source, PyNode)
            receiver.eval("await workload.serve_part(node, 'deliveries')")
            receiver.ping(source.name)
            source.eval("from bench import deliveries")
            limit, trips = harness.time_limit, harness.count(TRIPS)
            rate = source.eval(f"await deliveries.acknowledged_rate(node, {harness.count(MESSAGES)})", timeout=limit)
            p50, p99 = source.eval(f"await deliveries.round_trips(node, {trips})", timeout=limit)
            size = source.eval(f"await deliveries.bytes_kept(node, {harness.count(50_000)})", timeout=limit)
        finally:
            harness.close(receiver)
    return {"acknowledged": rate, "put p50": p50, "put p99": p99, "kept message": size}


def states(harness: BenchHarness, contender: Contender) -> Numbers:
    """A shard with a long state that moves from one Python node to another, which then has the first one as backup."""
    if contender.is_beam or not (contender.source / "erlmesh" / "services" / "sharding" / "keeping.py").is_file():
        return {}
    with measuring("states", contender):
        new = harness.start(contender, CLOCK_CORE)
        try:
            old = harness.pair(contender, OTHER_CORE).node
            assert isinstance(new, PyNode)
            assert isinstance(old, PyNode)
            limit, shards = harness.time_limit, {"SHARDS": ""}
            for node in (old, new):
                node.eval("from bench import states")
            shards["SHARDS"] = old.eval("states.name_for(NEW, OLD)", NEW=new.name, OLD=old.name)
            old.eval("await states.hold(node, SHARDS)", timeout=limit, **shards)
            old.eval("states.watch(node, SHARDS, load=True)", **shards)
            new.ping(old.name)
            new.eval("await states.join(node, SHARDS)", **shards)
            new.eval("states.watch(node, SHARDS, load=False)", **shards)
            moved_to = new.eval("await states.held(SHARDS)", timeout=limit, **shards)
            moved_from = old.eval("await states.held(SHARDS)", timeout=limit, **shards)
            rate = old.eval(
                "await states.acknowledged_rate(node, SHARDS, COUNT)",
                timeout=limit,
                COUNT=harness.count(MESSAGES),
                **shards,
            )
        finally:
            harness.close(new)
    return {"replicated": rate, "moved from": moved_from, "moved to": moved_to}


def erpc(harness: BenchHarness, contender: Contender) -> Numbers:
    clock, count = Clock(harness, contender, OTHER_CORE), harness.count(ERPC_CALLS, multiple_of=IN_FLIGHT)
    numbers: Numbers = {}
    for kind in ("coroutine", "loop", "thread"):
        with measuring(f"erpc {kind}", contender):
            node = harness.pair(contender, OTHER_CORE).node
            if kind == "thread" and isinstance(node, PyNode) and not node.eval("workload.has_threads()"):
                continue  # this version runs each plain function on the loop
        numbers |= clock.rate(f"erpc {kind}", "erpc_calls", f"by_{kind}", count, IN_FLIGHT, operations=count)
    return numbers


def latency(harness: BenchHarness, contender: Contender) -> Numbers:
    numbers: Numbers = {}
    for cores, core in ((1, CLOCK_CORE), (2, OTHER_CORE)):
        count, row = harness.count(TRIPS), f"trip{cores} p50"
        (p50, p99), cpu = Clock(harness, contender, core).run(row, "round_trips", count, operations=count)
        numbers |= {row: p50, f"trip{cores} p99": p99, **cpu}
    return numbers


def encrypted(harness: BenchHarness, contender: Contender) -> Numbers:
    """Messages and round trips over TLS. The BEAM uses its own TLS on both sides."""
    clock, numbers = Clock(harness, contender, OTHER_CORE, tls=True), Numbers()
    count, (size, full) = harness.count(MESSAGES), KILOBYTES["64K"]
    binaries = harness.count(full)
    for direction in ("received", "sent"):
        numbers |= clock.rate(f"tls {direction}", direction, count, operations=count)
        row = f"tls {direction} 64K"
        numbers |= clock.rate(row, f"{direction}_data", binaries, size, operations=binaries, factor=size / 1e6)
    trips = harness.count(TRIPS)
    (p50, p99), cpu = clock.run("tls trip2 p50", "round_trips", trips, operations=trips)
    return {**numbers, "tls trip2 p50": p50, "tls trip2 p99": p99, **cpu}


def joins(harness: BenchHarness, contender: Contender) -> Numbers:
    numbers: Numbers = {}
    for cores, core in ((1, CLOCK_CORE), (2, OTHER_CORE)):
        clock, count = Clock(harness, contender, core), harness.count(JOINS)
        for row, function in ((f"join here{cores}", "joins_here"), (f"join there{cores}", "joins_there")):
            (p50, _), cpu = clock.run(row, function, count, operations=count)
            numbers |= {row: p50, **cpu}
    return numbers


def memberships(harness: BenchHarness, contender: Contender) -> Numbers:
    """A new node connects to a node with many memberships, in several shapes and in both directions."""
    total = harness.count(MEMBERSHIPS, multiple_of=100)
    numbers: Numbers = {}
    for row, memory_row, groups, each in (
        ("learn", None, total // 10, 10),
        ("learn one", "memory one", 1, total),
        ("learn many", "memory many", total, 1),
    ):
        with measuring(row, contender), harness.two_nodes(contender) as (beam, learner):
            hold(harness, beam, groups, each)
            memory, cpu = resident_bytes(learner), cpu_seconds(learner)
            numbers[row] = learn(harness, learner, beam, groups) * 1000
            numbers[cpu_key(row)] = (cpu_seconds(learner) - cpu) / total * 1e6
            if memory_row is not None:
                collect_garbage(learner)
                numbers[memory_row] = max(0, resident_bytes(learner) - memory) / total
    with measuring("teach", contender), harness.two_nodes(contender) as (beam, teacher):
        hold(harness, teacher, total // 10, 10)
        cpu = cpu_seconds(teacher)
        numbers["teach"] = learn(harness, beam, teacher, total // 10) * 1000
        numbers[cpu_key("teach")] = (cpu_seconds(teacher) - cpu) / total * 1e6
    return numbers


def churn(harness: BenchHarness, contender: Contender) -> Numbers:
    """One BEAM joins many processes to one group, one by one. Then it is killed."""
    count = harness.count(ONE_BY_ONE)
    with ThreadPoolExecutor(1) as background, harness.two_nodes(contender) as (beam, node):
        with measuring("joins", contender):
            if isinstance(node, Beam):
                node.eval("_ = pg:start(pg)")
            node.ping(beam.name)
            cpu = cpu_seconds(node)
            seen = background.submit(wait_for_members, harness, node, count)
            started = beam.eval(f"mesh_bench:join_one_by_one(one_by_one, {count})", timeout=harness.time_limit)
            seconds = (seen.result() - started) / 1e9
            numbers = {"joins": count / seconds, cpu_key("joins"): (cpu_seconds(node) - cpu) / count * 1e6}
        with measuring("gone", contender):
            seen = background.submit(wait_for_groups, harness, node, 0)
            cpu = cpu_seconds(node)
            killed = time.time_ns()
            beam.kill()
            numbers["gone"] = (seen.result() - killed) / 1e6
            numbers[cpu_key("gone")] = (cpu_seconds(node) - cpu) / count * 1e6
    return numbers


def codec(harness: BenchHarness, contender: Contender) -> Numbers:
    """Encode and decode the same terms as bytes of a BEAM, without a connection in use."""
    numbers: Numbers = {}
    for term, (_, full) in TERMS.items():
        with measuring(f"{term} encode", contender):
            pair = harness.pair(contender, OTHER_CORE)
            data = {name.name: data for name, data in pair.clock.eval("mesh_bench:codec_terms()")}[term]
            prefix = "mesh_bench:" if isinstance(pair.node, Beam) else "workload."
            for work in ("encode", "decode"):
                source = f"{prefix}{work}_time(Data, {harness.count(full)})"
                numbers[f"{term} {work}"] = pair.node.eval(source, Data=data, timeout=harness.time_limit)
    return numbers


def start_and_idle(harness: BenchHarness, contender: Contender) -> Numbers:
    """Start a node until it answers; then measure it idle, connected to another node."""
    with measuring("start", contender):
        started = time.perf_counter()
        node = harness.start(contender, OTHER_CORE)
        numbers = {"start": (time.perf_counter() - started) * 1000}
    with measuring("idle cpu", contender):
        try:
            numbers |= idle(harness, contender, node)
        finally:
            harness.close(node)
    if not contender.is_beam:
        with measuring("import", contender):
            numbers["import"] = min(import_time(contender) for _ in range(harness.count(8))) * 1000
    return numbers


def idle(harness: BenchHarness, contender: Contender, node: Beam | PyNode) -> Numbers:
    harness.pair(contender, OTHER_CORE).clock.ping(node.name)
    before, seconds = cpu_seconds(node), max(0.1, harness.count(round(IDLE_SECONDS * 10)) / 10)
    time.sleep(seconds)
    return {"idle cpu": (cpu_seconds(node) - before) / seconds * 100, "idle memory": resident_bytes(node) / 1e6}


def import_time(contender: Contender) -> float:
    """CPU seconds of ``from erlmesh import Node`` in a new Python process."""
    source = "import time; start = time.process_time(); from erlmesh import Node; print(time.process_time() - start)"
    environment = {**os.environ, **contender.environment}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def hold(harness: BenchHarness, node: Beam | PyNode, groups: int, each: int) -> None:
    function = "mesh_bench:hold(" if isinstance(node, Beam) else "workload.join_groups(node, "
    node.eval(f"{function}{groups}, {each})", timeout=harness.time_limit)


def learn(harness: BenchHarness, learner: Beam | PyNode, teacher: Beam | PyNode, groups: int) -> float:
    """Seconds until the learner knows all groups of the teacher. Both are new."""
    if isinstance(learner, PyNode):
        source = f"workload.learn(node, peer, {groups})"
        return float(learner.eval(source, peer=teacher.name, timeout=harness.time_limit))
    return float(learner.eval(f"mesh_bench:learn(Node, {groups})", Node=teacher.atom, timeout=harness.time_limit))


def wait_for_members(harness: BenchHarness, node: Beam | PyNode, count: int) -> int:
    """The time in nanoseconds when ``node`` has seen all members of the group ``one_by_one``."""
    if isinstance(node, Beam):
        source = f"mesh_bench:wait_for_members(one_by_one, {count})"
    else:
        source = f"workload.wait_for_members(node, Atom('one_by_one'), {count})"
    return int(node.eval(source, timeout=harness.time_limit))


def wait_for_groups(harness: BenchHarness, node: Beam | PyNode, groups: int) -> int:
    function = "mesh_bench:wait_for_groups(" if isinstance(node, Beam) else "workload.wait_for_groups(node, "
    return int(node.eval(f"{function}{groups})", timeout=harness.time_limit))


def collect_garbage(node: Beam | PyNode) -> None:
    node.eval("mesh_bench:collect_garbage()" if isinstance(node, Beam) else "import gc\ngc.collect()")


def resident_bytes(node: Beam | PyNode) -> int:
    """Bytes of memory in use by the process."""
    return int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(node: Beam | PyNode) -> float:
    """CPU seconds of all threads, from schedstat (nanoseconds): an idle node needs less than one tick of ``stat``."""
    threads = Path(f"/proc/{node.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


MEASURES: list[Callable[[BenchHarness, Contender], Numbers]] = [
    throughput,
    binaries,
    calls,
    broadcasts,
    serving_requests,
    deliveries,
    states,
    takeovers,
    erpc,
    latency,
    encrypted,
    joins,
    memberships,
    churn,
    codec,
    synchronous,
    start_and_idle,
]
