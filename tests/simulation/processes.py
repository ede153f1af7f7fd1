"""Test processes and checkers: each one remembers what it received, and checks every new message against that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from erlmesh.errors import Exit
from erlmesh.node import Node, Process
from erlmesh.services.pg.server import Joined, Left, Pg
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key
from simulation.introspection import connected_since

__all__ = ["GroupModel", "InvariantViolation", "NodeEventsChecker", "TestProcess"]

MESSAGE: Final = Atom("say")
EXIT: Final = Atom("EXIT")
DOWN: Final = Atom("DOWN")
NODEUP: Final = Atom("nodeup")
NODEDOWN: Final = Atom("nodedown")
STOP: Final = Atom("stop")
LEAVE: Final = Atom("leave")
KILL: Final = Atom("kill")
NOPROC: Final = Atom("noproc")
SHUTDOWN: Final = Atom("shutdown")
NOCONNECTION: Final = Atom("noconnection")


class InvariantViolation(AssertionError):
    """An invariant of erlmesh does not hold."""


class TestProcess:
    """A process of a scenario, with a task or (``as_handler``) without. It traps exits and monitors nodes.

    It checks each message. The node of the sender is up, and the sender belongs to its current incarnation. Messages of
    one sender arrive in order, and none that was sent over the same connection is missing. An exit signal comes over an
    existing link, a ``DOWN`` message from an existing monitor, and each of them once.
    """

    def __init__(
        self,
        node: Node,
        note: Callable[[str], None],
        record_violation: Callable[[str], None],
        all_processes: dict[Pid, TestProcess],
        *,
        as_handler: bool,
    ) -> None:
        self.node = node
        self._record_violation = record_violation
        self.links: dict[Pid, None] = {}
        # How often it called link with each pid. An exit signal may still arrive for each of these calls.
        self.link_attempts: Counter[Pid] = Counter()
        self.unlinked: dict[Pid, None] = {}  # pids that it ever unlinked
        self.monitors: dict[Ref, Pid | tuple[Atom, Atom]] = {}
        self.exits: dict[Pid, Term] = {}  # sender of an exit signal to its last reason
        self.downs: list[tuple[Term, Term]] = []  # target and reason of each DOWN message
        self.received: dict[Pid, int] = {}  # number of the last message of each sender
        self.sent: Counter[Pid] = Counter()  # number of the last message to each receiver
        self._received_over: dict[Pid, float | None] = {}  # start time of the connection of that last message
        self.up_nodes: dict[str, int] = {}  # node name to creation
        self.exit_counts: Counter[Pid] = Counter()
        self._note = note
        self._all_processes = all_processes
        self._started = False
        if as_handler:
            self.me = node.spawn_handler(self.receive)
        else:
            self.me = self._process_of(node, node.spawn(self._body))
            self.me.trap_exit = True
        all_processes[self.me.pid] = self
        node.monitor_nodes(self.me.pid)
        for name in node.nodes():
            self.up_nodes[name] = node.internals.creation_of(name) or 0

    @staticmethod
    def _process_of(node: Node, pid: Pid) -> Process:
        process = node.internals.local_process(pid)
        assert isinstance(process, Process)
        return process

    @property
    def pid(self) -> Pid:
        return self.me.pid

    @property
    def alive(self) -> bool:
        return self.me.alive

    async def _body(self, me: Process) -> None:
        async for message in me:
            if message is STOP:
                raise Exit(Atom("stopped"))
            if message == (EXIT, self.node.internals.pid, SHUTDOWN):  # the node stops
                raise Exit(SHUTDOWN)
            self.receive(message)

    # Actions

    def send_next(self, other: Pid) -> None:
        self.sent[other] += 1
        self.me.send(other, (MESSAGE, self.pid, other, self.sent[other]))

    def link(self, other: Pid) -> None:
        self.link_attempts[other] += 1
        if other != self.pid:
            self.links[other] = None
        self.me.link(other)

    def unlink(self, other: Pid) -> None:
        self.unlinked[other] = None
        self.me.unlink(other)
        if not any(type(message) is tuple and message[:2] == (EXIT, other) for message in self.me._mailbox):
            self.links.pop(other, None)

    def monitor(self, other: Pid | tuple[Atom, Atom]) -> None:
        ref = self.me.monitor(other)
        self.monitors[ref] = other

    def demonitor_random(self, rng: Random) -> None:
        if self.monitors:
            ref = rng.choice(list(self.monitors))
            self.me.demonitor(ref, flush=True)
            del self.monitors[ref]

    def demonitor_all(self, target: Pid) -> None:
        for ref in [ref for ref, monitored in self.monitors.items() if monitored == target]:
            self.me.demonitor(ref, flush=True)
            del self.monitors[ref]

    def kill(self, other: Pid) -> None:
        """Send the exit reason ``kill``, which a process cannot trap."""
        self.me.exit(other, KILL)

    # Checks of received messages

    def receive(self, message: Term) -> None:
        if self.node.internals.is_alive(self.pid):  # a killed process may still have queued messages
            self._note(f"{self.pid.node.name} {self.pid.id} receives {_format_message(message)}")
        match message:
            case (Atom("say"), Pid() as sender, Pid() as to, int() as number):
                if to != self.pid:
                    self._record_violation(
                        f"{self.pid!r}, {self.pid.creation}, receives a message for {to!r}, {to.creation}"
                    )
                self._check_message(sender, number)
            case (Atom("EXIT"), Pid() as sender, reason):
                self._check_exit(sender, reason)
            case (Atom("DOWN"), Ref() as ref, _, target, reason):
                self.downs.append((target, reason))
                if self.monitors.pop(ref, None) != target:
                    self._record_violation(f"{self.pid!r} receives DOWN of {target!r} without a monitor")
            case (Atom("nodeup"), Atom() as name):
                if name.name in self.up_nodes:
                    self._record_violation(f"{self.pid!r} receives nodeup of {name} twice")
                self.up_nodes[name.name] = self.node.internals.creation_of(name) or 0
                for other in [pid for pid in self.sent if pid.node is name]:
                    self.send_next(other)  # this message must arrive after those that waited for the connection
            case (Atom("nodedown"), Atom() as name):
                if self.up_nodes.pop(name.name, None) is None:
                    self._record_violation(f"{self.pid!r} receives nodedown of {name}, which was not up")

    def _check_message(self, sender: Pid, number: int) -> None:
        here = sender.node is self.node.internals.atom
        if not here and sender.node.name not in self.up_nodes:
            self._record_violation(f"{self.pid!r} receives a message of {sender!r}, whose node is not up")
        creation = self.node.internals.creation if here else self.up_nodes[sender.node.name]
        if self.me._handler is not None and sender.creation != creation:
            self._record_violation(
                f"{self.pid!r} receives a message of {sender!r}, creation {sender.creation}, now {creation}"
            )
        if number <= self.received.get(sender, 0):
            self._record_violation(f"{self.pid!r} receives {number} of {sender!r} after {self.received[sender]}")
        self._check_no_gap(sender, number)
        self.received[sender] = number

    def _check_no_gap(self, sender: Pid, number: int) -> None:
        if self.me._handler is None:
            return  # it reads its mailbox later, so it does not know over which connection the message came
        over = connected_since(self.node, sender.node.name)
        if number > self.received.get(sender, number) + 1 and self._received_over[sender] == over:
            self._record_violation(
                f"{self.pid!r} receives {number} of {sender!r} after {self.received[sender]}: one is lost"
            )
        self._received_over[sender] = over

    def _check_exit(self, sender: Pid, reason: Term) -> None:
        other = self._all_processes.get(sender)
        expected = other is not None and self.pid in other.link_attempts
        if reason is NOPROC:  # one for each link to a dead pid; all links may precede the first answer
            self.link_attempts[sender] -= 1
            expected |= self.link_attempts[sender] >= 0
        if sender not in self.links and not expected:
            self._record_violation(f"{self.pid!r} receives EXIT of {sender!r} without a link")
        self.links.pop(sender, None)
        self.exits[sender] = reason
        if reason not in (NOPROC, NOCONNECTION):
            self.exit_counts[sender] += 1
            if self.exit_counts[sender] > 1:
                self._record_violation(f"{self.pid!r} receives the exit of {sender!r} twice")


class GroupModel:
    """The groups of a pg scope as its events describe them. Call :meth:`close` to end the subscription."""

    def __init__(self, pg: Pg, note: Callable[[str], None], name: str) -> None:
        self.pg = pg
        self._note = note
        self._name = name
        self._subscribed = True
        self.members: dict[object, Counter[Pid]] = {
            exact_key(group): Counter(pg.get_members(group)) for group in pg.which_groups()
        }
        self._unsubscribe = pg.subscribe(self._on_change)
        self.violation: str | None = None

    def close(self) -> None:
        self._subscribed = False
        self._unsubscribe()

    def _on_change(self, change: Joined | Left) -> None:
        verb = "joined" if isinstance(change, Joined) else "left"
        self._note(f"{self._name} {verb} {change.group!r}: {[(pid.node.name, pid.id) for pid in change.pids]}")
        if not self._subscribed:
            self.violation = f"{self._name}: an event after the end of the subscription"
            return
        members = self.members.setdefault(exact_key(change.group), Counter())
        if isinstance(change, Joined):
            members.update(change.pids)
        else:
            self._remove_members(members, change)
        for pid in [pid for pid, count in members.items() if not count]:
            del members[pid]
        if not members:
            del self.members[exact_key(change.group)]

    def _remove_members(self, members: Counter[Pid], change: Left) -> None:
        """Remove members. A process that leaves must be a member, as many times as it leaves.

        An explicit leave is an exception: OTP too reports its pids as they were given, if at least one was a member.
        """
        explicit = change.reason is LEAVE and any(members[pid] for pid in change.pids)
        members.subtract(change.pids)
        for pid, count in members.items():
            if count < 0:
                members[pid] = 0
                if not explicit:
                    self.violation = f"{self._name}: a process that is not a member left {change.group!r}"

    def check(self) -> None:
        """Raises InvariantViolation if the events and the state of the scope differ."""
        actual = {exact_key(group): Counter(self.pg.get_members(group)) for group in self.pg.which_groups()}
        if self.violation is None and self._subscribed and self.members != actual:
            self.violation = f"{self._name}: the events give {self.members}, the scope has {actual}"
        if self.violation is not None:
            raise InvariantViolation(self.violation)


class NodeEventsChecker:
    """Monitors nodes and writes each event into the history. The events must give the same list as ``node.nodes()``."""

    def __init__(self, node: Node, note: Callable[[str], None]) -> None:
        self.node = node
        self._note = note
        self._up_nodes = dict.fromkeys(node.nodes())
        self.nodeup_counts: Counter[str] = Counter()
        """Number of nodeup messages for each node."""
        self._violation: str | None = None
        self._process = node.spawn_handler(self._receive)
        node.monitor_nodes(self._process.pid, reasons=True)

    def _receive(self, message: Term) -> None:
        event, name, *reason = message
        self._note(f"{self.node.name} {event.name} {name.name} {' '.join(atom.name for atom in reason)}".rstrip())
        if event is NODEUP:
            self.nodeup_counts[name.name] += 1
            if name.name in self._up_nodes:
                self._violation = f"{self.node.name}: nodeup of {name.name} twice"
            self._up_nodes[name.name] = None
        elif name.name in self._up_nodes:
            del self._up_nodes[name.name]
        else:
            self._violation = f"{self.node.name}: nodedown of {name.name}, which was not up"

    def check(self) -> None:
        if self._violation is None and sorted(self._up_nodes) != sorted(self.node.nodes()):
            self._violation = (
                f"{self.node.name}: the events give {list(self._up_nodes)}, nodes() is {self.node.nodes()}"
            )
        if self._violation is not None:
            raise InvariantViolation(self._violation)


def _format_message(message: Term) -> str:
    if type(message) is tuple:
        return " ".join(_format_message(part) for part in message)
    if type(message) is Pid:
        return f"{message.node.name}/{message.id}/{message.creation}"
    if type(message) is Ref:
        return "ref"
    return str(message)
