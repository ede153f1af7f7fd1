"""One scenario's world: machines, a node on each, what they saw and when, and one line for the table."""

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
from machines import Machine, Switch
from peer import OsProcess, in_order
from pynode import PyNode
from waiting import wait_until

__all__ = ["ELSEWHERE", "GROUP", "PYTHON", "Event", "Row", "World", "is_python"]

PYTHON = "py"
NAMES = ("aristotle", "plato", "socrates", "thales", "zeno")
"""In alphabetical order: who is smaller decides a good deal."""
GROUP = Atom("group")
ELSEWHERE = Atom("elsewhere")
EPMD_PORT = 4369
LOOK = 0.05
"""Seconds between two looks at several nodes: each costs a round trip to every one."""
WEATHER = Path(__file__).with_name("weather.py")

SEE = """
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
TELL = "(fun() -> seen ! {tell, self()}, receive {seen, Seen} -> Seen end end)()"
PY_SEE = """
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
    word: str
    node: str
    why: str
    at: float
    """Wall clock, as ``time.time()``."""


@dataclass
class Row:
    """What the table says of one scenario: filled by the test as it goes."""

    scenario: str = ""
    who: str = ""
    outcome: str = ""
    noticed: list[float] = field(default_factory=list)
    whole: float | None = None
    by_itself: bool = True
    only_beams: bool = False


def is_python(kind: str) -> bool:
    return kind.startswith(PYTHON)


class World:
    """A node of each of ``kinds`` (``py``, or an OTP as ``25``), each on a machine of its own, and not connected."""

    def __init__(self, kinds: Sequence[str], *, ticktime: int = 6, otp_epmd: bool = False, **options: Any) -> None:
        self.kinds = list(kinds)
        self.ticktime = ticktime
        self.long = False
        """As long as the promises say."""
        self.row = Row(who=" ".join(kinds), only_beams=not any(map(is_python, kinds)))
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
                for machine in self.switch.machines:
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

    def stories(self) -> str:
        return "".join(process.story() for process in self._processes)

    # Nodes

    def name(self, number: int) -> str:
        return f"{NAMES[number]}@{self.switch.machines[number].address}"

    def start(self, number: int, kind: str | None = None, name: str | None = None, **options: Any) -> Node:
        """A node on machine ``number``, of its kind, under its name; the machine's EPMD is started once if one is
        needed. Without OTP there, the Python node is the EPMD.
        """
        kind, machine = kind or self.kinds[number], self.switch.machines[number]
        full = f"{name}@{machine.address}" if name else self.name(number)
        common = {"epmd_port": EPMD_PORT, "home": self.home, "inside": machine.inside, **self._options, **options}
        node: Node
        if is_python(kind):
            node = PyNode(full, **{"net_ticktime": self.ticktime, **common})
            node.eval(PY_SEE)
        else:
            self.start_epmd(machine)
            flags = ["-kernel", "net_ticktime", str(self.ticktime), *common.pop("arguments", ())]
            node = Beam(full, otp=int(kind), arguments=flags, **common)
            node.eval(SEE)
        self._processes.append(node)
        return node

    def start_epmd(self, machine: Machine) -> None:
        """OTP's EPMD on a machine, unless somebody is it there already."""
        if self.knows_epmd(machine):
            return
        command = [*machine.inside, str(programs() / "epmd"), "-port", str(EPMD_PORT)]
        epmd = OsProcess(f"epmd on {machine.address}", command, {})
        self._processes.append(epmd)
        self.epmds[machine.number] = epmd
        wait_until(lambda: self.knows_epmd(machine), what="an EPMD")

    def knows_epmd(self, machine: Machine) -> bool:
        return bool(self.listing(machine))

    def listing(self, machine: Machine) -> str:
        """What ``epmd -names`` says on a machine."""
        command = [*machine.inside, str(programs() / "epmd"), "-port", str(EPMD_PORT), "-names"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 and "up and running" in done.stdout else ""

    def run(self, title: str, command: Sequence[str]) -> OsProcess:
        """Another process of this world, ended with it."""
        process = OsProcess(title, command, {})
        self._processes.append(process)
        return process

    # A mesh with a group

    def meet(self) -> None:
        """All connect with the first, all join the group, and everybody sees everybody."""
        for node in self.nodes[1:]:
            assert node.ping(self.nodes[0].name)
        self.members = [node.join(GROUP) for node in self.nodes]
        self.until_whole(20)

    def until_whole(self, timeout: float = 20.0) -> None:
        wait_until(self.is_whole, timeout, what="whole again", seen=self.views)

    def is_whole(self) -> bool:
        """Every node is connected with all others, and lists every living member once."""
        time.sleep(LOOK)
        names, members = {node.name for node in self.nodes}, in_order(self.members)
        return all(node.nodes() == names - {node.name} and node.members(GROUP) == members for node in self.nodes)

    def views(self) -> str:
        """Who sees whom, for a failure's message."""
        return "; ".join(map(self._view, filter(OsProcess.is_running, self.nodes)))

    def _view(self, node: Node) -> str:
        node.cont()  # one that is paused says nothing, and its test is over
        return f"{node.name} sees {sorted(node.nodes())}, {node.members(GROUP)}, and saw {self.last_seen(node)}"

    def until(self, condition: Any, timeout: float = 20.0, what: str = "") -> None:
        def look() -> Any:
            time.sleep(LOOK)
            return condition()

        wait_until(look, timeout, what=what, seen=self.views)

    def restart(self, number: int) -> None:
        """Another life of a dead node, which finds the others by the first that lives, and joins the group."""
        node = self.nodes[number] = self.start(number)
        others = [other for other in self.nodes if other is not node]
        self.until(lambda: node.ping(others[0].name), 10)
        self.members[number] = node.join(GROUP)

    def leave_and_join_elsewhere(self, number: int) -> Pid:
        """The member on a node leaves the group and joins another: its pid."""
        node, member = self.nodes[number], self.members[number]
        if isinstance(node, PyNode):
            node.eval("node.pg.leave(G, me.pid), node.pg.join(E, me.pid)", G=GROUP, E=ELSEWHERE)
        else:
            node.eval("ok = pg:leave(G, self()), ok = pg:join(E, self())", G=GROUP, E=ELSEWHERE)
        return member

    def until_known(self) -> None:
        """Until ``global`` of every node has got to know all others, too."""
        for node in self.nodes:
            others = {other.name for other in self.nodes if other is not node}
            self.until(lambda node=node, others=others: known_to(node) >= others, 20, what=f"all known to {node.name}")

    def stays(self, condition: Callable[[], object], seconds: float) -> None:
        """For so long the condition holds at every look: what must not happen has to be waited for."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert condition(), self.views()
            time.sleep(LOOK * 4)

    def heal_to_whole(self, *, by_itself: bool = True, grace: float = 6.0, timeout: float = 25.0) -> None:
        """After the repair: counts until all is whole again. With a Python node in it this must come by itself; BEAMs
        among themselves, and others not ``by_itself``, get a ping after ``grace`` seconds.
        """
        began = time.monotonic()
        if self.row.only_beams or not by_itself:
            try:
                self.until_whole(grace)
            except AssertionError:
                self.row.by_itself = False
                for node in self.nodes[1:]:
                    node.ping(self.nodes[0].name)
        self.until_whole(timeout)
        self.row.complete = time.monotonic() - began

    # Who saw what

    def fault(self) -> None:
        """From now on events count as its consequences."""
        self.fault_at = time.time()

    def seen(self, node: Node) -> list[Event]:
        """Who came and went for ``node``."""
        if isinstance(node, PyNode):
            return [Event(*event) for event in node.eval("seen")]
        return [Event(word.name, peer.name, _text(why), at / 1e6) for word, peer, why, at in node.eval(TELL)]

    def went(self, observer: int, number: int) -> list[Event]:
        """The ``nodedown`` of node ``number`` that ``observer`` saw since the fault."""
        name = self.name(number)
        return [
            event
            for event in self.last_seen(self.nodes[observer])
            if event.word == "nodedown" and event.node == name and event.timestamp >= self.fault_at
        ]

    def is_gone(self, number: int, observers: Iterable[int], *, within: float) -> None:
        """Until all ``observers`` have lost node ``number`` and list none of its members; notes how long it took."""
        observers, member = list(observers), self.members[number]
        self.until(
            lambda: all(self.went(observer, number) for observer in observers),
            within + 3,
            what=f"{self.name(number)} gone for {observers}",
        )
        self.until(lambda: not any(member in self.nodes[observer].members(GROUP) for observer in observers), 2)
        self.row.noticed += [self.went(observer, number)[0].timestamp - self.fault_at for observer in observers]

    def nothing_happened(self) -> None:
        """Nobody went since the fault."""
        for node in self.nodes:
            gone = [
                event for event in self.last_seen(node) if event.word == "nodedown" and event.timestamp >= self.fault_at
            ]
            assert not gone, f"{node.name} lost {gone}"
        assert self.is_whole(), self.views()

    def partition(self) -> list[list[int]]:
        """Who sees whom, as groups of node numbers, if that is the same for all of a group: no overlaps."""
        numbers = {node.name: number for number, node in enumerate(self.nodes)}
        groups = {
            tuple(sorted({number, *(numbers[name] for name in node.nodes())})) for number, node in enumerate(self.nodes)
        }
        return sorted(map(list, groups))

    def overlaps(self) -> bool:
        """Whether somebody is in two groups."""
        everybody = [number for group in self.partition() for number in group]
        return len(everybody) != len(set(everybody))

    @contextlib.contextmanager
    def bad_weather(self, seed: int) -> Iterator[None]:
        """All frames are carried by hand, some of them badly, until the end."""
        machines = self.switch.machines
        for machine in machines:
            subprocess.run([*machine.inside, sys.executable, WEATHER, "plain", "eth0"], check=True)
        self.switch.leave_bridges()
        ports = [f"{machine.port}={machine.mac}" for machine in machines]
        weather = self.run("weather", [*self.switch.inside, sys.executable, str(WEATHER), str(seed), *ports])
        wait_until(lambda: weather.logged("the weather is bad"), what="bad weather")
        yield
        weather.close()
        self.switch.heal()


def known_to(node: Node) -> set[str]:
    """The nodes in ``global``'s partition of this one."""
    if isinstance(node, PyNode):
        return set(node.eval("node.global_.known()"))
    return {known.name for known in node.eval("gen_server:call(global_name_server, get_known, 5000)")}


def _text(why: Any) -> str:
    return why.decode() if isinstance(why, bytes) else ""


def installed() -> str:
    return str(installed_otp() or 25)
