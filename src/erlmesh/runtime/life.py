"""One life of a node: its parts, from the moment it has a creation until it has left; and who hears of whom.

Router        processes and their signals          Connections   other nodes
Spawning      processes that are made here         Reconnect     other nodes that are missed
Guests        processes that others start here     NodeEvents    who wants to know of all this
Guarding      loops that are held
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from erlmesh.core.allow_list import AllowList
from erlmesh.core.cookies import Cookies
from erlmesh.core.identifiers import Identifiers
from erlmesh.net.network import Network, TcpNetwork
from erlmesh.net.resolvers import Resolver
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.handshake import LocalNode, is_node_name
from erlmesh.runtime.connections import Connection, Connections
from erlmesh.runtime.guarding import OURS, Guarding
from erlmesh.runtime.guests import Guests, Otherwise
from erlmesh.runtime.node_events import NodeEvents
from erlmesh.runtime.process import Process
from erlmesh.runtime.reconnect import Reconnect
from erlmesh.runtime.router import Router, refuse_to_spawn
from erlmesh.runtime.spawning import Spawning
from erlmesh.runtime.waiting import Waiting
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["PARTING", "Life", "Settings"]

PARTING: Final = Atom("parting")
"""To our own kind: that we leave on purpose, and nobody need dial."""
SHUTDOWN: Final = Atom("shutdown")
REPLACED: Final = "wait_pending"
GRACE: Final = 0.5
"""Seconds that processes get to tidy up when the node stops."""


@dataclass(frozen=True)
class Settings:
    """What a node is told before it starts. Raises ``ValueError`` for a name that is none."""

    name: str
    cookies: Cookies
    allowed: AllowList
    hidden: bool
    net_ticktime: float
    network: Network
    resolver: Resolver
    reconnect: bool
    chance: Random
    challenge: Callable[[], int]

    def __post_init__(self) -> None:
        if not is_node_name(self.name):
            raise ValueError(
                f"{self.name!r} is no node name: it looks like socrates@127.0.0.1, one @, ASCII, at most 255 characters"
            )
        if not self.net_ticktime > 0:
            raise ValueError(f"net_ticktime is a positive number of seconds, not {self.net_ticktime!r}")


class Life:
    """Begins when it is made. :meth:`end` before the loop ends.

    ``body_for`` says what runs for others, and ``is_left_for_others(name)`` whether a connection that ends was given up
    for the sake of other nodes.
    """

    def __init__(
        self,
        node: Node,
        creation: int,
        settings: Settings,
        body_for: Otherwise,
        is_left_for_others: Callable[[str], bool],
    ) -> None:
        self.creation = creation
        self.hanging_up = False
        """A connection that ends now does so because others have lost that node, or we have lost others."""
        self._is_left_for_others = is_left_for_others
        atom = Atom(settings.name)
        self.router = Router(Identifiers(atom, creation), self._hold)
        self.spawning = Spawning(node, self.router)
        self.guests = Guests(self.router, self.spawning, body_for)
        self.events = NodeEvents(self.router)
        self.connections = Connections(
            _introduction(settings, creation),
            self.router,
            settings.network,
            settings.resolver,
            net_ticktime=settings.net_ticktime,
            allowed=settings.allowed,
            on_up=self._node_up,
            on_down=self._node_down,
        )
        self.reconnect: Reconnect | None = None
        if settings.reconnect:
            self.reconnect = Reconnect(
                settings.name, settings.chance, self.connections.dial_again, self.connections.hung_up
            )
        self.router.why_not = self.connections.why_not
        self.router.spawner = self.guests.requested
        self.own = self._start_own()
        """The process that speaks for the node itself, and the first of all."""
        self.guarding = Guarding(self.own, settings.net_ticktime, self.router.peers)
        if isinstance(settings.network, TcpNetwork):
            self.guarding.begin()
        self._start_ours()

    def _start_own(self) -> Process:
        self.own = self.spawning.start_server(lambda _: None, on_end=self._start_own)
        return self.own

    def _start_ours(self) -> None:
        self.spawning.start_server(self._hear_ours, OURS, self._start_ours)

    def _hear_ours(self, message: Term) -> None:
        match message:
            case (Atom("parting"), Atom() as peer) if self.reconnect is not None:
                self.reconnect.forget(peer.name)
            case _:
                self.guarding.hear(message)

    async def end(self) -> None:
        """Ends every process (``shutdown``), youngest first, and every connection."""
        self.router.spawner = refuse_to_spawn
        self.router.deaths.all_end = True
        if self.reconnect is not None:
            self.reconnect.close()
        await _settled(self._end_tasks())
        await _settled(self.connections.close())
        self.guarding.end()
        for process in list(self.router.registry.processes.values()):
            self.router.deaths.terminate(process, SHUTDOWN)

    def _end_tasks(self) -> list[asyncio.Task[None]]:
        ended = []
        processes = list(self.router.registry.processes.values())
        for process in processes:
            if process.task is asyncio.current_task():
                process.task = None  # whoever stops the node lives to the end of this
        for process in reversed(processes):  # services outlive what leans on them
            if process.task is not None:
                ended.append(process.task)
                self.router.deaths.terminate(process, SHUTDOWN)
        return ended

    def _hold(self, node: Atom, signal: Signal, size: int, dial: bool) -> Waiting | None:
        return self.connections.hold(node, signal, size, dial)

    def _node_up(self, name: str, hidden: bool) -> None:
        if self.reconnect is not None:
            self.reconnect.up(name, hidden=hidden)
        if not hidden:
            self.events.up(name)

    def _node_down(self, connection: Connection, reason: str) -> None:
        name, hidden = connection.name, connection.hidden
        self.guarding.forget(name)
        if self.reconnect is not None and (connection.dialled or not hidden) and reason != REPLACED:
            for_others = self.hanging_up or self._is_left_for_others(name)
            if for_others:  # not because it has hung up: it did what it was asked to
                self.connections.hung_up.record_overlap_disconnect(
                    name, connection.creation, asyncio.get_running_loop().time()
                )
            self.reconnect.lost(name, for_others=for_others)
        if not hidden:
            self.events.down(name, reason)


def _introduction(settings: Settings, creation: int) -> LocalNode:
    return LocalNode(
        name=settings.name,
        creation=creation,
        cookie_for=settings.cookies.cookie_for,
        new_challenge=settings.challenge,
        outstanding=set(),
        flags=OFFERED & ~Flags.PUBLISHED if settings.hidden else OFFERED,
    )


async def _settled(tasks: list[asyncio.Task[None]]) -> None:
    """Waits for cancelled tasks, not for ever; a process that stops its own node does not wait for itself."""
    others = [task for task in tasks if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=GRACE)
