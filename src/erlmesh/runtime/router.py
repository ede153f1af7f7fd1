"""Routes signals: applies those for this node, and passes all others to a peer or to the queue of pending signals.

Signals of local processes and signals of peers are applied to the same tables. Nothing here awaits between reading a
signal and applying it. This alone guarantees that signals between two processes keep their order.

The router connects these parts:

* :mod:`~erlmesh.runtime.registry`: the local processes
* :mod:`~erlmesh.runtime.delivery`: delivers messages to them
* :mod:`~erlmesh.runtime.signal_sender`, :mod:`~erlmesh.runtime.gen_call`, :mod:`~erlmesh.runtime.spawn_client`: what a
  local process sends
* :mod:`~erlmesh.runtime.termination`: exits of processes and lost connections
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from erlmesh.core.exit_reasons import KILL, KILLED, NOPROC, NORMAL, SHUTDOWN
from erlmesh.core.identifiers import Identifiers
from erlmesh.core.monitors import MonitorEntry
from erlmesh.errors import NoConnection
from erlmesh.etf import as_received
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
from erlmesh.runtime.gen_call import GenCalls
from erlmesh.runtime.node_state import EnqueueSignal, NodeState
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_types import Backpressure, StopMode
from erlmesh.runtime.signal_sender import SignalSender
from erlmesh.runtime.spawn_client import SpawnClient
from erlmesh.runtime.termination import Termination
from erlmesh.runtime.wakeups import ExitWait
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Router", "refuse_spawn_request"]

DOWN: Final = Atom("DOWN")
EXIT: Final = Atom("EXIT")
PROCESS: Final = Atom("process")
NOTSUP: Final = Atom("notsup")

MAX_READ_SECONDS: Final = 0.02
"""How long signals of one read are applied before the event loop gets a turn. A short request may cost milliseconds,
and thousands of them fit into one read.
"""

SpawnRequestHandler: TypeAlias = Callable[[SpawnRequest], SpawnReply]


def _stopped_clock() -> float:
    return 0.0


class Router:
    """Routes the signals of one node instance. A signal to a node that is not connected goes to ``enqueue``."""

    def __init__(self, identifiers: Identifiers, enqueue: EnqueueSignal) -> None:
        self.identifiers = identifiers
        self.atom = identifiers.node
        self.creation = identifiers.creation
        state = self.state = NodeState.empty(identifiers)
        self.peers = state.peers
        self.links = state.links
        self.monitors = state.monitors
        self.registry = state.registry
        self.delivery = state.delivery
        self.wakeups = state.wakeups
        self.deadlines = state.deadlines
        self._demonitor_callbacks = state.demonitor_callbacks
        self.enqueue = enqueue
        self.signal_sender = SignalSender(state, self)
        self.gen_calls = GenCalls(state, self, self.signal_sender)
        self.spawn_client = SpawnClient(state, self, self.signal_sender)
        self.termination = Termination(state, self, self.spawn_client)
        # The next three are set by the node instance, which makes the objects behind them after the router.
        self.on_spawn_request: SpawnRequestHandler = refuse_spawn_request
        self.last_connect_error: Callable[[str], str | None] = lambda _: None
        self.pending: Callable[[Atom], Backpressure | None] = lambda _: None
        self._handlers: dict[type, Callable[[Any, Atom], None]] = {
            Send: self._on_send,
            SendName: self._on_send_name,
            SendAlias: self._on_send_alias,
            Link: self._on_link,
            Unlink: self._on_unlink,
            UnlinkAck: self._on_unlink_ack,
            ExitLink: self._on_exit_link,
            ExitSend: self._on_exit_send,
            Monitor: self._on_monitor,
            Demonitor: self._on_demonitor,
            Down: self._on_down,
            GroupLeader: self._on_group_leader,
            SpawnRequest: self._on_spawn_request,
            SpawnReply: self._on_spawn_reply,
        }

    # Incoming signals

    def handle_signals(
        self, signals: Sequence[Signal], peer: Atom, clock: Callable[[], float] = _stopped_clock
    ) -> list[Signal]:
        """Apply all signals of one read of the node ``peer``, in order. ``clock`` returns seconds.

        Return those that are not applied yet, if so much waits for the peer that its requests must wait, or if it is
        time for the other work of the event loop.
        """
        # The clock is read after a signal that runs code, if others follow. Most reads have one signal.
        ends_at = clock() + MAX_READ_SECONDS if len(signals) > 1 else math.inf
        processes, handlers, peers, deliver = self.registry.processes, self._handlers, self.peers, self.delivery.deliver
        connection, atom, creation = peers.get(peer), self.atom, self.creation
        rest = iter(signals)
        for signal in rest:
            if type(signal) is Send:  # The hot path: `_on_send`, `pid_number` and `deliver`, inlined.
                to = signal.to
                process = processes.get(to.id | to.serial << 32)
                if process is None or to.creation != creation or to.node is not atom:
                    self.state.counters.add("dropped", "no_process")
                    continue
                if process._handler is None and not process._pending_calls:
                    if process._mailbox.put(signal.message):  # It runs no code of a process.
                        process._ops.special_message_arrived(process)
                    continue
                deliver(process, signal.message, peer)
            else:
                handlers[type(signal)](signal, peer)
            if peers.get(peer) is not connection:
                # A handler process that got this signal has disconnected the peer. Its DOWNs and `nodedown` have been
                # delivered, so nothing of this connection may follow.
                return []
            if (connection is not None and connection.overfull) or (ends_at < math.inf and clock() >= ends_at):
                return list(rest)
        return []

    def apply(self, signal: Signal, node: Atom) -> None:
        """Apply one signal that came from ``node``, which may be this node."""
        self._handlers[type(signal)](signal, node)

    # Outgoing signals

    def send(self, node: Atom, signal: Signal, size: int = 0) -> Backpressure | None:
        """Send to ``node``, and connect first if needed. ``size`` is the bytes of the signal's terms, if known.

        Return what the sender has filled and must wait for, or None.
        """
        peer = self.peers.get(node)
        if peer is not None:
            peer.send(signal)
            return peer if peer.busy else None
        if node is self.atom:
            self.apply(signal, node)
            return None
        pending = self.enqueue(node, signal, size, dial=True)
        return pending if pending is not None and pending.busy else None

    def send_if_connected(self, node: Atom, signal: Signal) -> bool:
        """Send to ``node`` if it is connected or is being connected. False if the signal was dropped.

        While a connection attempt is under way, the signal that this one cancels may be queued, so this one must queue
        behind it. To a node without a connection such a signal has no meaning.
        """
        peer = self.peers.get(node)
        if peer is not None:
            peer.send(signal)
        elif node is self.atom:
            self.apply(signal, node)
        else:
            return self.enqueue(node, signal, 0, dial=False) is not None
        return True

    def no_connection_error(self, node: Atom) -> NoConnection:
        """Return the error for a caller that waits for a reply of a node without a connection."""
        why = self.last_connect_error(node.name)
        return NoConnection(f"no connection to {node.name}" + (f": {why}" if why else ""))

    # Messages

    def _on_send(self, signal: Send, peer: Atom) -> None:
        process = self.registry.local(signal.to)
        if process is not None:
            self.delivery.deliver(process, signal.message, peer)
        else:
            self.state.counters.add("dropped", "no_process")

    def _on_send_name(self, signal: SendName, peer: Atom) -> None:
        process = self.registry.names.get(signal.name)
        if process is not None:
            self.delivery.deliver(process, signal.message, peer)
        else:
            self.state.counters.add("dropped", "no_process")

    def _on_send_alias(self, signal: SendAlias, peer: Atom) -> None:
        """Resolve the call that waits at this alias. Without such a call the message goes to the mailbox."""
        process = self.registry.aliases.get(signal.alias)
        if process is None:
            return
        answer = process._pending_calls.get(signal.alias)
        if answer is None:
            self.delivery.deliver(process, signal.message, peer)
        else:
            message = signal.message
            answer.set_result(message[1] if type(message) is tuple and len(message) == 2 else message)

    def _on_group_leader(self, signal: GroupLeader, _peer: Atom) -> None:
        process = self.registry.local(signal.to)
        if process is not None:
            process.group_leader = signal.leader

    # Links and exit signals

    def _on_link(self, signal: Link, _peer: Atom) -> None:
        # As on a BEAM: a link to a process that does not exist is broken with `noproc`.
        if self.registry.local(signal.to) is None:
            self.send_if_connected(signal.sender.node, ExitLink(signal.to, signal.sender, NOPROC))
        else:
            self.links.link_received(signal)

    def _on_unlink(self, signal: Unlink, _peer: Atom) -> None:
        # The ack is sent even if the process is dead: until it comes the peer ignores exit signals of this link.
        for ack in self.links.unlink_received(signal):
            self.send_if_connected(ack.to.node, ack)

    def _on_unlink_ack(self, signal: UnlinkAck, _peer: Atom) -> None:
        self.links.unlink_ack_received(signal)

    def _on_exit_link(self, signal: ExitLink, peer: Atom) -> None:
        process = self.registry.local(signal.to)
        # An exit signal over a link that was removed meanwhile is ignored (OTP's link protocol).
        if process is not None and self.links.exit_received(signal.to, signal.sender):
            self._exit_received(process, signal.sender, self._received_reason(signal.reason, peer))

    def _on_exit_send(self, signal: ExitSend, peer: Atom) -> None:
        process = self.registry.local(signal.to)
        if process is None:
            return
        if signal.reason is KILL:  # Not trappable. Links of the process see `killed`, which is.
            self.termination.terminate(process, KILLED)
        else:
            self._exit_received(process, signal.sender, self._received_reason(signal.reason, peer))

    def _received_reason(self, reason: Term, peer: Atom) -> Term:
        """Return an exit reason in the form in which ``peer`` would send it, if it is of a process of this node."""
        return as_received(reason) if peer is self.atom else reason

    def _exit_received(self, process: LocalProcess, sender: Pid, reason: Term) -> None:
        if process.trap_exit:
            self.delivery.deliver(process, (EXIT, sender, reason))
        elif reason is SHUTDOWN and self.termination.is_stopping and process._stop_mode is not StopMode.ENDS:
            # The node stops, and this process still works for callers. Its supervisor or a linked process ends it.
            if process._stop_mode is not StopMode.FINISHES:
                self.delivery.deliver(process, (EXIT, sender, reason))
        elif reason is not NORMAL or sender == process.pid:  # `normal` ends only the process that sends it to itself.
            self.termination.terminate(process, reason)

    # Monitors

    def _on_monitor(self, signal: Monitor, _peer: Atom) -> None:
        target, registry = signal.target, self.registry
        process = registry.local(target) if isinstance(target, Pid) else registry.names.get(target)
        if process is None:
            self.send_if_connected(signal.sender.node, Down(target, signal.sender, signal.ref, NOPROC))
        else:
            self.monitors.monitor_received(process.pid, signal)

    def _on_demonitor(self, signal: Demonitor, _peer: Atom) -> None:
        self.monitors.demonitor_received(signal.ref, signal.sender)
        if self._demonitor_callbacks:
            callback = self._demonitor_callbacks.get(signal.ref)
            if callback is not None and not self.monitors.has_target(signal.ref):
                callback()

    def _on_down(self, signal: Down, peer: Atom) -> None:
        entry = self.monitors.down_received(signal.ref, peer)
        if entry is not None:
            self._deliver_down(entry, signal.ref, self._received_reason(signal.reason, peer))

    def _deliver_down(self, monitor: MonitorEntry, ref: Ref, reason: Term) -> None:
        """End the call or the wait that the monitor belongs to. Without one, send the DOWN message."""
        process = self.registry.local(monitor.origin)
        if process is None:
            return
        answer = process._pending_calls.get(ref)
        if answer is None:
            self.delivery.deliver(process, (DOWN, ref, PROCESS, monitor.down_object(), reason))
        elif type(answer) is ExitWait:
            answer.set_result(reason)
        else:
            answer.set_exception(self.gen_calls.down_error(monitor, reason))

    # Processes started across nodes

    def _on_spawn_request(self, signal: SpawnRequest, _peer: Atom) -> None:
        self.send_if_connected(signal.sender.node, self.on_spawn_request(signal))

    def _on_spawn_reply(self, signal: SpawnReply, peer: Atom) -> None:
        self.spawn_client.on_reply(signal, peer)


def refuse_spawn_request(request: SpawnRequest) -> SpawnReply:
    """Answer ``notsup``: for a node that does not serve SPAWN_REQUESTs."""
    return SpawnReply(request.ref, request.sender, 0, NOTSUP)
