"""What the map of a cluster costs while nothing happens: processor time and memory of the observer, and of each node.

python -m bench.map_idle --nodes 10 --seconds 20

The nodes run in processes of their own. The same seconds are measured without an observer, with one, and with a viewer
of its page. Run it on a quiet machine: the figures are shares of a core.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

SRC = Path(__file__).parent.parent / "src"
TICKS = os.sysconf("SC_CLK_TCK")
COOKIE = "a cookie of the benchmark"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Cluster:
    """``erlmesh start`` in processes of their own, which are connected with each other."""

    def __init__(self, size: int) -> None:
        self._home = tempfile.TemporaryDirectory()
        self._environment = {
            **os.environ, "PYTHONPATH": str(SRC), "ERL_EPMD_PORT": str(free_port()), "ERLMESH_COOKIE": COOKIE,
            "ERLMESH_STATE": self._home.name, "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        self.processes: list[subprocess.Popen[str]] = []
        for number in range(size):
            join = ["--join", "n0@127.0.0.1"] if number else []
            self.processes.append(self.start("start", "--name", f"n{number}@127.0.0.1", *join))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command, and wait for its first line."""
        command = [sys.executable, "-m", "erlmesh", *arguments]
        process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit(f"{' '.join(arguments)} has ended")
        return process

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._home.cleanup()


def measured(processes: Sequence[subprocess.Popen[str]], seconds: float) -> list[float]:
    """The share of a core that each process uses, in percent."""
    before, start = [cpu_seconds(each.pid) for each in processes], time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - start
    return [100 * (cpu_seconds(each.pid) - was) / elapsed for each, was in zip(processes, before, strict=True)]


def read_forever(port: int, received: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    try:
        while data := answer.read1():
            received[0] += len(data)
    except (OSError, http.client.HTTPException):
        pass


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args(arguments)
    cluster = Cluster(options.nodes)
    nodes = list(cluster.processes)
    try:
        time.sleep(3)
        rows = [("no observer", measured(nodes, options.seconds), None)]
        memory = [resident_mib(node.pid) for node in nodes]
        port = free_port()
        # A hidden node that does nothing: what any node needs.
        plain = cluster.start("start", "--name", "plain@127.0.0.1", "--hidden", "--join", "n0@127.0.0.1")
        cluster.processes.append(plain)
        observer = cluster.start("map", "n0@127.0.0.1", "--listen", str(port))
        cluster.processes.append(observer)
        time.sleep(3)
        rows.append(("an observer", measured([*nodes, observer], options.seconds), observer))
        received = [0]
        threading.Thread(target=read_forever, args=(port, received), daemon=True).start()
        time.sleep(1)
        received[0] = 0
        rows.append(("and a viewer", measured([*nodes, observer], options.seconds), observer))
        print(f"{options.nodes} nodes, {options.seconds:g} s each")
        for what, shares, process in rows:
            own = "" if process is None else f", the observer {shares[-1]:.2f} %"
            of_nodes = shares if process is None else shares[:-1]
            print(f"{what}: each node {sum(of_nodes) / len(of_nodes):.2f} % of a core{own}")
        grown = sum(resident_mib(node.pid) - was for node, was in zip(nodes, memory, strict=True)) / len(nodes)
        print(f"memory: each node {grown:+.1f} MiB, the observer {resident_mib(observer.pid):.1f} MiB,")
        print(f"        a hidden node without a map {resident_mib(plain.pid):.1f} MiB")
        print(f"the viewer gets {received[0] / options.seconds:.0f} bytes a second")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
