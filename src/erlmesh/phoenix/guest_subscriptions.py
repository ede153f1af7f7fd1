"""The subscriptions of a guest: forwarders on Elixir nodes, which move when their node is lost."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from erlmesh.core.phoenix_pubsub.guest_peers import GuestPeers
from erlmesh.core.phoenix_pubsub.message_queue import Overflow
from erlmesh.core.phoenix_pubsub.messages import PubSubStatistics
from erlmesh.errors import CallError, PubSubError
from erlmesh.phoenix.forwarder import UNSUBSCRIBE, failure, parse_forwarder, start_forwarder
from erlmesh.phoenix.inbox import Inbox, peer_log
from erlmesh.phoenix.subscription import Gap
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.node import Node
    from erlmesh.runtime.process import LocalProcess

__all__ = ["GuestSubscriptions"]

MOVE_TIMEOUT: Final = 5.0
"""Seconds for one attempt to subscribe again on one node."""


class _Place:
    """One subscription, and the forwarder that serves it now."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.ref: Ref | None = None
        """The reference in the messages of the present forwarder. Those of an earlier one are ignored."""
        self.monitor: Ref | None = None
        self.forwarder: Pid | None = None
        self.peer: Atom | None = None
        self.lost: Atom | None = None
        """The node of the forwarder before, until the subscriber has got the gap."""
        self.answer: asyncio.Future[Term] | None = None
        """Resolved by the first message of the forwarder: None, or the reason why it could not subscribe."""


class GuestSubscriptions:
    """The subscriptions of the guest of one PubSub. One handler process gets the messages of all forwarders."""

    def __init__(self, node: Node, peers: GuestPeers, pubsub: Atom) -> None:
        self.statistics = PubSubStatistics()
        self._node = node
        self._peers = peers
        self._pubsub = pubsub
        self._owner_or_none: LocalProcess | None = None
        self._by_ref: dict[Ref, _Place] = {}
        self._by_monitor: dict[Ref, _Place] = {}
        self._places: dict[_Place, None] = {}
        self._forms: dict[Atom, Term] = {}
        """The forms of the forwarder, by the node that has made them."""

    def start(self) -> None:
        """Start the process that the forwarders send to. It connects to no node yet."""
        owner = self._owner_or_none = self._node.spawn_handler(self._handle_message)
        watcher = self._node.spawn_handler(lambda message: self._ended(watcher, message[4]))
        watcher.monitor(owner.pid)

    def stop(self) -> None:
        """End all subscriptions. The forwarders end with the process."""
        if self._owner_or_none is not None:
            self._owner_or_none.stop()

    def _ended(self, watcher: LocalProcess, reason: Term) -> None:
        watcher.stop()
        self._owner_or_none = None
        quiet = reason in (Atom("normal"), Atom("shutdown"))
        places, self._places = list(self._places), {}
        self._by_ref.clear()
        self._by_monitor.clear()
        for place in places:
            place.inbox.end(None if quiet else PubSubError(f"the process of the guest has ended: {reason}"))

    @property
    def owner(self) -> LocalProcess:
        """The process that the forwarders send to. Raises RuntimeError before the start."""
        if self._owner_or_none is None:
            raise RuntimeError("the guest is not started: use `async with PubSubGuest(node, ...)`")
        return self._owner_or_none

    async def add(self, topic: bytes, limit: int, overflow: Overflow, timeout: float, byte_limit: int) -> Inbox:
        """Subscribe on the first node that can be used. Raises PubSubError and TimeoutError."""
        inbox = Inbox(self._node.internals, topic, limit, overflow, self.statistics, byte_limit=byte_limit)
        place = _Place(inbox)
        self._places[place] = None
        inbox.on_close = partial(self._close, place)
        error: Exception | None = None
        try:
            for _ in self._peers.all:
                peer = self._peers.current
                try:
                    async with asyncio.timeout(timeout / len(self._peers.all)):
                        await self._subscribe_at(place, peer)
                    return inbox
                except (PubSubError, TimeoutError) as why:
                    error = why if isinstance(why, PubSubError) else failure(peer, self._pubsub, why)
                    self._peers.failed(peer, self._node.internals.random)
            assert error is not None
            raise error
        except BaseException:
            inbox.close()
            raise

    def forwarder_of(self, inbox: Inbox) -> Pid | None:
        """The forwarder of a subscription; None while it moves."""
        return next((place.forwarder for place in self._places if place.inbox is inbox), None)

    async def _subscribe_at(self, place: _Place, peer: Atom) -> None:
        """Start a forwarder on ``peer``, and wait until it has subscribed. Raises PubSubError."""
        try:
            reason = await self._start_forwarder(place, peer)
        except CallError as error:
            reason = error
        except BaseException:  # A time limit: a forwarder that answers later is told to end.
            self._forget(place)
            raise
        if reason is not None:
            self._forget(place)
            self._forms.pop(peer, None)
            raise failure(peer, self._pubsub, reason)
        self._peers.succeeded()

    async def _start_forwarder(self, place: _Place, peer: Atom) -> Term:
        owner = self.owner
        if peer not in self._forms:
            self._forms[peer] = await parse_forwarder(self._node, peer)
        if not owner.alive:
            raise PubSubError("the guest has stopped")
        self._forget(place)
        ref = self._node.internals.make_ref()
        answer: asyncio.Future[Term] = asyncio.get_running_loop().create_future()
        place.ref, place.peer, place.answer = ref, peer, answer
        self._by_ref[ref] = place
        pid, monitor = await start_forwarder(
            owner,
            peer,
            self._forms[peer],
            pubsub=self._pubsub,
            topic=place.inbox.topic,
            ref=ref,
            limit=place.inbox.queue.limit,
        )
        if place.ref is not ref or place.inbox.ended:  # It was closed meanwhile.
            owner.send(pid, (ref, UNSUBSCRIBE))
            return None
        place.forwarder, place.monitor = pid, monitor
        self._by_monitor[monitor] = place
        return await answer

    def _forget(self, place: _Place) -> None:
        """Forget the present forwarder."""
        if place.ref is not None:
            self._by_ref.pop(place.ref, None)
        if place.monitor is not None:
            self._by_monitor.pop(place.monitor, None)
        place.ref = place.monitor = place.forwarder = place.answer = None

    def _close(self, place: _Place) -> None:
        """The subscriber has closed its subscription, or dropped it."""
        owner = self._owner_or_none
        if owner is not None and owner.alive and place.forwarder is not None and place.ref is not None:
            if place.monitor is not None:
                owner.demonitor(place.monitor)
            owner.send(place.forwarder, (place.ref, UNSUBSCRIBE), connect=False)
        self._forget(place)
        self._places.pop(place, None)

    # Messages of forwarders

    def _handle_message(self, message: Term) -> None:
        match message:
            case (Atom("DOWN"), Ref() as monitor, _, _, reason):
                lost = self._by_monitor.get(monitor)
                if lost is not None and not self._node.internals.is_stopping:
                    self._forwarder_lost(lost, reason)
            case (Ref() as ref, *rest) if (place := self._by_ref.get(ref)) is not None:
                assert place.peer is not None
                if self._node.internals.is_message_from(place.peer):
                    self._from_forwarder(place, rest)
            case (Ref() as ref, Atom("subscribed"), Pid() as forwarder):
                # Its answer came too late, so nobody waits for its messages.
                if self._node.internals.is_message_from(forwarder.node):
                    self.owner.send(forwarder, (ref, UNSUBSCRIBE), connect=False)
            case (Ref(), Atom(), _):
                pass  # The forwarder of a subscription that has moved or is closed.
            case _:
                self.statistics.malformed += 1

    def _from_forwarder(self, place: _Place, message: list[Term]) -> None:
        match message:
            case [Atom("message"), content]:
                self.statistics.received += 1
                place.inbox.put(content)
            case [Atom("dropped"), int() as count] if count > 0:
                place.inbox.dropped_by_peer(count)
            case [Atom("subscribed"), _]:
                if place.lost is not None and place.peer is not None:
                    place.inbox.put(Gap(place.lost.name, place.peer.name))
                place.lost = None
                self._answer(place, None)
            case [Atom("failed"), reason]:
                self._answer(place, reason)
            case _:
                self.statistics.malformed += 1

    @staticmethod
    def _answer(place: _Place, reason: Term) -> None:
        if place.answer is not None and not place.answer.done():
            place.answer.set_result(reason)

    def _forwarder_lost(self, place: _Place, reason: Term) -> None:
        """The forwarder has ended: its node is lost, mostly. Begin again on another node."""
        if place.answer is not None and not place.answer.done():
            place.answer.set_result(reason)
            return
        lost = place.peer
        assert lost is not None
        place.lost = place.lost or lost
        self._forget(place)
        self._peers.failed(lost, self._node.internals.random)
        peer_log.write(
            logging.WARNING,
            "guest_moved",
            lost.name,
            "the subscription to %s on %s is lost (%s): it moves to another node",
            ForeignText(place.inbox.topic),
            lost.name,
            ForeignText(reason),
            reason=reason,
            topic=place.inbox.topic,
        )
        self._node.internals.spawn_service(self._move, place)

    async def _move(self, _me: LocalProcess, place: _Place) -> None:
        """Subscribe again, on whichever node can be used, until that succeeds or the subscription is closed."""
        random, delay = self._node.internals.random, 0.0
        while True:
            await asyncio.sleep(delay)
            if place.inbox.ended:  # Closed, or the guest has stopped.
                return
            peer = self._peers.current
            try:
                async with asyncio.timeout(MOVE_TIMEOUT):
                    await self._subscribe_at(place, peer)
                return
            except (PubSubError, TimeoutError) as error:
                delay = self._peers.failed(peer, random)
                peer_log.write(
                    logging.WARNING,
                    "guest_subscribe_failed",
                    peer.name,
                    "cannot subscribe again: %s",
                    ForeignText(str(error)),
                    reason=error,
                )
