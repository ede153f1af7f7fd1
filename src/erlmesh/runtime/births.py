"""Processes that we start on other nodes: the asking, and what their births and ends mean to whoever waits here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.core.spawn_requests import LINKED, MONITORED, SpawnRequests, cancel_signals
from erlmesh.errors import CallError, EncodeError
from erlmesh.etf import encode_term
from erlmesh.proto.control import Link, SpawnReply, SpawnRequest
from erlmesh.runtime.process import Ending, Process
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.runtime.router import Router

__all__ = ["Births", "Call"]

Call: TypeAlias = tuple[Atom, Atom, list[Term]]
"""Module, function, arguments."""

MONITOR: Final = Atom("monitor")
NOCONNECTION: Final = Atom("noconnection")


class Births:
    """The part of a router that asks other nodes, or its own, for processes."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._spawns = SpawnRequests()

    async def spawn(self, parent: Process, node: Atom, call: Call, leader: Pid, options: list[Atom]) -> tuple[Pid, Ref]:
        """Asks ``node`` for a process that runs ``call``; its pid, and the monitor's reference if ``monitor`` is among
        the ``options``. Raises CallError, NoConnection, EncodeError.
        """
        request = self._request(parent, call, leader, options)
        born: asyncio.Future[Term] = asyncio.get_running_loop().create_future()
        self._ask(node, request, parent, born)
        try:
            return await born, request.ref
        finally:
            parent.answers.pop(request.ref, None)

    async def spawn_to_the_end(self, parent: Process, node: Atom, call: Call, leader: Pid) -> Term:
        """The exit reason of a process started on ``node`` for this; ``noconnection`` also when there is no such node.
        Raises CallError and EncodeError. Whoever gives up waiting leaves the process alone.
        """
        request = self._request(parent, call, leader, [MONITOR])
        end = Ending(loop=asyncio.get_running_loop())
        self._ask(node, request, parent, end)
        try:
            return await end
        finally:
            parent.answers.pop(request.ref, None)
            self._router.acts.demonitor(parent, request.ref)

    def spawn_nowait(self, parent: Process, node: Atom, call: Call, leader: Pid) -> None:
        """The same without a word back; to a node that cannot be reached it vanishes."""
        self._say(node, self._request(parent, call, leader, []))

    def _request(self, parent: Process, call: Call, leader: Pid, options: list[Atom]) -> SpawnRequest:
        ref = self._router.identifiers.ref()
        module, function, arguments = call
        return SpawnRequest(ref, parent.pid, leader, module, function, len(arguments), [*options], arguments)

    def _ask(self, node: Atom, request: SpawnRequest, parent: Process, answer: asyncio.Future[Term]) -> None:
        parent.answers[request.ref] = answer
        self._spawns.add(request.ref, parent.pid, node)
        try:
            self._say(node, request)
        except EncodeError:
            del parent.answers[request.ref]
            self._spawns.pop(request.ref)
            raise

    def _say(self, node: Atom, request: SpawnRequest) -> None:
        size = 0
        if node not in self._router.peers and node is not self._router.atom:
            size = len(encode_term(request.arguments))  # what is no term must be told now, to the one who said it
        self._router.say(node, request, size)

    # What becomes of it

    def hear(self, reply: SpawnReply, peer: Atom) -> None:
        """The node ``peer`` answered. Who has stopped waiting is not linked to, and watches, nobody."""
        if self._spawns.reply_received(reply, peer) is None:
            return
        parent, child = self._router.registry.local(reply.to), reply.result
        answer = None if parent is None else parent.answers.get(reply.ref)
        if not isinstance(child, Pid):
            if answer is not None and not answer.done():
                answer.set_exception(CallError(f"{peer.name} starts no process for us: {child}"))
        elif answer is None or answer.done():
            for end in cancel_signals(reply, child):
                self._router.pass_on(peer, end)
        else:
            if reply.flags & LINKED:
                self._router.links.link_received(Link(child, reply.to))
            if reply.flags & MONITORED:
                self._router.monitors.monitor(reply.to, child, peer, reply.ref)
            if parent is not None and type(answer) is not Ending:
                del parent.answers[reply.ref]  # its DOWN, if that comes now, is the parent's
                answer.set_result(child)

    def asked_of(self, node: Atom) -> list[Ref]:
        """What ``node`` has not answered; if its connection is gone, each is :meth:`undeliverable`."""
        return self._spawns.pending_on(node)

    def undeliverable(self, ref: Ref) -> None:
        """The request with this reference will not be answered."""
        asked = self._spawns.pop(ref)
        parent = None if asked is None else self._router.registry.local(asked.owner)
        answer = None if parent is None else parent.answers.get(ref)
        if asked is None or answer is None or answer.done():
            return
        if type(answer) is Ending:
            answer.set_result(NOCONNECTION)
        else:
            answer.set_exception(self._router.no_connection(asked.node))

    def __len__(self) -> int:
        return len(self._spawns)
