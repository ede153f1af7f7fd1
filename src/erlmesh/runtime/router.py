"""The one place where a signal meets a mailbox, a table, or a peer.

Nothing here awaits between reading a signal and applying it: that alone is the proof that signals between two processes
keep their order. Signals of local processes and of peers take the same road.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias

from erlmesh.errors import CalleeExited, CallError, CallTimeout, Exit, NoConnection, NoProcess
from erlmesh.etf import encode_term
from erlmesh.kernel import gen
from erlmesh.kernel.identifiers import Identifiers
from erlmesh.kernel.links import Links
from erlmesh.kernel.monitors import Monitors, Watch
from erlmesh.proto.control import (
    Demonitor,
    Down,
    ExitLink,
    ExitSend,
    GroupLeader,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    Signal,
    SpawnReply,
    SpawnRequest,
    Unlink,
    UnlinkAck,
)
from erlmesh.runtime.births import Births
from erlmesh.runtime.mailbox import EMPTY
from erlmesh.runtime.process import Destination, Ending, Process
from erlmesh.terms import Atom, ImproperList, Pid, Ref, Term

__all__ = ["Peer", "Router"]

log = logging.getLogger("erlmesh")

DOWN: Final = Atom("DOWN")
EXIT: Final = Atom("EXIT")
PROCESS: Final = Atom("process")
NORMAL: Final = Atom("normal")
KILL: Final = Atom("kill")
KILLED: Final = Atom("killed")
NOPROC: Final = Atom("noproc")
NOCONNECTION: Final = Atom("noconnection")
NOTSUP: Final = Atom("notsup")

Spawner: TypeAlias = Callable[[SpawnRequest], SpawnReply]


class Peer(Protocol):
    """An established connection, as the router needs it."""

    busy: bool
    """More is queued than a BEAM lets a process send without being suspended."""

    def send(self, signal: Signal) -> None:
        """Queues the signal. Raises EncodeError for what is no term, and is unharmed by it."""

    async def wait_writable(self) -> None:
        """Until it is busy no more, or gone."""


class Router:
    """The processes of one node and the signals between them and the world.

    ``hold(node, signal, dial)`` is called for a signal to a node that is not connected. If ``dial``, or if a connection
    is under way anyway, it keeps the signal and answers True; later it passes it on, in order, or calls
    :meth:`undeliverable`, not from within.
    """

    def __init__(self, identifiers: Identifiers, hold: Callable[[Atom, Signal, bool], bool]) -> None:
        self.identifiers = identifiers
        self.atom = identifiers.node
        self.creation = identifiers.creation
        self.processes: dict[int, Process] = {}
        self.names: dict[Atom, Process] = {}
        self.peers: dict[Atom, Peer] = {}
        self.links = Links(self.atom)
        self.monitors = Monitors(self.atom)
        self.aliases: dict[Ref, Process] = {}
        self.births = Births(self)
        self.spawner: Spawner = _refuse
        self.why_not: Callable[[str], str | None] = lambda _: None
        self._hold = hold
        self._turns: deque[tuple[Process, Term]] = deque()
        self._turning = False
        self._last_words: deque[tuple[Atom, Signal]] = deque()
        self._telling = False
        self._hear: dict[type, Callable[[Any, Atom], None]] = {
            Send: self._hear_send,
            SendName: self._hear_send_name,
            SendAlias: self._hear_send_alias,
            Link: self._hear_link,
            Unlink: self._hear_unlink,
            UnlinkAck: self._hear_unlink_ack,
            ExitLink: self._hear_exit_link,
            ExitSend: self._hear_exit_send,
            Monitor: self._hear_monitor,
            Demonitor: self._hear_demonitor,
            Down: self._hear_down,
            GroupLeader: self._hear_group_leader,
            SpawnRequest: self._hear_spawn_request,
            SpawnReply: self._hear_spawn_reply,
        }

    # What comes in

    def hear(self, signals: Iterable[Signal], peer: Atom) -> None:
        """Applies what the node ``peer`` said, in order."""
        processes, hear, peers = self.processes, self._hear, self.peers
        connection = peers.get(peer)
        for signal in signals:
            if peers.get(peer) is not connection:
                return  # somebody who heard the last one has disconnected: this peer is down, and speaks no more
            if type(signal) is Send:  # the one signal that must cost nothing: `_hear_send`, written out
                to = signal.to
                process = processes.get(to.id | to.serial << 32)
                if process is not None and to.creation == self.creation and to.node is self.atom:
                    self.deliver(process, signal.message)
            else:
                hear[type(signal)](signal, peer)

    def deliver(self, process: Process, message: Term) -> None:
        """Gives a message to a local process. A server takes it now, or after the message it is at."""
        if process.receiver is None:
            if process.answers and self._answered(process, message):
                return
            process.mailbox.put(message)
        elif self._turning:
            self._turns.append((process, message))
        else:
            self._turns.append((process, message))
            self._take_waiting_turns()

    def _take_waiting_turns(self) -> None:
        self._turning = True
        try:
            self._take_turns()
        finally:
            self._turning = False

    def _take_turns(self) -> None:
        turns = self._turns
        while turns:
            process, message = turns.popleft()
            if process.receiver is None or (process.answers and self._answered(process, message)):
                continue
            try:
                process.receiver(message)
            except Exception:
                log.exception("%s failed on a message and goes on: %.200r", process.label, message)

    def local(self, pid: Pid) -> Process | None:
        """The living process with exactly this pid; a pid of a former life of this node is nobody."""
        process = self.processes.get(pid.id | pid.serial << 32)
        if process is None or pid.creation != self.creation or pid.node is not self.atom:
            return None
        return process

    def _hear_send(self, signal: Send, _peer: Atom) -> None:
        process = self.local(signal.to)
        if process is not None:
            self.deliver(process, signal.message)

    def _hear_send_name(self, signal: SendName, _peer: Atom) -> None:
        process = self.names.get(signal.name)
        if process is not None:
            self.deliver(process, signal.message)

    def _hear_send_alias(self, signal: SendAlias, _peer: Atom) -> None:
        process = self.aliases.get(signal.alias)
        if process is None:
            return
        answer = process.answers.get(signal.alias)
        if answer is None:
            self.deliver(process, signal.message)
        elif not answer.done():
            message = signal.message
            answer.set_result(message[1] if type(message) is tuple and len(message) == 2 else message)

    def _answered(self, process: Process, message: Term) -> bool:
        # Peers older than aliases (OTP 23) echo our tag to the pid.
        if type(message) is not tuple or len(message) != 2 or type(message[0]) is not ImproperList:
            return False
        answer = process.answers.get(message[0].tail) if type(message[0].tail) is Ref else None
        if answer is None:
            return False
        if not answer.done():
            answer.set_result(message[1])
        return True

    def _hear_link(self, signal: Link, _peer: Atom) -> None:
        if self.local(signal.to) is None:
            self.pass_on(signal.sender.node, ExitLink(signal.to, signal.sender, NOPROC))
        else:
            self.links.linked(signal)

    def _hear_unlink(self, signal: Unlink, _peer: Atom) -> None:
        for ack in self.links.unlinked(signal):
            self.pass_on(ack.to.node, ack)

    def _hear_unlink_ack(self, signal: UnlinkAck, _peer: Atom) -> None:
        self.links.acknowledged(signal)

    def _hear_exit_link(self, signal: ExitLink, _peer: Atom) -> None:
        process = self.local(signal.to)
        if process is not None and self.links.broken(signal.to, signal.sender):
            self._exit(process, signal.sender, signal.reason)

    def _hear_exit_send(self, signal: ExitSend, _peer: Atom) -> None:
        process = self.local(signal.to)
        if process is None:
            return
        if signal.reason is KILL:
            self.terminate(process, KILLED)
        else:
            self._exit(process, signal.sender, signal.reason)

    def _exit(self, process: Process, sender: Pid, reason: Term) -> None:
        if process.trap_exit:
            self.deliver(process, (EXIT, sender, reason))
        elif reason is not NORMAL or sender == process.pid:
            self.terminate(process, reason)

    def _hear_monitor(self, signal: Monitor, _peer: Atom) -> None:
        target = signal.target
        process = self.local(target) if isinstance(target, Pid) else self.names.get(target)
        if process is None:
            self.pass_on(signal.sender.node, Down(target, signal.sender, signal.ref, NOPROC))
        else:
            self.monitors.watched(process.pid, signal)

    def _hear_demonitor(self, signal: Demonitor, _peer: Atom) -> None:
        self.monitors.unwatched(signal.ref, signal.sender)

    def _hear_down(self, signal: Down, peer: Atom) -> None:
        watch = self.monitors.down(signal.ref, peer)
        if watch is not None:
            self._down(watch, signal.ref, signal.reason)

    def _down(self, watch: Watch, ref: Ref, reason: Term) -> None:
        process = self.local(watch.owner)
        if process is None:
            return
        answer = process.answers.get(ref)
        if answer is None:
            self.deliver(process, (DOWN, ref, PROCESS, watch.as_seen(), reason))
        elif answer.done():
            return
        elif type(answer) is Ending:
            answer.set_result(reason)
        else:
            answer.set_exception(self._call_error(watch, reason))

    def _hear_group_leader(self, signal: GroupLeader, _peer: Atom) -> None:
        process = self.local(signal.to)
        if process is not None:
            process.group_leader = signal.leader

    def _hear_spawn_request(self, signal: SpawnRequest, _peer: Atom) -> None:
        self.pass_on(signal.sender.node, self.spawner(signal))

    def _hear_spawn_reply(self, signal: SpawnReply, peer: Atom) -> None:
        self.births.hear(signal, peer)

    # What local processes do

    def send(
        self, sender: Process, to: Destination, message: Term, *, connect: bool = True, strict: bool = True
    ) -> None:
        """See :meth:`Process.send`. Not ``strict``: a local name that nobody has swallows the message."""
        if type(to) is Pid:
            node = to.node
            signal: Signal = Send(sender.pid, to, message)
        elif type(to) is Ref:
            node = to.node
            signal = SendAlias(sender.pid, to, message)
        elif type(to) is tuple and len(to) == 2:
            node = Atom(to[1])
            signal = SendName(sender.pid, Atom(to[0]), message)
        elif isinstance(to, (Atom, str)):
            self._send_to_local_name(Atom(to), message, strict=strict)
            return
        else:
            raise TypeError(f"cannot send to {to!r}: a destination is a pid, an alias, a name, or (name, node)")
        peer = self.peers.get(node)
        if peer is not None:
            peer.send(signal)
            if peer.busy:
                sender.held_by = peer
        elif node is self.atom:
            self._hear[type(signal)](signal, node)
        elif connect:
            encode_term(message)  # what is no term must be told now, to the one who said it
            self._hold(node, signal, True)
        else:
            encode_term(message)
            self._hold(node, signal, False)

    def _send_to_local_name(self, name: Atom, message: Term, *, strict: bool) -> None:
        process = self.names.get(name)
        if process is not None:
            self.deliver(process, message)
        elif strict:
            raise ValueError(f"no process is registered here as {name}; for another node use (name, node)")

    def link(self, process: Process, other: Pid) -> None:
        _require_pid(other)
        if other == process.pid:
            return
        for signal in self.links.link(process.pid, other):
            if other.node is not self.atom:
                self.say(other.node, signal)
            elif self.local(other) is None:
                self._hear_exit_link(ExitLink(other, process.pid, NOPROC), self.atom)
            else:
                self.links.linked(signal)

    def unlink(self, process: Process, other: Pid) -> None:
        _require_pid(other)
        for signal in self.links.unlink(process.pid, other):
            if not self.pass_on(other.node, signal):
                self._never_mind(signal)

    def monitor(self, process: Process, target: Pid | Atom | str | tuple[Atom | str, Atom | str]) -> Ref:
        ref = self.identifiers.ref()
        if process.receiver is None or self._turning:
            self._watch(process, target, ref)
            return ref
        # A server, outside its turn: the DOWN of who is dead must not come before the caller has the reference.
        self._turning = True
        try:
            self._watch(process, target, ref)
        finally:
            self._turning = False
            if self._turns:
                asyncio.get_running_loop().call_soon(self._take_waiting_turns)
        return ref

    def _watch(self, process: Process, target: Destination, ref: Ref) -> None:
        if isinstance(target, Pid):
            node: Atom = target.node
            watched: Pid | Atom = target
        elif isinstance(target, tuple) and len(target) == 2:
            watched, node = Atom(target[0]), Atom(target[1])
        elif isinstance(target, (Atom, str)):
            watched, node = Atom(target), self.atom
        else:
            raise TypeError(f"cannot monitor {target!r}: give a pid, a name, or (name, node)")
        self.say(node, self.monitors.watch(process.pid, watched, node, ref))

    def demonitor(self, process: Process, ref: Ref) -> bool:
        ended = self.monitors.unwatch(process.pid, ref)
        if ended is None:
            return False
        watch, signal = ended
        self.pass_on(watch.node, signal)
        return True

    def forget_down(self, process: Process, ref: Ref) -> None:
        """Removes a DOWN that ``process`` has been sent and has not seen."""

        def is_it(message: Term) -> bool:
            return type(message) is tuple and len(message) == 5 and message[0] is DOWN and message[1] == ref

        if process.mailbox.take(is_it) is EMPTY and process.receiver is not None:
            for turn in [turn for turn in self._turns if turn[0] is process and is_it(turn[1])]:
                self._turns.remove(turn)

    def alias(self, process: Process) -> Ref:
        ref = self.identifiers.ref()
        self.aliases[ref] = process
        process.aliases[ref] = None
        return ref

    def unalias(self, process: Process, ref: Ref) -> bool:
        if self.aliases.get(ref) is not process:
            return False
        del self.aliases[ref]
        del process.aliases[ref]
        return True

    def exit_signal(self, sender: Pid, to: Pid, reason: Term) -> None:
        _require_pid(to)
        encode_term(reason)  # it would go on from process to process, and to any node
        self.say(to.node, ExitSend(sender, to, reason))

    async def call(self, caller: Process, to: Destination, request: Term, timeout: float | None) -> Term:
        loop = asyncio.get_running_loop()
        ref = self.alias(caller)
        answer = caller.answers[ref] = loop.create_future()
        expiry = None if timeout is None else loop.call_later(timeout, _expire, answer, to, timeout)
        try:
            self._watch(caller, to, ref)
            self.send(caller, to, gen.call(caller.pid, ref, request), strict=False)
            return await answer
        finally:
            if expiry is not None:
                expiry.cancel()
            caller.answers.pop(ref, None)
            self.unalias(caller, ref)
            self.demonitor(caller, ref)
            if answer.done() and not answer.cancelled():
                answer.exception()  # told already, or nobody waits any more

    def _call_error(self, watch: Watch, reason: Term) -> CallError:
        seen = watch.as_seen()
        who = str(seen) if isinstance(seen, Pid) else f"{seen[0]} on {seen[1].name}"
        if reason is NOPROC:
            return NoProcess(f"there is no process {who}")
        if reason is NOCONNECTION:
            return self.no_connection(watch.node)
        return CalleeExited(f"{who} exited before it answered: {reason}", reason)

    def no_connection(self, node: Atom) -> NoConnection:
        why = self.why_not(node.name)
        return NoConnection(f"no connection to {node.name}" + (f": {why}" if why else ""))

    # Births and deaths

    def add(self, process: Process) -> None:
        self.processes[process.number] = process

    def adopt(self, process: Process, parent: Pid, ref: Ref, *, linked: bool, monitored: bool) -> None:
        """A process was spawned for ``parent``, on its node's request ``ref``: linked and watched from its birth."""
        if linked:
            self.links.linked(Link(parent, process.pid))
        if monitored:
            self.monitors.watched(process.pid, Monitor(parent, process.pid, ref))

    def register(self, name: Atom, process: Process) -> None:
        if name in self.names:
            raise ValueError(f"the name {name} is taken by {self.names[name].pid}")
        self.names[name] = process
        process.names.append(name)

    def unregister(self, name: Atom) -> bool:
        process = self.names.pop(name, None)
        if process is not None:
            process.names.remove(name)
        return process is not None

    def terminate(self, process: Process, reason: Term) -> None:
        """Ends a process: at once for everybody else; its task is cancelled and may still tidy up.

        ``reason`` is a term. When this returns all who are to hear of it have been told, except when it is called from
        one who is being told of a death: then those who come first are told first.
        """
        if not process.alive:
            return
        process.alive = False
        process.exit_reason = reason
        process.receiver = None
        del self.processes[process.number]
        for name in process.names:
            del self.names[name]
        for ref in process.aliases:
            del self.aliases[ref]
        process.aliases.clear()
        for answer in process.answers.values():
            if not answer.done():
                answer.set_exception(Exit(reason))
        process.answers.clear()
        if process.task is not None:
            process.task.cancel()
        downs, taken_back = self.monitors.died(process.pid, reason)
        words = self._last_words  # links before monitors, as a BEAM does
        words += [(link.to.node, link) for link in self.links.died(process.pid, reason)]
        words += [(down.to.node, down) for down in downs]
        words += [(watch.node, demonitor) for watch, demonitor in taken_back]
        if not self._telling:  # the deaths it causes take their turn: a chain of links may be long
            self._telling = True
            try:
                self._tell()
            finally:
                self._telling = False

    def _tell(self) -> None:
        words = self._last_words
        while words:
            self.pass_on(*words.popleft())

    def lost(self, node: Atom) -> None:
        """The connection to ``node`` is gone."""
        exits = self.links.lost(node, NOCONNECTION)
        downs = self.monitors.lost(node, NOCONNECTION)  # before anybody who hears of it watches that node anew
        unborn = self.births.asked_of(node)
        for link in exits:
            self._hear_exit_link(link, node)
        for down in downs:
            self._hear_down(down, node)
        for ref in unborn:
            self.births.undeliverable(ref)

    def undeliverable(self, signal: Signal, node: Atom) -> None:
        """A signal that was held could not be sent: its node cannot be reached."""
        if isinstance(signal, Unlink):
            self._never_mind(signal)
        elif isinstance(signal, Link):
            self._hear_exit_link(ExitLink(signal.to, signal.sender, NOCONNECTION), node)
        elif isinstance(signal, Monitor):
            self._hear_down(Down(signal.target, signal.sender, signal.ref, NOCONNECTION), node)
        elif isinstance(signal, SpawnRequest):
            self.births.undeliverable(signal.ref)

    # Ways out

    def say(self, node: Atom, signal: Signal) -> None:
        """To ``node``, which is connected to if need be."""
        peer = self.peers.get(node)
        if peer is not None:
            peer.send(signal)
        elif node is self.atom:
            self._hear[type(signal)](signal, node)
        else:
            self._hold(node, signal, True)

    def pass_on(self, node: Atom, signal: Signal) -> bool:
        """To ``node`` if it is connected, or will be in a moment: then what the signal takes back may be waiting for
        that too. To an unconnected node the signal means nothing; False says so.
        """
        peer = self.peers.get(node)
        if peer is not None:
            peer.send(signal)
        elif node is self.atom:
            self._hear[type(signal)](signal, node)
        else:
            return self._hold(node, signal, False)
        return True

    def _never_mind(self, signal: Unlink) -> None:
        """Nobody will acknowledge this one: there is no connection that the link could be on."""
        assert signal.id is not None
        self.links.acknowledged(UnlinkAck(signal.id, signal.to, signal.sender))


def _refuse(request: SpawnRequest) -> SpawnReply:
    return SpawnReply(request.ref, request.sender, 0, NOTSUP)


def _expire(answer: asyncio.Future[Term], to: Destination, seconds: float) -> None:
    if not answer.done():
        answer.set_exception(CallTimeout(f"no answer from {to} within {seconds:g} s"))


def _require_pid(pid: object) -> None:
    if type(pid) is not Pid:
        raise TypeError(f"a pid is wanted here, not {pid!r}: ask whereis() for the pid of a name")
