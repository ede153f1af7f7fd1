"""The people of a story: processes that remember what they were told and what they must not be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from erlmesh.errors import Exit
from erlmesh.node import Node, Process
from erlmesh.services.pg.server import Joined, Left, Pg
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key
from erlmesh.testing.inside import connected_since

__all__ = ["Actor", "Broken", "Groups", "Witness"]

SAY: Final = Atom("say")
EXIT: Final = Atom("EXIT")
DOWN: Final = Atom("DOWN")
NODEUP: Final = Atom("nodeup")
NODEDOWN: Final = Atom("nodedown")
STOP: Final = Atom("stop")
LEAVE: Final = Atom("leave")
KILL: Final = Atom("kill")
NOPROC: Final = Atom("noproc")
NOCONNECTION: Final = Atom("noconnection")


class Broken(AssertionError):
    """An invariant does not hold."""


class Actor:
    """A process of a story, with a task or (``server``) without. It traps exits and watches nodes.

    What it checks with each message: it comes from a node that is up, from no former life of it, in order, and none is
    missing that was said over the same connection; an exit comes over a link and a ``DOWN`` from a monitor that there
    is, and each once. What it heard of ends is in ``exits`` and ``downs``.
    """

    def __init__(
        self,
        node: Node,
        note: Callable[[str], None],
        blame: Callable[[str], None],
        everybody: dict[Pid, Actor],
        *,
        server: bool,
    ) -> None:
        self.node = node
        self._blame = blame
        self.links: dict[Pid, None] = {}
        self.has_linked: Counter[Pid] = Counter()
        self.has_unlinked: dict[Pid, None] = {}
        self.watches: dict[Ref, Pid | tuple[Atom, Atom]] = {}
        self.exits: dict[Pid, Term] = {}
        self.downs: list[tuple[Term, Term]] = []
        self.heard: dict[Pid, int] = {}
        self.said: Counter[Pid] = Counter()
        self._heard_over: dict[Pid, float | None] = {}
        self.up: dict[str, int] = {}
        self.deaths: Counter[Pid] = Counter()
        self._note = note
        self._everybody = everybody
        self._started = False
        if server:
            self.me = node.spawn_handler(self.receive)
        else:
            self.me = self._handle(node, node.spawn(self._live))
            self.me.trap_exit = True
        everybody[self.me.pid] = self
        node.monitor_nodes(self.me.pid)
        for name in node.nodes():
            self.up[name] = node._creation_of(name) or 0

    @staticmethod
    def _handle(node: Node, pid: Pid) -> Process:
        process = node._local_process(pid)
        assert isinstance(process, Process)
        return process

    @property
    def pid(self) -> Pid:
        return self.me.pid

    @property
    def lives(self) -> bool:
        return self.me.alive

    async def _live(self, me: Process) -> None:
        async for message in me:
            if message is STOP:
                raise Exit(Atom("stopped"))
            self.receive(message)

    # What it does

    def say(self, other: Pid) -> None:
        self.said[other] += 1
        self.me.send(other, (SAY, self.pid, other, self.said[other]))

    def link(self, other: Pid) -> None:
        self.has_linked[other] += 1
        if other != self.pid:
            self.links[other] = None
        self.me.link(other)

    def unlink(self, other: Pid) -> None:
        self.has_unlinked[other] = None
        self.me.unlink(other)
        if not any(type(message) is tuple and message[:2] == (EXIT, other) for message in self.me._mailbox.messages):
            self.links.pop(other, None)

    def watch(self, other: Pid | tuple[Atom, Atom]) -> None:
        ref = self.me.monitor(other)
        self.watches[ref] = other

    def unwatch(self, chance: Random) -> None:
        if self.watches:
            ref = chance.choice(list(self.watches))
            self.me.demonitor(ref, flush=True)
            del self.watches[ref]

    def unwatch_all(self, target: Pid) -> None:
        for ref in [ref for ref, watched in self.watches.items() if watched == target]:
            self.me.demonitor(ref, flush=True)
            del self.watches[ref]

    def shoot(self, other: Pid) -> None:
        """Nobody survives that."""
        self.me.exit(other, KILL)

    # What it hears

    def receive(self, message: Term) -> None:
        if self.node.is_alive(self.pid):  # a dying one may have been told of its end before its last letters
            self._note(f"{self.pid.node.name} {self.pid.id} hears {_short(message)}")
        match message:
            case (Atom("say"), Pid() as sender, Pid() as to, int() as number):
                if to != self.pid:
                    self._blame(f"{self.pid!r}, {self.pid.creation}, hears what is for {to!r}, {to.creation}")
                self._said(sender, number)
            case (Atom("EXIT"), Pid() as sender, reason):
                self._exit(sender, reason)
            case (Atom("DOWN"), Ref() as ref, _, target, reason):
                self.downs.append((target, reason))
                if self.watches.pop(ref, None) != target:
                    self._blame(f"{self.pid!r} hears DOWN of {target!r}, which it does not watch (any more)")
            case (Atom("nodeup"), Atom() as name):
                if name.name in self.up:
                    self._blame(f"{self.pid!r} hears nodeup of {name} twice")
                self.up[name.name] = self.node._creation_of(name) or 0
                for other in [pid for pid in self.said if pid.node is name]:
                    self.say(other)  # what has waited for the connection must come before
            case (Atom("nodedown"), Atom() as name):
                if self.up.pop(name.name, None) is None:
                    self._blame(f"{self.pid!r} hears nodedown of {name}, which was not up")

    def _said(self, sender: Pid, number: int) -> None:
        here = sender.node is self.node.atom
        if not here and sender.node.name not in self.up:
            self._blame(f"{self.pid!r} hears {sender!r}, whose node is not up")
        creation = self.node.creation if here else self.up[sender.node.name]
        if self.me._handler is not None and sender.creation != creation:
            self._blame(f"{self.pid!r} hears {sender!r} of a former life, {sender.creation}, now {creation}")
        if number <= self.heard.get(sender, 0):
            self._blame(f"{self.pid!r} hears {number} of {sender!r} after {self.heard[sender]}")
        self._none_is_missing(sender, number)
        self.heard[sender] = number

    def _none_is_missing(self, sender: Pid, number: int) -> None:
        if self.me._handler is None:
            return  # it reads its mailbox when it comes to it: over which connection that came, it cannot tell
        over = connected_since(self.node, sender.node.name)
        if number > self.heard.get(sender, number) + 1 and self._heard_over[sender] == over:
            self._blame(f"{self.pid!r} hears {number} of {sender!r} after {self.heard[sender]}: one is lost")
        self._heard_over[sender] = over

    def _exit(self, sender: Pid, reason: Term) -> None:
        other = self._everybody.get(sender)
        invited = other is not None and self.pid in other.has_linked
        if reason is NOPROC:  # one for each time that it linked with nobody, the last before it read of the first
            self.has_linked[sender] -= 1
            invited |= self.has_linked[sender] >= 0
        if sender not in self.links and not invited:
            self._blame(f"{self.pid!r} hears EXIT of {sender!r}, to which it is not linked")
        self.links.pop(sender, None)
        self.exits[sender] = reason
        if reason not in (NOPROC, NOCONNECTION):
            self.deaths[sender] += 1
            if self.deaths[sender] > 1:
                self._blame(f"{self.pid!r} hears twice that {sender!r} died")


class Groups:
    """What one who subscribed to a scope's changes believes of its groups; ends with :meth:`close`."""

    def __init__(self, pg: Pg, note: Callable[[str], None], name: str) -> None:
        self.pg = pg
        self._note = note
        self._name = name
        self._open = True
        self.members: dict[object, Counter[Pid]] = {
            exact_key(group): Counter(pg.get_members(group)) for group in pg.which_groups()
        }
        self._unsubscribe = pg.subscribe(self._change)
        self.fault: str | None = None

    def close(self) -> None:
        self._open = False
        self._unsubscribe()

    def _change(self, change: Joined | Left) -> None:
        what = "joined" if isinstance(change, Joined) else "left"
        self._note(f"{self._name} {what} {change.group!r}: {[(pid.node.name, pid.id) for pid in change.pids]}")
        if not self._open:
            self.fault = f"{self._name}: an event after the end of the subscription"
            return
        members = self.members.setdefault(exact_key(change.group), Counter())
        if isinstance(change, Joined):
            members.update(change.pids)
        else:
            self._left(members, change)
        for pid in [pid for pid, count in members.items() if not count]:
            del members[pid]
        if not members:
            del self.members[exact_key(change.group)]

    def _left(self, members: Counter[Pid], change: Left) -> None:
        """Who leaves was in it, as often as it leaves; but who leaves by itself, and is named with others or more often
        than it was in, is told of as it was named, in OTP too. Then somebody was in it.
        """
        meant = change.reason is LEAVE and any(members[pid] for pid in change.pids)
        members.subtract(change.pids)
        for pid, count in members.items():
            if count < 0:
                members[pid] = 0
                if not meant:
                    self.fault = f"{self._name}: somebody left {change.group!r} who was not in it"

    def check(self) -> None:
        """Raises Broken if the events do not lead to what the books say."""
        books = {exact_key(group): Counter(self.pg.get_members(group)) for group in self.pg.which_groups()}
        if self.fault is None and self._open and self.members != books:
            self.fault = f"{self._name}: the events say {self.members}, the books {books}"
        if self.fault is not None:
            raise Broken(self.fault)


class Witness:
    """A server that watches nodes come and go, and notes it; its list must be the node's."""

    def __init__(self, node: Node, note: Callable[[str], None]) -> None:
        self.node = node
        self._note = note
        self._up = dict.fromkeys(node.nodes())
        self.ups: Counter[str] = Counter()
        """How often it was told of whom."""
        self._fault: str | None = None
        self._me = node.spawn_handler(self._receive)
        node.monitor_nodes(self._me.pid, reasons=True)

    def _receive(self, message: Term) -> None:
        word, name, *reason = message
        self._note(f"{self.node.name} {word.name} {name.name} {' '.join(atom.name for atom in reason)}".rstrip())
        if word is NODEUP:
            self.ups[name.name] += 1
            if name.name in self._up:
                self._fault = f"{self.node.name}: nodeup of {name.name} twice"
            self._up[name.name] = None
        elif name.name in self._up:
            del self._up[name.name]
        else:
            self._fault = f"{self.node.name}: nodedown of {name.name}, which was not up"

    def check(self) -> None:
        if self._fault is None and sorted(self._up) != sorted(self.node.nodes()):
            self._fault = f"{self.node.name}: told of {list(self._up)}, nodes() are {self.node.nodes()}"
        if self._fault is not None:
            raise Broken(self._fault)


def _short(message: Term) -> str:
    if type(message) is tuple:
        return " ".join(_short(part) for part in message)
    if type(message) is Pid:
        return f"{message.node.name}/{message.id}/{message.creation}"
    if type(message) is Ref:
        return "ref"
    return str(message)
