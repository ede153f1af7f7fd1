"""Calls of the synchronous node beside those of ``erldistpy``, to the gen_server of one BEAM. ::

    python -m bench.synchronous PEER EPMD_PORT CALLS

Both take turns, so what else the machine does falls on both. erldistpy has one connection for each thread, and erlmesh
has one for all. It prints JSON: by number of threads, the median of the ratios of the rates and of the CPU times. More
than 1 means that erlmesh needs less. erldistpy does not monitor the server, so it does less for each call.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from bench.contenders import ROOT, Contender
from bench.harness import OTHER_CORE, BenchHarness, PyNode, measuring
from bench.rows import Numbers

__all__ = ["synchronous"]

THREADS = (1, 16)
TURNS = 9
CALLS = 1600
"""Calls of one turn."""
COOKIE = "monster"


def synchronous(harness: BenchHarness, contender: Contender) -> Numbers:
    """The ratios to erldistpy. A BEAM has none, nor has a version without the synchronous node."""
    if contender.is_beam or importlib.util.find_spec("erldistpy") is None:
        return {}
    if not (contender.source / "erlmesh" / "sync").is_dir():
        return {}
    with measuring("sync", contender):
        pair = harness.pair(contender, OTHER_CORE)
        assert isinstance(pair.node, PyNode)
        command = [sys.executable, "-m", "bench.synchronous", pair.clock.name, str(harness.cluster.epmd_port)]
        done = subprocess.run(
            [*command, str(harness.count(CALLS, multiple_of=max(THREADS)))],
            env={**os.environ, **contender.environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    found: Numbers = json.loads(done.stdout)
    return found


def compare(peer: str, epmd_port: int, calls: int) -> Numbers:
    import erldistpy.node as other  # type: ignore[import-not-found]  # noqa: PLC0415 - a peer of the benchmark only

    import erlmesh  # noqa: PLC0415 - the processes above measure other versions too
    from erlmesh import Atom  # noqa: PLC0415

    other.lookup = functools.partial(other.lookup, port=epmd_port)
    alive, _, host = peer.partition("@")
    clients = [
        other.Node(our_name=f"other{number}@{host}", peer_name=alive, cookie=COOKIE, peer_host=host)
        for number in range(max(THREADS))
    ]
    numbers: Numbers = {}
    with erlmesh.connect(peer, cookie=COOKIE, epmd_port=epmd_port) as node:

        def ours(_thread: int, count: int) -> None:
            for number in range(count):
                node.call("server", (Atom("add"), number))

        def theirs(thread: int, count: int) -> None:
            client = clients[thread]
            for number in range(count):
                client.call("server", (other.Atom("add"), number))

        for threads in THREADS:
            turns = [(_measure(ours, threads, calls), _measure(theirs, threads, calls)) for _ in range(TURNS)]
            for index, suffix in enumerate(("", " cpu")):
                ratios = [their[index] / our[index] for our, their in turns]
                numbers[f"sync {threads}{suffix}"] = statistics.median(ratios)
    for client in clients:
        client.close()
    return numbers


def _measure(work: Callable[[int, int], None], threads: int, calls: int) -> tuple[float, float]:
    """Seconds of time and of CPU for ``calls`` calls."""
    started, cpu = time.perf_counter(), time.process_time()
    if threads == 1:
        work(0, calls)
    else:
        workers = [threading.Thread(target=work, args=(number, calls // threads)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return time.perf_counter() - started, time.process_time() - cpu


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
