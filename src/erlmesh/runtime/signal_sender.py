"""Sends the signals of local processes: messages, links, monitors and exit signals.

Each method turns its call into a signal at once and passes it to the router or to a peer. Nothing here awaits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.exit_reasons import NOPROC
from erlmesh.etf import encode_term
from erlmesh.proto.control import ExitLink, ExitSend, Send, SendAlias, SendName, Signal
from erlmesh.runtime.node_state import Dispatcher, NodeState, Peer
from erlmesh.runtime.process import Destination, LocalProcess
from erlmesh.runtime.running_process import RUNNING, suspend_later
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.copying import copy_term

if TYPE_CHECKING:
    from erlmesh.core.node_counters import CallObserver

__all__ = ["SignalSender"]

DOWN: Final = Atom("DOWN")


class SignalSender:
    """Sends signals for the processes of one node. The first argument of each method is the process that sends.

    The methods of :class:`~erlmesh.runtime.process.LocalProcess` with the same names document the behaviour.
    """

    def __init__(self, state: NodeState, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.copy: Callable[[Term], Term] = copy_term
        """Makes what a local receiver gets of a message. Simulations may pass it through the codec."""
        self._atom = state.identifiers.node
        self._identifiers = state.identifiers
        self._registry = state.registry
        self._local = state.registry.local
        self._delivery = state.delivery
        self._counters = state.counters
        self._links = state.links
        self._monitors = state.monitors
        self._peers = state.peers

    # Messages

    def send(
        self, sender: LocalProcess, to: Destination, message: Term, connect: bool = True, strict: bool = True
    ) -> None:
        """See :meth:`Process.send`. Without ``strict``, a message to a local name that is not registered is dropped."""
        kind: type[Send | SendAlias | SendName]
        target: Any
        if type(to) is Pid:
            node, kind, target = to.node, Send, to
            peer = self._peers.get(node)
            if peer is not None:  # The hot path. It encodes the message now, so a copy is not needed.
                peer.send_message(sender.pid, to, message)
                if peer.busy:
                    suspend_later(sender, peer)
                return
            if node is self._atom:
                self._send_local(self._local(to), message)
                return
        elif type(to) is Ref:
            node, kind, target = to.node, SendAlias, to
        elif type(to) is tuple and len(to) == 2:
            node, kind, target = Atom(to[1]), SendName, Atom(to[0])
        elif isinstance(to, (Atom, str)):
            self._send_to_local_name(Atom(to), message, strict=strict)
            return
        else:
            raise TypeError(f"cannot send to {to!r}: a destination is a pid, an alias, a name, or (name, node)")
        peer = self._peers.get(node)
        if peer is not None:
            peer.send(kind(sender.pid, target, message))
            if peer.busy:
                suspend_later(sender, peer)
        elif node is self._atom:
            self._dispatcher.apply(kind(sender.pid, target, self.copy(message)), node)
        else:
            # The message is queued and encoded later. A value that is not a term must raise now, in the sender.
            size = len(encode_term(message))
            queue = self._dispatcher.enqueue(node, kind(sender.pid, target, copy_term(message)), size, dial=connect)
            if queue is not None and queue.busy:
                suspend_later(sender, queue)

    def try_send(self, sender: LocalProcess, to: Destination, message: Term, connect: bool) -> bool:
        """Send unless the way to the node is full. ``sender`` does not wait for it later. See :meth:`Process.send`."""
        if self._is_full(to):
            return False
        waiting = sender if sender._handler is None else RUNNING.get()  # as `suspend_later` chooses
        before = None if waiting is None else waiting._blocked_on
        self.send(sender, to, message, connect)
        if waiting is not None:
            waiting._blocked_on = before
        return True

    def _is_full(self, to: Destination) -> bool:
        """Whether so much waits for the node of ``to`` that a sender would be suspended."""
        node = to.node if isinstance(to, (Pid, Ref)) else Atom(to[1]) if type(to) is tuple and len(to) == 2 else None
        if node is None or node is self._atom:
            return False
        way = self._peers.get(node) or self._dispatcher.pending(node)
        return way is not None and way.busy

    def send_call(
        self, caller: LocalProcess, to: Destination, message: Term, ref: Ref, token: Term | None = None
    ) -> None:
        """Monitor ``to`` under ``ref``, and send it the ``message`` of a call. The arguments are as in these methods.

        A message to a local name that is not registered is dropped, because the monitor reports it. ``token`` is a
        trace token for a connected node.
        """
        peer: Peer | None = None
        pid = caller.pid
        if type(to) is Pid:
            peer = self._peers.get(to.node)
            if peer is not None:
                peer.send(self._monitors.monitor(pid, to, to.node, ref))
                if token is None:
                    peer.send_message(pid, to, message)
                else:
                    peer.send(Send(pid, to, message, token))
        elif type(to) is tuple and len(to) == 2:
            name, node = Atom(to[0]), Atom(to[1])
            peer = self._peers.get(node)
            if peer is not None:
                peer.send(self._monitors.monitor(pid, name, node, ref))
                peer.send(SendName(pid, name, message, token))
        if peer is None:
            self.monitor_with_ref(caller, to, ref)
            self.send(caller, to, message, strict=False)
        elif peer.busy:
            suspend_later(caller, peer)

    def send_traced(self, sender: LocalProcess, to: Destination, message: Term, observer: CallObserver) -> bool:
        """Send a cast with the current context. False if it carries none, or cannot be sent at once."""
        target: Pid | Atom
        if type(to) is Pid:
            node, target = to.node, to
        elif type(to) is tuple and len(to) == 2:
            node, target = Atom(to[1]), Atom(to[0])
        elif isinstance(to, (Atom, str)):
            node, target = self._atom, Atom(to)
        else:
            return False
        peer = self._peers.get(node)
        context = None if peer is None and node is not self._atom else observer.context_for(node)
        if context is None:
            return False
        if peer is not None:
            if isinstance(target, Pid):
                peer.send(Send(sender.pid, target, message, context))
            else:
                peer.send(SendName(sender.pid, target, message, context))
            if peer.busy:
                suspend_later(sender, peer)
            return True
        process = self._local(target) if isinstance(target, Pid) else self._registry.names.get(target)
        if process is None:
            return False
        delivered = self.copy(message)
        observer.keep_cast(delivered, context)
        self._delivery.deliver(process, delivered)
        return True

    def _send_local(self, process: LocalProcess | None, message: Term) -> None:
        if process is not None:
            self._delivery.deliver(process, self.copy(message))
        else:
            self._counters.add("dropped", "no_process")

    def _send_to_local_name(self, name: Atom, message: Term, *, strict: bool) -> None:
        process = self._registry.names.get(name)
        if process is None and strict:
            raise ValueError(f"no process is registered here as {name}; for another node use (name, node)")
        self._send_local(process, message)

    # Links and exit signals

    def link(self, process: LocalProcess, other: Pid) -> None:
        _require_pid(other)
        if other == process.pid:  # As in Erlang, a link to itself has no effect.
            return
        for signal in self._links.link(process.pid, other):
            if other.node is not self._atom:
                self._send(process, other.node, signal)
            elif self._local(other) is None:
                self._dispatcher.apply(ExitLink(other, process.pid, NOPROC), self._atom)
            else:
                self._links.link_received(signal)

    def unlink(self, process: LocalProcess, other: Pid) -> None:
        _require_pid(other)
        for signal in self._links.unlink(process.pid, other):
            if not self._dispatcher.send_if_connected(other.node, signal):  # No UNLINK_ACK will come.
                self._links.unlink_undeliverable(signal)

    def exit_signal(self, sender: LocalProcess, to: Pid, reason: Term) -> None:
        _require_pid(to)
        # The reason spreads over links to other processes and nodes, so it must be a term from the start.
        size = len(encode_term(reason))
        self._send(sender, to.node, ExitSend(sender.pid, to, reason), size)

    # Monitors

    def monitor(self, process: LocalProcess, target: Destination) -> Ref:
        ref = self._identifiers.ref()
        if process._handler is None:
            self.monitor_with_ref(process, target, ref)
        else:  # If the target is dead, the handler must not get the DOWN before it has the reference.
            self._delivery.run_then_deliver(self.monitor_with_ref, process, target, ref)
        return ref

    def monitor_with_ref(self, process: LocalProcess, target: Destination, ref: Ref) -> None:
        """Monitor ``target`` under a reference that the caller has made."""
        if isinstance(target, Pid):
            node: Atom = target.node
            pid_or_name: Pid | Atom = target
        elif isinstance(target, tuple) and len(target) == 2:
            pid_or_name, node = Atom(target[0]), Atom(target[1])
        elif isinstance(target, (Atom, str)):
            pid_or_name, node = Atom(target), self._atom
        else:
            raise TypeError(f"cannot monitor {target!r}: give a pid, a name, or (name, node)")
        self._send(process, node, self._monitors.monitor(process.pid, pid_or_name, node, ref))

    def demonitor(self, process: LocalProcess, ref: Ref) -> bool:
        removed = self._monitors.demonitor(process.pid, ref)
        if removed is None:
            return False
        entry, signal = removed
        self._dispatcher.send_if_connected(entry.node, signal)
        return True

    def flush_down(self, process: LocalProcess, ref: Ref) -> None:
        """Remove the DOWN of this monitor if ``process`` has not received it yet."""

        def is_down(message: Term) -> bool:
            return type(message) is tuple and len(message) == 5 and message[0] is DOWN and message[1] == ref

        self._delivery.remove_pending(process, is_down)

    def _send(self, process: LocalProcess, node: Atom, signal: Signal, size: int = 0) -> None:
        """Send a signal of ``process``, which later waits if it has filled the connection."""
        filled = self._dispatcher.send(node, signal, size)
        if filled is not None:
            suspend_later(process, filled)


def _require_pid(pid: object) -> None:
    if type(pid) is not Pid:
        raise TypeError(f"expected a pid, not {pid!r}; use whereis() to get the pid of a registered name")
