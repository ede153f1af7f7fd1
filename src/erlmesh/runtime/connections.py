"""Dials, answers and ends connections: turns the verdicts of :mod:`erlmesh.core.connection_table` into sockets and node events.

A signal to a node that is not connected waits here for the connection that it causes, in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from erlmesh.core.allow_list import AllowList
from erlmesh.core.connection_table import ConnectionTable
from erlmesh.core.disconnect_history import DisconnectHistory
from erlmesh.errors import ConnectError, ErlmeshError, HandshakeRefused
from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.net.network import Network
from erlmesh.net.resolvers import Resolver
from erlmesh.proto.channel import Channel
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import Flags
from erlmesh.proto.handshake import (
    HandshakeCompleted,
    InitiatorClosed,
    LocalNode,
    SimultaneousConnect,
    Status,
    accept,
    initiate,
)
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT, HandshakeDriver
from erlmesh.runtime.dialling import Dialling
from erlmesh.runtime.reasons import Reasons
from erlmesh.runtime.router import Router
from erlmesh.runtime.waiting import FULL, Waiting
from erlmesh.terms import Atom

__all__ = ["Connection", "Connections"]

log = logging.getLogger("erlmesh")

_LEVELS: Final[dict[type[ErlmeshError], int]] = {SimultaneousConnect: logging.DEBUG, InitiatorClosed: logging.INFO}
"""How loudly it is said that somebody's call came to nothing, if that is no trouble."""
PENDING_HANDSHAKES: Final = 256
"""Callers that have not shown the cookie yet; above it the oldest is dropped."""


@dataclass(eq=False, slots=True)
class Connection:
    """One attempt, and what became of it. Equal to itself alone: the peer table's token."""

    name: str = ""
    dialled: bool = False
    pump: DistProtocol | None = None
    task: asyncio.Task[None] | None = None
    hidden: bool = False
    flags: Flags | None = None
    creation: int = 0
    began: float = 0.0
    since: float = 0.0


class Connections:
    """The connections of one node.

    ``on_up(name, hidden)`` is called before anything of the new peer is applied, and
    ``on_down(connection, reason)`` after everything was.
    """

    def __init__(
        self,
        me: LocalNode,
        router: Router,
        network: Network,
        resolver: Resolver,
        *,
        net_ticktime: float,
        allowed: AllowList | None = None,
        on_up: Callable[[str, bool], None],
        on_down: Callable[[Connection, str], None],
    ) -> None:
        self._me = me
        self._router = router
        self._net_ticktime = net_ticktime
        self._allowed = allowed or AllowList()
        self._dialling = Dialling(me.name, network, resolver, self._allowed)
        self._on_up = on_up
        self._on_down = on_down
        self._peers: ConnectionTable[Connection] = ConnectionTable(me.name)
        self._by_pump: dict[DistProtocol, Connection] = {}
        self._waiting: dict[str, Waiting] = {}
        self.hung_up = DisconnectHistory()
        self._why_not = Reasons()
        self._why_lost = Reasons()
        self._tasks: dict[asyncio.Task[None], None] = {}  # asyncio itself holds tasks only weakly
        self._strangers: dict[DistProtocol, None] = {}
        self._closed = False

    # What the node asks for

    def nodes(self, *, hidden: bool = False) -> list[str]:
        """Names of the connected visible (or hidden) nodes, in order of connection."""
        up = [
            connection
            for name, connection in self._peers.established_connections().items()
            if connection.hidden is hidden and self.connection(name) is not None
        ]
        return [connection.name for connection in sorted(up, key=lambda connection: connection.since)]

    def connection(self, name: str) -> Connection | None:
        """The established connection to ``name``; none while a new one is about to take an old one's place."""
        connection = self._peers.established_connection(name)
        if connection is None or self._router.peers.get(Atom(name)) is not connection.pump:
            return None
        return connection

    def why_lost(self, name: str) -> str | None:
        """OTP's word for how the last connection with ``name`` ended, from the first signal of its end on."""
        return self._why_lost.of(name)

    def why_not(self, name: str) -> str | None:
        """Why the last attempt to connect with ``name`` failed, in words."""
        return self._why_not.of(name)

    def connect_nowait(self, name: str, done: Callable[[bool], None]) -> None:
        """``done(up)`` is called once: at once if connected, or else when the attempt, new or under way, ends."""
        self.hung_up.discard(name)
        self.dial_again(name, done)

    def dial_again(self, name: str, done: Callable[[bool], None]) -> None:
        """The same for a peer that was lost, which is not met if that is against what is written in ``hung_up``."""
        if name == self._me.name or self.connection(name) is not None:
            done(True)
        elif self._closed:
            asyncio.get_running_loop().call_soon(done, False)
        else:
            self._wait(name, dial=True).done.append(done)
            self._dial(name)

    def hold(self, node: Atom, signal: Signal, size: int, dial: bool) -> Waiting | None:
        """Keeps ``signal``, whose message has ``size`` bytes, until ``node`` is connected, and with ``dial`` makes it
        so; without success the router takes it back. None if it was not kept, for without ``dial`` nothing is under
        way; else what its sender may have to wait for.
        """
        name = node.name
        if not dial and (
            self._closed or not (self._peers.is_pending(name) or self._peers.established_connection(name))
        ):
            return None
        if self._closed:
            self._give_up(node, [signal])
            return Waiting()
        waiting = self._wait(name, dial=dial)
        given_up_before = waiting.given_up
        lost = waiting.keep(signal, size)
        if waiting.given_up and not given_up_before:
            self._why_not.note(name, f"more than {FULL >> 20} MiB waited for the connection, and were given up")
            log.warning("more than %d MiB wait for a connection with %s, and are given up", FULL >> 20, name)
        if lost:
            self._give_up(node, lost)
        if dial:
            self.hung_up.discard(name)
            self._dial(name)
        return waiting

    def _give_up(self, node: Atom, signals: list[Signal]) -> None:
        for signal in signals:
            asyncio.get_running_loop().call_soon(self._router.deaths.undeliverable, signal, node)

    def _wait(self, name: str, *, dial: bool) -> Waiting:
        waiting = self._waiting.setdefault(name, Waiting())
        waiting.dial |= dial
        return waiting

    def disconnect(self, name: str) -> bool:
        """Closes the connection to ``name``. False if there is none."""
        connection = self.connection(name)
        if connection is None:
            return False
        self._down(connection, "disconnect")
        return True

    def close(self) -> list[asyncio.Task[None]]:
        """Ends everything; nothing is dialled or accepted any more. The tasks returned are to be awaited."""
        self._closed = True
        for connection in list(self._peers.established_connections().values()):
            self._down(connection, "disconnect")
        for pump in list(self._by_pump):
            self._forget(pump)
            pump.close()
        for task in self._tasks:
            task.cancel()
        for name in list(self._waiting):
            self._settle(name)
        return list(self._tasks)

    # Calling

    def _dial(self, name: str) -> None:
        connection = Connection(name, dialled=True, began=asyncio.get_running_loop().time())
        if not self._peers.dial(name, connection):
            return
        connection.task = self._run(self._call(connection))

    async def _call(self, connection: Connection) -> None:
        try:
            await self._dialling.dial(
                connection.name, lambda: self._caller(connection), connection.began + SETUP_TIMEOUT
            )
        except ErlmeshError as error:
            self._fail(connection, error)

    def _caller(self, connection: Connection) -> DistProtocol:
        loop, name = asyncio.get_running_loop(), connection.name
        conversation = initiate(
            self._me,
            name,
            lambda: self._peers.keep_attempt(name, connection),
            lambda creation: self.hung_up.refusal_reason(name, creation, loop.time()),
        )
        return self._pump(
            connection, HandshakeDriver(conversation, now=connection.began)
        )  # its time runs since the dialling

    def _expect_call(self, connection: Connection) -> None:
        asyncio.get_running_loop().call_later(SETUP_TIMEOUT, self._call_did_not_come, connection)

    def _call_did_not_come(self, connection: Connection) -> None:
        name = connection.name
        if self._peers.expire(name, connection):
            self._explain(
                name,
                f"{name} refused our call because it was calling us, and its own did not come in {SETUP_TIMEOUT:g} s",
            )
            self._settle(name)

    # Answering

    def answer(self) -> DistProtocol:
        """A pump for a connection that somebody else has opened (the listener's protocol factory)."""
        connection = Connection()
        conversation = accept(self._me, lambda name, flags: self._decide(connection, name, flags))
        pump = self._pump(connection, HandshakeDriver(conversation, now=asyncio.get_running_loop().time()))
        if self._closed:
            self._forget(pump)
            pump.close()
            return pump
        self._strangers[pump] = None
        if len(self._strangers) > PENDING_HANDSHAKES:
            oldest = next(iter(self._strangers))
            self.refused(oldest, ConnectError("too many handshakes are under way: the oldest was dropped"))
            oldest.close()
        return pump

    def _decide(self, connection: Connection, name: str, _flags: Flags) -> Status:
        if self._closed or not self._allowed.allows(name):
            return Status.NOT_ALLOWED
        status, rival = self._peers.incoming(name, connection)
        if status is None:
            raise HandshakeRefused(f"{name} calls once more while its second connection is being looked at")
        if status in (Status.OK, Status.OK_SIMULTANEOUS, Status.ALIVE):
            connection.name = name
        if rival is not None:
            self._abandon(rival)
        return status

    def _abandon(self, connection: Connection) -> None:
        if connection.task is not None:
            connection.task.cancel()
        if connection.pump is not None:
            pump = connection.pump
            self._forget(pump)
            pump.close()

    # What pumps tell

    def met(self, pump: DistProtocol, met: HandshakeCompleted, now: float) -> Channel | None:
        connection = self._by_pump[pump]
        self._strangers.pop(pump, None)
        counts, replaced = self._peers.established(met.name, connection)
        if not counts:
            self._forget(pump)
            return None
        connection.hidden = Flags.PUBLISHED not in met.peer_flags or Flags.PUBLISHED not in self._me.flags
        connection.flags, connection.creation, connection.since = met.flags, met.creation, now
        if replaced is not None:
            self._end(replaced, "wait_pending")
        return Channel(met.name, self._me.name, met.flags, now=now, net_ticktime=self._net_ticktime)

    def up(self, pump: DistProtocol) -> None:
        connection = self._by_pump[pump]
        name = connection.name
        self._why_not.forget(name)
        self.hung_up.discard(name)
        self._router.peers[Atom(name)] = pump
        log.info("connected with %s%s", name, " (hidden)" if connection.hidden else "")
        waiting = self._waiting.pop(name, None) or Waiting()
        for signal in waiting.signals:  # before what anybody says who hears of the node now: order is kept
            pump.send(signal)
        self._on_up(name, connection.hidden)
        waiting.over(self.connection(name) is connection)

    def heard(self, pump: DistProtocol, signals: list[Signal]) -> None:
        self._router.hear(signals, Atom(self._by_pump[pump].name))

    def refused(self, pump: DistProtocol, error: ErlmeshError) -> None:
        self._strangers.pop(pump, None)
        connection = self._forget(pump)
        if connection is None:
            return
        if connection.dialled:
            self._fail(connection, error)
            return
        level = _LEVELS.get(type(error), logging.WARNING)
        log.log(level, "a connection from %s failed: %s", pump.peer_address, error)
        if connection.name:
            self._peers.handshake_failed(connection.name, connection)
            waiting = self._waiting.get(connection.name)
            if waiting is not None and waiting.dial:
                self._dial(connection.name)  # whoever that was, those who wait want the node of that name
            self._settle(connection.name)

    def lost(self, pump: DistProtocol, reason: str, why: str) -> None:
        connection = self._by_pump.get(pump)
        if connection is not None:
            log.info("lost %s: %s", connection.name, why)
            if pump.closed_after_ack:
                self.hung_up.record_peer_close(connection.name, connection.creation, asyncio.get_running_loop().time())
            self._down(connection, reason)

    # Ends

    def _fail(self, connection: Connection, error: ErlmeshError) -> None:
        name = connection.name
        if isinstance(error, SimultaneousConnect):
            self._peers.nok_received(name, connection)
            self._expect_call(connection)
        else:
            self._explain(name, str(error))
            self._peers.handshake_failed(name, connection)
        self._settle(name)

    def _explain(self, name: str, why: str) -> None:
        log.info("cannot connect with %s: %s", name, why)
        self._why_not.note(name, why)

    def _down(self, connection: Connection, reason: str) -> None:
        if self._peers.connection_lost(connection.name, connection):
            self._end(connection, reason)

    def _end(self, connection: Connection, reason: str) -> None:
        pump = connection.pump
        assert pump is not None
        self._forget(pump)
        pump.close()
        atom = Atom(connection.name)
        if self._router.peers.get(atom) is pump:
            del self._router.peers[atom]
        self._why_lost.note(connection.name, reason)
        self._router.deaths.lost(atom)
        self._on_down(connection, reason)

    def _settle(self, name: str) -> None:
        """Those who wait for ``name`` learn that it cannot be reached, unless something is still under way."""
        if not self._closed and (self._peers.is_pending(name) or self._peers.established_connection(name) is not None):
            return
        waiting = self._waiting.pop(name, None)
        if waiting is None:
            return
        atom = Atom(name)
        for signal in waiting.signals:
            self._router.deaths.undeliverable(signal, atom)
        waiting.over(False)

    # Book-keeping

    def _pump(self, connection: Connection, handshake: HandshakeDriver) -> DistProtocol:
        pump = connection.pump = DistProtocol(handshake, self)
        self._by_pump[pump] = connection
        return pump

    def _forget(self, pump: DistProtocol) -> Connection | None:
        self._strangers.pop(pump, None)
        return self._by_pump.pop(pump, None)

    def _run(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task
