"""The one place where a signal meets a mailbox, a table, or a peer.

Nothing here awaits between reading a signal and applying it: that alone is the proof that signals between two processes
keep their order. What processes here say and what peers say meets the same tables.

The router is the middle of a few parts: who lives here (:mod:`~erlmesh.runtime.registry`), how a message reaches them
(:mod:`~erlmesh.runtime.delivery`), what they do to others (:mod:`~erlmesh.runtime.acts`, :mod:`~erlmesh.runtime.calls`,
:mod:`~erlmesh.runtime.births`), and what ends (:mod:`~erlmesh.runtime.deaths`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias

from erlmesh.core.identifiers import Identifiers
from erlmesh.core.links import Links
from erlmesh.core.monitors import MonitorEntry, Monitors
from erlmesh.errors import NoConnection
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
from erlmesh.runtime.acts import Acts
from erlmesh.runtime.births import Births
from erlmesh.runtime.calls import Calls
from erlmesh.runtime.deaths import Deaths
from erlmesh.runtime.delivery import Delivery
from erlmesh.runtime.process import Ending, Process
from erlmesh.runtime.registry import Registry
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Outlet", "Peer", "Router", "refuse_to_spawn"]

DOWN: Final = Atom("DOWN")
EXIT: Final = Atom("EXIT")
PROCESS: Final = Atom("process")
NORMAL: Final = Atom("normal")
KILL: Final = Atom("kill")
KILLED: Final = Atom("killed")
NOPROC: Final = Atom("noproc")
NOTSUP: Final = Atom("notsup")

Spawner: TypeAlias = Callable[[SpawnRequest], SpawnReply]


class Outlet(Protocol):
    """Where signals to a node go, as a sender needs to know it."""

    busy: bool
    """More is queued than a BEAM lets a process send without being suspended."""

    async def wait_writable(self) -> None:
        """Until it is busy no more, or gone."""


class Peer(Outlet, Protocol):
    """An established connection, as the router needs it."""

    def send(self, signal: Signal) -> None:
        """Queues the signal. Raises EncodeError for what is no term, and is unharmed by it."""


class Hold(Protocol):
    """Keeps signals for nodes that are not connected."""

    def __call__(self, node: Atom, signal: Signal, size: int, dial: bool) -> Outlet | None:
        """If ``dial``, or if a connection is under way anyway, the signal, whose message has ``size`` bytes, is kept;
        later it is passed on, in order, or :meth:`Deaths.undeliverable` is called, not from within. Else None.
        """


class Router:
    """The signals between the processes of one node and the world. Those to other nodes that are not connected go to
    ``hold``.
    """

    def __init__(self, identifiers: Identifiers, hold: Hold) -> None:
        self.identifiers = identifiers
        self.atom = identifiers.node
        self.creation = identifiers.creation
        self.peers: dict[Atom, Peer] = {}
        self.links = Links(self.atom)
        self.monitors = Monitors(self.atom)
        self.registry = Registry(identifiers)
        self.delivery = Delivery()
        self.acts = Acts(self)
        self.calls = Calls(self)
        self.births = Births(self)
        self.deaths = Deaths(self)
        self.hold = hold
        self.spawner: Spawner = refuse_to_spawn
        self.why_not: Callable[[str], str | None] = lambda _: None
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

    # Ways in

    def hear(self, signals: Iterable[Signal], peer: Atom) -> None:
        """Applies what the node ``peer`` said, in order."""
        processes, hear, peers, deliver = self.registry.processes, self._hear, self.peers, self.delivery.deliver
        connection = peers.get(peer)
        for signal in signals:
            if peers.get(peer) is not connection:
                return  # somebody who heard the last one has disconnected: this peer is down, and speaks no more
            if type(signal) is Send:  # the one signal that must cost nothing: `_hear_send`, written out
                to = signal.to
                process = processes.get(to.id | to.serial << 32)
                if process is not None and to.creation == self.creation and to.node is self.atom:
                    deliver(process, signal.message)
            else:
                hear[type(signal)](signal, peer)

    def apply(self, signal: Signal, node: Atom) -> None:
        """Applies one signal of ``node``, which may be this one."""
        self._hear[type(signal)](signal, node)

    # Ways out

    def say(self, node: Atom, signal: Signal, size: int = 0) -> None:
        """To ``node``, which is connected to if need be. ``size`` is the bytes of the terms in the signal, if known."""
        peer = self.peers.get(node)
        if peer is not None:
            peer.send(signal)
        elif node is self.atom:
            self.apply(signal, node)
        else:
            self.hold(node, signal, size, dial=True)

    def pass_on(self, node: Atom, signal: Signal) -> bool:
        """To ``node`` if it is connected, or will be in a moment: then what the signal takes back may be waiting for
        that too. To an unconnected node the signal means nothing; False says so.
        """
        peer = self.peers.get(node)
        if peer is not None:
            peer.send(signal)
        elif node is self.atom:
            self.apply(signal, node)
        else:
            return self.hold(node, signal, 0, dial=False) is not None
        return True

    def no_connection(self, node: Atom) -> NoConnection:
        """What whoever waits for an answer of ``node`` is told when there is no connection."""
        why = self.why_not(node.name)
        return NoConnection(f"no connection to {node.name}" + (f": {why}" if why else ""))

    # Messages

    def _hear_send(self, signal: Send, _peer: Atom) -> None:
        process = self.registry.local(signal.to)
        if process is not None:
            self.delivery.deliver(process, signal.message)

    def _hear_send_name(self, signal: SendName, _peer: Atom) -> None:
        process = self.registry.names.get(signal.name)
        if process is not None:
            self.delivery.deliver(process, signal.message)

    def _hear_send_alias(self, signal: SendAlias, _peer: Atom) -> None:
        process = self.registry.aliases.get(signal.alias)
        if process is None:
            return
        answer = process.answers.get(signal.alias)
        if answer is None:
            self.delivery.deliver(process, signal.message)
        elif not answer.done():
            message = signal.message
            answer.set_result(message[1] if type(message) is tuple and len(message) == 2 else message)

    def _hear_group_leader(self, signal: GroupLeader, _peer: Atom) -> None:
        process = self.registry.local(signal.to)
        if process is not None:
            process.group_leader = signal.leader

    # Links and exit signals

    def _hear_link(self, signal: Link, _peer: Atom) -> None:
        if self.registry.local(signal.to) is None:
            self.pass_on(signal.sender.node, ExitLink(signal.to, signal.sender, NOPROC))
        else:
            self.links.link_received(signal)

    def _hear_unlink(self, signal: Unlink, _peer: Atom) -> None:
        for ack in self.links.unlink_received(signal):
            self.pass_on(ack.to.node, ack)

    def _hear_unlink_ack(self, signal: UnlinkAck, _peer: Atom) -> None:
        self.links.unlink_ack_received(signal)

    def _hear_exit_link(self, signal: ExitLink, _peer: Atom) -> None:
        process = self.registry.local(signal.to)
        if process is not None and self.links.exit_received(signal.to, signal.sender):
            self._exit(process, signal.sender, signal.reason)

    def _hear_exit_send(self, signal: ExitSend, _peer: Atom) -> None:
        process = self.registry.local(signal.to)
        if process is None:
            return
        if signal.reason is KILL:
            self.deaths.terminate(process, KILLED)
        else:
            self._exit(process, signal.sender, signal.reason)

    def _exit(self, process: Process, sender: Pid, reason: Term) -> None:
        if process.trap_exit:
            self.delivery.deliver(process, (EXIT, sender, reason))
        elif reason is not NORMAL or sender == process.pid:
            self.deaths.terminate(process, reason)

    # Monitors

    def _hear_monitor(self, signal: Monitor, _peer: Atom) -> None:
        target, registry = signal.target, self.registry
        process = registry.local(target) if isinstance(target, Pid) else registry.names.get(target)
        if process is None:
            self.pass_on(signal.sender.node, Down(target, signal.sender, signal.ref, NOPROC))
        else:
            self.monitors.monitor_received(process.pid, signal)

    def _hear_demonitor(self, signal: Demonitor, _peer: Atom) -> None:
        self.monitors.demonitor_received(signal.ref, signal.sender)

    def _hear_down(self, signal: Down, peer: Atom) -> None:
        watch = self.monitors.down_received(signal.ref, peer)
        if watch is not None:
            self._down(watch, signal.ref, signal.reason)

    def _down(self, watch: MonitorEntry, ref: Ref, reason: Term) -> None:
        process = self.registry.local(watch.origin)
        if process is None:
            return
        answer = process.answers.get(ref)
        if answer is None:
            self.delivery.deliver(process, (DOWN, ref, PROCESS, watch.down_object(), reason))
        elif answer.done():
            return
        elif type(answer) is Ending:
            answer.set_result(reason)
        else:
            answer.set_exception(self.calls.error(watch, reason))

    # Processes started across nodes

    def _hear_spawn_request(self, signal: SpawnRequest, _peer: Atom) -> None:
        self.pass_on(signal.sender.node, self.spawner(signal))

    def _hear_spawn_reply(self, signal: SpawnReply, peer: Atom) -> None:
        self.births.hear(signal, peer)


def refuse_to_spawn(request: SpawnRequest) -> SpawnReply:
    """For a node that starts nothing for others (yet, or any more)."""
    return SpawnReply(request.ref, request.sender, 0, NOTSUP)
