"""One fault scenario: hosts with one node each, the events that the nodes saw, and one row of the report."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from beam import Beam, installed_otp, programs
from erlmesh.terms import Atom, Pid
from netns import NetworkNamespace, Switch
from os_process import OsProcess, sorted_pids
from polling import wait_until
from pynode import PyNode

__all__ = ["GROUP", "OTHER_GROUP", "PYTHON", "Event", "ReportRow", "Scenario", "is_python"]

PYTHON = "py"
NAMES = ("aristotle", "plato", "socrates", "thales", "zeno")
"""In alphabetical order: OTP decides several conflicts by the order of node names."""
GROUP = Atom("group")
OTHER_GROUP = Atom("elsewhere")
EPMD_PORT = 4369
POLL_INTERVAL = 0.05
"""Seconds between two polls of several nodes. A poll costs a round trip to each node."""
NETEM_SCRIPT = Path(__file__).with_name("netem.py")

WATCH_NODES = """
spawn(fun() ->
    register(seen, self()),
    net_kernel:monitor_nodes(true, [nodedown_reason]),
    Look = fun Look(Seen) ->
        receive
            {nodeup, Node, _} -> Look([{nodeup, Node, none, os:system_time(microsecond)} | Seen]);
            {nodedown, Node, Info} ->
                Why = proplists:get_value(nodedown_reason, Info),
                Text = iolist_to_binary(io_lib:format("~0p", [Why])),
                Look([{nodedown, Node, Text, os:system_time(microsecond)} | Seen]);
            {tell, Who} -> Who ! {seen, lists:reverse(Seen)}, Look(Seen)
        end
    end,
    Look([])
end)
"""
GET_EVENTS = "(fun() -> seen ! {tell, self()}, receive {seen, Seen} -> Seen end end)()"
PY_WATCH_NODES = """
import time
seen = []
async def see(me):
    node.monitor_nodes(me.pid, reasons=True)
    async for event in me:
        word, peer, *why = event
        seen.append((word.name, peer.name, why[0].name if why else "", time.time()))
node.spawn(see)
"""

Node = Beam | PyNode


class Event(NamedTuple):
    kind: str
    node: str
    reason: str
    timestamp: float
    """Wall clock, as ``time.time()``."""


@dataclass
class ReportRow:
    """The row of the report for one scenario. The test fills it."""

    scenario: str = ""
    kinds: str = ""
    outcome: str = ""
    detection_times: list[float] = field(default_factory=list)
    recovery_time: float | None = None
    automatic: bool = True
    beams_only: bool = False


def is_python(kind: str) -> bool:
    return kind.startswith(PYTHON)


class Scenario:
    """One node for each of ``kinds`` (``py``, or an OTP release such as ``25``). Each has a host of its own. No node is
    connected."""

    def __init__(self, kinds: Sequence[str], *, ticktime: int = 6, otp_epmd: bool = False, **options: Any) -> None:
        self.kinds = list(kinds)
        self.ticktime = ticktime
        self.long = False
        """True with ``--long``: the durations and rounds of the published report."""
        self.report_row = ReportRow(kinds=" ".join(kinds), beams_only=not any(map(is_python, kinds)))
        self.nodes: list[Node] = []
        self.members: list[Pid] = []
        self.home = Path(tempfile.mkdtemp(prefix="erlmesh-faults-"))
        self.epmds: dict[int, OsProcess] = {}
        self._otp_epmd = otp_epmd
        self._options = options
        self._processes: list[OsProcess] = []
        self._closing = threading.Lock()
        self.fault_at = 0.0
        self.switch: Switch

    def __enter__(self) -> Self:
        self.switch = Switch(len(self.kinds))
        try:
            if self._otp_epmd:
                for machine in self.switch.hosts:
                    self.start_epmd(machine)
            for number in range(len(self.kinds)):
                self.nodes.append(self.start(number))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._closing:
            while self._processes:
                with contextlib.suppress(Exception):
                    self._processes.pop().close()
            if hasattr(self, "switch"):
                self.switch.close()
            shutil.rmtree(self.home, ignore_errors=True)

    def logs(self) -> str:
        return "".join(process.recent_log() for process in self._processes)

    # Nodes

    def node_name(self, number: int) -> str:
        return f"{NAMES[number]}@{self.switch.hosts[number].address}"

    def start(self, number: int, kind: str | None = None, name: str | None = None, **options: Any) -> Node:
        """Start a node on host ``number``, with the kind and name of that host unless given.

        A BEAM needs an EPMD: the host's EPMD is started once. On a host without OTP the Python node is the EPMD.
        """
        kind, machine = kind or self.kinds[number], self.switch.hosts[number]
        full = f"{name}@{machine.address}" if name else self.node_name(number)
        common = {
            "epmd_port": EPMD_PORT,
            "home": self.home,
            "exec_prefix": machine.exec_prefix,
            **self._options,
            **options,
        }
        node: Node
        if is_python(kind):
            node = PyNode(full, **{"net_ticktime": self.ticktime, **common})
            node.eval(PY_WATCH_NODES)
        else:
            self.start_epmd(machine)
            flags = ["-kernel", "net_ticktime", str(self.ticktime), *common.pop("arguments", ())]
            node = Beam(full, otp=int(kind), arguments=flags, **common)
            node.eval(WATCH_NODES)
        self._processes.append(node)
        return node

    def start_epmd(self, machine: NetworkNamespace) -> None:
        """Start OTP's EPMD on a host, unless the host has an EPMD already."""
        if self.has_epmd(machine):
            return
        command = [*machine.exec_prefix, str(programs() / "epmd"), "-port", str(EPMD_PORT)]
        epmd = OsProcess(f"epmd on {machine.address}", command, {})
        self._processes.append(epmd)
        self.epmds[machine.number] = epmd
        wait_until(lambda: self.has_epmd(machine), what="an EPMD")

    def has_epmd(self, machine: NetworkNamespace) -> bool:
        return bool(self.epmd_names(machine))

    def epmd_names(self, machine: NetworkNamespace) -> str:
        """The output of ``epmd -names`` on a host, or "" if no EPMD answers."""
        command = [*machine.exec_prefix, str(programs() / "epmd"), "-port", str(EPMD_PORT), "-names"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 and "up and running" in done.stdout else ""

    def run(self, title: str, command: Sequence[str]) -> OsProcess:
        """Start another process. It ends with the scenario."""
        process = OsProcess(title, command, {})
        self._processes.append(process)
        return process

    # A mesh with a group

    def form_mesh(self) -> None:
        """Connect all nodes to the first, join the group on each, and wait until the mesh is complete."""
        for node in self.nodes[1:]:
            assert node.ping(self.nodes[0].name)
        self.members = [node.join(GROUP) for node in self.nodes]
        self.wait_until_complete(20)

    def wait_until_complete(self, timeout: float = 20.0) -> None:
        wait_until(self.is_complete, timeout, what="complete again", details=self.describe_views)

    def is_complete(self) -> bool:
        """True if every node is connected to all others and lists every live member once."""
        time.sleep(POLL_INTERVAL)
        names, members = {node.name for node in self.nodes}, sorted_pids(self.members)
        return all(node.nodes() == names - {node.name} and node.members(GROUP) == members for node in self.nodes)

    def describe_views(self) -> str:
        """The nodes, members and events that each node sees, for the message of a failure."""
        return "; ".join(map(self._describe_view, filter(OsProcess.is_running, self.nodes)))

    def _describe_view(self, node: Node) -> str:
        node.cont()  # a paused node does not answer, and the test is over
        return f"{node.name} sees {sorted(node.nodes())}, {node.members(GROUP)}, and saw {self.node_events(node)}"

    def wait_until(self, condition: Any, timeout: float = 20.0, what: str = "") -> None:
        def polled() -> Any:
            time.sleep(POLL_INTERVAL)
            return condition()

        wait_until(polled, timeout, what=what, details=self.describe_views)

    def restart(self, number: int) -> None:
        """Restart a stopped node. It connects to the first other node and joins the group."""
        node = self.nodes[number] = self.start(number)
        others = [other for other in self.nodes if other is not node]
        self.wait_until(lambda: node.ping(others[0].name), 10)
        self.members[number] = node.join(GROUP)

    def leave_and_join_elsewhere(self, number: int) -> Pid:
        """Move the member on a node to another group. Return its pid."""
        node, member = self.nodes[number], self.members[number]
        if isinstance(node, PyNode):
            node.eval("node.pg.leave(G, me.pid), node.pg.join(E, me.pid)", G=GROUP, E=OTHER_GROUP)
        else:
            node.eval("ok = pg:leave(G, self()), ok = pg:join(E, self())", G=GROUP, E=OTHER_GROUP)
        return member

    def wait_until_known_to_global(self) -> None:
        """Wait until ``global`` on every node knows all other nodes."""
        for node in self.nodes:
            others = {other.name for other in self.nodes if other is not node}
            self.wait_until(
                lambda node=node, others=others: known_to_global(node) >= others, 20, what=f"all known to {node.name}"
            )

    def assert_holds(self, condition: Callable[[], object], seconds: float) -> None:
        """Assert that the condition holds at every poll for ``seconds``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert condition(), self.describe_views()
            time.sleep(POLL_INTERVAL * 4)

    def wait_for_recovery(self, *, automatic: bool = True, grace: float = 6.0, timeout: float = 25.0) -> None:
        """After the repair: measure the time until the mesh is complete.

        With a Python node the recovery must be automatic. Scenarios of BEAMs only, and those with ``automatic=False``,
        get a ping after ``grace`` seconds.
        """
        began = time.monotonic()
        if self.report_row.beams_only or not automatic:
            try:
                self.wait_until_complete(grace)
            except AssertionError:
                self.report_row.automatic = False
                for node in self.nodes[1:]:
                    node.ping(self.nodes[0].name)
        self.wait_until_complete(timeout)
        self.report_row.recovery_time = time.monotonic() - began

    # Events

    def mark_fault(self) -> None:
        """Mark the time of the fault. Only later events count as its effects."""
        self.fault_at = time.time()

    def node_events(self, node: Node) -> list[Event]:
        """The ``nodeup`` and ``nodedown`` events that ``node`` saw, in order."""
        if isinstance(node, PyNode):
            return [Event(*event) for event in node.eval("seen")]
        return [Event(word.name, peer.name, _text(why), at / 1e6) for word, peer, why, at in node.eval(GET_EVENTS)]

    def nodedowns(self, observer: int, number: int) -> list[Event]:
        """The ``nodedown`` of node ``number`` that ``observer`` saw since the fault."""
        name = self.node_name(number)
        return [
            event
            for event in self.node_events(self.nodes[observer])
            if event.kind == "nodedown" and event.node == name and event.timestamp >= self.fault_at
        ]

    def assert_removed(self, number: int, observers: Iterable[int], *, within: float) -> None:
        """Wait until all ``observers`` have lost node ``number`` and its members. Record the detection times."""
        observers, member = list(observers), self.members[number]
        self.wait_until(
            lambda: all(self.nodedowns(observer, number) for observer in observers),
            within + 3,
            what=f"{self.node_name(number)} gone for {observers}",
        )
        self.wait_until(lambda: not any(member in self.nodes[observer].members(GROUP) for observer in observers), 2)
        self.report_row.detection_times += [
            self.nodedowns(observer, number)[0].timestamp - self.fault_at for observer in observers
        ]

    def assert_undisturbed(self) -> None:
        """Assert that no node saw a ``nodedown`` since the fault, and that the mesh is complete."""
        for node in self.nodes:
            gone = [
                event
                for event in self.node_events(node)
                if event.kind == "nodedown" and event.timestamp >= self.fault_at
            ]
            assert not gone, f"{node.name} lost {gone}"
        assert self.is_complete(), self.describe_views()

    def view_groups(self) -> list[list[int]]:
        """The distinct views of all nodes, as sorted lists of node numbers. They are disjoint unless groups overlap."""
        numbers = {node.name: number for number, node in enumerate(self.nodes)}
        groups = {
            tuple(sorted({number, *(numbers[name] for name in node.nodes())})) for number, node in enumerate(self.nodes)
        }
        return sorted(map(list, groups))

    def has_overlaps(self) -> bool:
        """True if a node is in two groups."""
        numbers = [number for group in self.view_groups() for number in group]
        return len(numbers) != len(set(numbers))

    @contextlib.contextmanager
    def network_emulation(self, seed: int) -> Iterator[None]:
        """Forward all frames through the network emulator, with delay, loss and reordering, until the block ends."""
        machines = self.switch.hosts
        for machine in machines:
            subprocess.run([*machine.exec_prefix, sys.executable, NETEM_SCRIPT, "plain", "eth0"], check=True)
        self.switch.detach_all()
        ports = [f"{machine.port}={machine.mac}" for machine in machines]
        emulator = self.run("netem", [*self.switch.exec_prefix, sys.executable, str(NETEM_SCRIPT), str(seed), *ports])
        wait_until(lambda: emulator.logged("emulation runs"), what="the network emulation")
        yield
        emulator.close()
        self.switch.heal()


def known_to_global(node: Node) -> set[str]:
    """The nodes that ``global`` on this node knows."""
    if isinstance(node, PyNode):
        return set(node.eval("node.global_.known()"))
    return {known.name for known in node.eval("gen_server:call(global_name_server, get_known, 5000)")}


def _text(why: Any) -> str:
    return why.decode() if isinstance(why, bytes) else ""


def installed() -> str:
    return str(installed_otp() or 25)
