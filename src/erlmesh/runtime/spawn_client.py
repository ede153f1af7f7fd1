"""Sends SPAWN_REQUESTs and handles their replies. Incoming requests are in :mod:`~erlmesh.runtime.spawn_server`.

A caller that waits has a :class:`Wait` in its ``_pending_calls`` under the request's reference. The same reference is
that of the monitor, if one was asked for, as in ``erlang:spawn_request/5``.
"""

from __future__ import annotations

from typing import Final

from erlmesh.core.exit_reasons import NOCONNECTION
from erlmesh.core.spawn_requests import LINKED, MONITORED, cancel_signals
from erlmesh.errors import CallError, EncodeError, NoConnection
from erlmesh.etf import as_received, encode_term
from erlmesh.proto.control import Link, SpawnReply, SpawnRequest
from erlmesh.runtime.node_state import Dispatcher, NodeState
from erlmesh.runtime.process import MFA, LocalProcess
from erlmesh.runtime.signal_sender import SignalSender
from erlmesh.runtime.wakeups import ExitWait, Wait
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["SpawnClient"]

MONITOR: Final = Atom("monitor")


class SpawnClient:
    """Starts processes on other nodes, or on its own node, for local processes."""

    def __init__(self, state: NodeState, dispatcher: Dispatcher, signal_sender: SignalSender) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._signal_sender = signal_sender
        self._requests = state.spawn_requests

    async def spawn(
        self,
        parent: LocalProcess,
        node: Atom,
        mfa: MFA,
        leader: Pid,
        options: list[Atom],
        *,
        token: Term | None = None,
    ) -> tuple[Pid, Ref]:
        """Start ``mfa`` on ``node`` and return the pid and the request's reference.

        The reference is that of the monitor if ``monitor`` is among the ``options``. Raises CallError if the node
        refuses, NoConnection, and EncodeError if an argument is not a term. ``token`` is a trace token.
        """
        request = self._make_request(parent, node, mfa, leader, options, token=token)
        started = Wait(self._state.wakeups)
        self._send_tracked(node, request, parent, started)
        try:
            return await started, request.ref
        finally:
            parent._pending_calls.pop(request.ref, None)

    async def spawn_and_wait(
        self, parent: LocalProcess, node: Atom, mfa: MFA, leader: Pid, token: Term | None = None
    ) -> Term:
        """Start ``mfa`` on ``node``, wait until that process terminates, and return its exit reason.

        The result is ``noconnection`` also if the node cannot be reached. Raises CallError if the node refuses, and
        EncodeError if an argument is not a term. If the caller is cancelled, the process goes on running. ``token`` is
        a trace token.
        """
        request = self._make_request(parent, node, mfa, leader, [MONITOR], token=token)
        end = ExitWait(self._state.wakeups)
        self._send_tracked(node, request, parent, end)
        try:
            return await end
        finally:
            parent._pending_calls.pop(request.ref, None)
            self._signal_sender.demonitor(parent, request.ref)

    def spawn_nowait(self, parent: LocalProcess, node: Atom, mfa: MFA, leader: Pid, token: Term | None = None) -> None:
        """Start ``mfa`` on ``node`` and ignore the reply. If the node cannot be reached, the request is dropped."""
        self._send(node, self._make_request(parent, node, mfa, leader, [], token=token))

    def _make_request(
        self,
        parent: LocalProcess,
        node: Atom,
        mfa: MFA,
        leader: Pid,
        options: list[Atom],
        *,
        token: Term | None = None,
    ) -> SpawnRequest:
        ref = self._state.identifiers.ref()
        module, function, arguments = mfa
        if node is self._state.identifiers.node:
            # The function gets what it would get from another node. So does the caller: the result is an exit reason.
            arguments = as_received(arguments)
        return SpawnRequest(ref, parent.pid, leader, module, function, len(arguments), [*options], arguments, token)

    def _send_tracked(self, node: Atom, request: SpawnRequest, parent: LocalProcess, answer: Wait) -> None:
        """Send a request whose reply resolves ``answer``. If it cannot be encoded, nothing is left of it."""
        parent._pending_calls[request.ref] = answer
        self._requests.add(request.ref, parent.pid, node)
        try:
            self._send(node, request)
        except EncodeError:
            del parent._pending_calls[request.ref]
            self._requests.pop(request.ref)
            raise

    def _send(self, node: Atom, request: SpawnRequest) -> None:
        size = 0
        if node not in self._state.peers and node is not self._state.identifiers.node:
            # The request will be queued. An argument that is not a term must raise now, in the caller.
            size = len(encode_term(request.arguments))
        self._dispatcher.send(node, request, size)

    # Replies

    def on_reply(self, reply: SpawnReply, peer: Atom) -> None:
        """Handle a reply from the node ``peer``.

        If the caller has stopped waiting, the link and the monitor that the peer has set up are cancelled.
        """
        if self._requests.reply_received(reply, peer) is None:
            return
        parent, child = self._state.registry.local(reply.to), reply.result
        answer = None if parent is None else parent._pending_calls.get(reply.ref)
        if not isinstance(child, Pid):  # The result is an error reason: the peer refused.
            if answer is not None and not answer.done():
                answer.set_exception(_refusal(peer, child))
        elif answer is None or answer.done():
            for signal in cancel_signals(reply, child):
                self._dispatcher.send_if_connected(peer, signal)
        else:
            if reply.flags & LINKED:
                self._state.links.link_received(Link(child, reply.to))
            if reply.flags & MONITORED:
                self._state.monitors.monitor(reply.to, child, peer, reply.ref)
            if parent is not None and type(answer) is not ExitWait:
                # The DOWN may be the next signal. It must go to the parent's mailbox, not to this wait.
                del parent._pending_calls[reply.ref]
                answer.set_result(child)

    def pending_on(self, node: Atom) -> list[Ref]:
        """Return the requests that ``node`` has not answered.

        When its connection is lost, the caller passes each of them to :meth:`request_undeliverable`.
        """
        return self._requests.pending_on(node)

    def request_undeliverable(self, ref: Ref) -> None:
        """Fail the request with this reference: no reply will come."""
        pending = self._requests.pop(ref)
        parent = None if pending is None else self._state.registry.local(pending.owner)
        answer = None if parent is None else parent._pending_calls.get(ref)
        if pending is None or answer is None or answer.done():
            return
        if type(answer) is ExitWait:  # `spawn_and_wait` reports this as the exit reason.
            answer.set_result(NOCONNECTION)
        else:
            answer.set_exception(self._dispatcher.no_connection_error(pending.node))

    def __len__(self) -> int:
        return len(self._requests)


def _refusal(peer: Atom, reason: Term) -> CallError:
    """Return the error for a request that ``peer`` has refused. A node that stops refuses with ``noconnection``."""
    if reason is NOCONNECTION:
        return NoConnection(f"no connection to {peer.name}: it stops, and starts no process any more")
    from erlmesh.terms.exit_text import format_reason  # noqa: PLC0415 - for errors only

    return CallError(f"{peer.name} refused to start the process: {format_reason(reason)}")
