"""Starts processes on other nodes: sends SPAWN_REQUESTs and resolves the futures that wait for the replies."""

from __future__ import annotations

import asyncio
from typing import Final

from erlmesh.core.exit_reasons import NOCONNECTION
from erlmesh.core.spawn_requests import LINKED, MONITORED, cancel_signals
from erlmesh.errors import CallError, EncodeError
from erlmesh.etf import encode_term
from erlmesh.proto.control import Link, SpawnReply, SpawnRequest
from erlmesh.runtime.node_state import Dispatcher, NodeState
from erlmesh.runtime.process import MFA, ExitFuture, LocalProcess
from erlmesh.runtime.signal_sender import SignalSender
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["SpawnClient"]

MONITOR: Final = Atom("monitor")


class SpawnClient:
    """Sends spawn requests to other nodes, and to its own."""

    def __init__(self, state: NodeState, dispatcher: Dispatcher, signal_sender: SignalSender) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._signal_sender = signal_sender
        self._requests = state.spawn_requests

    async def spawn(
        self, parent: LocalProcess, node: Atom, mfa: MFA, leader: Pid, options: list[Atom]
    ) -> tuple[Pid, Ref]:
        """Start ``mfa`` as a process of ``node``. Returns its pid and the reference of the request.

        With ``monitor`` among the ``options``, it is also that of the monitor. Raises CallError, NoConnection,
        EncodeError.
        """
        request = self._make_request(parent, mfa, leader, options)
        born: asyncio.Future[Term] = asyncio.get_running_loop().create_future()
        self._send_tracked(node, request, parent, born)
        try:
            return await born, request.ref
        finally:
            parent._pending_calls.pop(request.ref, None)

    async def spawn_and_wait(self, parent: LocalProcess, node: Atom, mfa: MFA, leader: Pid) -> Term:
        """Start ``mfa`` on ``node`` and return its exit reason; ``noconnection`` also if the node cannot be reached.

        Raises CallError and EncodeError. If the caller is cancelled, the process continues.
        """
        request = self._make_request(parent, mfa, leader, [MONITOR])
        end = ExitFuture(loop=asyncio.get_running_loop())
        self._send_tracked(node, request, parent, end)
        try:
            return await end
        finally:
            parent._pending_calls.pop(request.ref, None)
            self._signal_sender.demonitor(parent, request.ref)

    def spawn_nowait(self, parent: LocalProcess, node: Atom, mfa: MFA, leader: Pid) -> None:
        """Start ``mfa`` on ``node`` without a reply. If the node cannot be reached, the request is dropped."""
        self._send(node, self._make_request(parent, mfa, leader, []))

    def _make_request(self, parent: LocalProcess, mfa: MFA, leader: Pid, options: list[Atom]) -> SpawnRequest:
        ref = self._state.identifiers.ref()
        module, function, arguments = mfa
        return SpawnRequest(ref, parent.pid, leader, module, function, len(arguments), [*options], arguments)

    def _send_tracked(
        self, node: Atom, request: SpawnRequest, parent: LocalProcess, answer: asyncio.Future[Term]
    ) -> None:
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
            size = len(
                encode_term(request.arguments)
            )  # a value that is not a term must raise here, not when it is sent later
        self._dispatcher.send(node, request, size)

    # Replies

    def on_reply(self, reply: SpawnReply, peer: Atom) -> None:
        """Handle a reply. If no caller waits any more, the link and the monitor of the child are removed."""
        if self._requests.reply_received(reply, peer) is None:
            return
        parent, child = self._state.registry.local(reply.to), reply.result
        answer = None if parent is None else parent._pending_calls.get(reply.ref)
        if not isinstance(child, Pid):
            if answer is not None and not answer.done():
                answer.set_exception(CallError(f"{peer.name} starts no process for us: {child}"))
        elif answer is None or answer.done():
            for end in cancel_signals(reply, child):
                self._dispatcher.send_if_connected(peer, end)
        else:
            if reply.flags & LINKED:
                self._state.links.link_received(Link(child, reply.to))
            if reply.flags & MONITORED:
                self._state.monitors.monitor(reply.to, child, peer, reply.ref)
            if parent is not None and type(answer) is not ExitFuture:
                del parent._pending_calls[reply.ref]  # a DOWN from now on goes to the mailbox of the parent
                answer.set_result(child)

    def pending_on(self, node: Atom) -> list[Ref]:
        """The requests that ``node`` has not answered. After its loss, each is :meth:`request_undeliverable`."""
        return self._requests.pending_on(node)

    def request_undeliverable(self, ref: Ref) -> None:
        """There will be no reply to this request: resolve its future with ``noconnection``."""
        asked = self._requests.pop(ref)
        parent = None if asked is None else self._state.registry.local(asked.owner)
        answer = None if parent is None else parent._pending_calls.get(ref)
        if asked is None or answer is None or answer.done():
            return
        if type(answer) is ExitFuture:
            answer.set_result(NOCONNECTION)
        else:
            answer.set_exception(self._dispatcher.no_connection_error(asked.node))

    def __len__(self) -> int:
        return len(self._requests)
