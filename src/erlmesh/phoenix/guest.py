"""A guest of a Phoenix.PubSub: its subscriptions are processes on an Elixir node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from erlmesh.core.phoenix_pubsub.guest_peers import GuestPeers
from erlmesh.core.phoenix_pubsub.message_queue import BYTE_LIMIT, Overflow
from erlmesh.core.phoenix_pubsub.messages import PubSubStatistics, broadcast_term
from erlmesh.core.phoenix_pubsub.names import (
    CHANNEL_DISPATCHER,
    PLAIN_DISPATCHER,
    checked_dispatcher,
    pubsub_atom,
    topic_bytes,
)
from erlmesh.errors import PubSubError, RemoteError
from erlmesh.phoenix.forwarder import failure
from erlmesh.phoenix.guest_subscriptions import GuestSubscriptions
from erlmesh.phoenix.start_stop import StartStop
from erlmesh.phoenix.subscription import Gap, Subscription
from erlmesh.terms import Atom, Term
from erlmesh.typed import to_term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["PubSubGuest"]

T = TypeVar("T")
LIMIT: Final = 10_000
OK: Final = Atom("ok")


class PubSubGuest(StartStop):
    """The Phoenix.PubSub ``name`` of an Elixir node, used from outside. ::

        async with PubSubGuest(node, ["web1@10.0.0.5", "web2@10.0.0.6"], "MyApp.PubSub") as guest:
            orders = await guest.subscribe("orders")
            async for message in orders:
                ...

    A subscription is a process on the Elixir node, which sends the messages of its topic here. So this node gets no
    other topics, and no process there waits for it. Nothing has to be installed there, and any adapter will do.

    ``peers`` is the name of an Elixir node, or several in the order of preference. When the node in use is lost, the
    subscriptions move to the next one. Each subscriber then gets a :class:`Gap`, because messages may be missing.
    """

    def __init__(self, node: Node, peers: str | Atom | Iterable[str | Atom], name: str | Atom) -> None:
        self.node = node
        self.name = pubsub_atom(name)
        self._peers = GuestPeers(peers)
        self._subscriptions = GuestSubscriptions(node, self._peers, self.name)

    async def start(self) -> None:
        """Start the process that the Elixir nodes send to. It connects to no node yet."""
        self._subscriptions.start()

    async def stop(self) -> None:
        """End all subscriptions, also on the Elixir node."""
        self._subscriptions.stop()

    @property
    def peer(self) -> str:
        """The Elixir node that is used now, or tried next."""
        return self._peers.current.name

    @property
    def statistics(self) -> PubSubStatistics:
        """Counts of messages since the start."""
        return self._subscriptions.statistics

    # Subscriptions

    @overload
    async def subscribe(
        self,
        topic: str | bytes,
        *,
        limit: int = ...,
        byte_limit: int = ...,
        overflow: Overflow = ...,
        timeout: float = ...,
    ) -> Subscription[Any]: ...
    @overload
    async def subscribe(
        self,
        topic: str | bytes,
        *,
        type: type[T],
        limit: int = ...,
        byte_limit: int = ...,
        overflow: Overflow = ...,
        timeout: float = ...,
    ) -> Subscription[T | Gap]: ...
    @overload
    async def subscribe(
        self,
        topic: str | bytes,
        *,
        type: Any,
        limit: int = ...,
        byte_limit: int = ...,
        overflow: Overflow = ...,
        timeout: float = ...,
    ) -> Subscription[Any]: ...
    async def subscribe(
        self,
        topic: str | bytes,
        *,
        type: Any = None,
        limit: int = LIMIT,
        byte_limit: int = BYTE_LIMIT,
        overflow: Overflow = "drop_oldest",
        timeout: float = 5.0,
    ) -> Subscription[Any]:
        """Subscribe to a topic, and return when the Elixir node has done so. See :meth:`PubSub.subscribe`.

        The subscription yields a :class:`Gap` each time it has moved to another node. While no node can be used, it
        waits, and tries the nodes again and again; the log says so. The Elixir node keeps up to ``limit`` messages,
        too, while the connection is full.

        Raises PubSubError if no node of the list has the PubSub, and TimeoutError after ``timeout`` seconds.
        """
        inbox = await self._subscriptions.add(topic_bytes(topic), limit, overflow, timeout, byte_limit)
        return Subscription(inbox, type)

    # Messages

    async def broadcast(
        self,
        topic: str | bytes,
        message: object,
        *,
        dispatcher: str | Atom = PLAIN_DISPATCHER,
        allow_dispatcher: bool = False,
        timeout: float = 5.0,
    ) -> None:
        """Broadcast on the Elixir node, to the subscribers of the topic on all nodes. See :meth:`PubSub.broadcast`.

        It returns when the Elixir node has sent the message. If that node has a pool of several workers, two messages
        may arrive on a third node in another order: a member keeps it.

        Raises PubSubError if no node of the list can be used, and CallError if the node in use is lost meanwhile: the
        message may have been sent, or not.
        """
        chosen = checked_dispatcher(dispatcher, allowed=allow_dispatcher)
        await self._call("broadcast", [self.name, topic_bytes(topic), to_term(message), chosen], timeout)

    async def broadcast_from(
        self,
        sender: Subscription[Any],
        topic: str | bytes,
        message: object,
        *,
        timeout: float = 5.0,
    ) -> None:
        """Do the same as :meth:`broadcast`, but not to ``sender``, a subscription of this guest."""
        forwarder = self._subscriptions.forwarder_of(sender._inbox)
        if forwarder is None:  # It moves to another node, so it gets nothing now.
            await self.broadcast(topic, message, timeout=timeout)
            return
        arguments = [self.name, forwarder, topic_bytes(topic), to_term(message)]
        await self._call("broadcast_from", arguments, timeout)

    async def broadcast_event(
        self,
        topic: str | bytes,
        event: str,
        payload: object,
        *,
        keys: Literal["strings", "atoms"] = "strings",
        timeout: float = 5.0,
    ) -> None:
        """Send an event to channels and LiveViews. See :meth:`PubSub.broadcast_event`."""
        key = topic_bytes(topic)
        term = broadcast_term(key, event, payload, keys)
        await self._call("broadcast", [self.name, key, term, CHANNEL_DISPATCHER], timeout)

    async def direct_broadcast(
        self, node: str | Atom, topic: str | bytes, message: object, *, timeout: float = 5.0
    ) -> None:
        """Send a message to the subscribers of the topic on one node, which need not be the one in use."""
        arguments = [Atom(node), self.name, topic_bytes(topic), to_term(message)]
        await self._call("direct_broadcast", arguments, timeout)

    async def local_broadcast(self, topic: str | bytes, message: object, *, timeout: float = 5.0) -> None:
        """Send a message to the subscribers of the topic on the Elixir node in use."""
        await self._call("local_broadcast", [self.name, topic_bytes(topic), to_term(message)], timeout)

    async def _call(self, function: str, arguments: list[Term], timeout: float) -> None:
        """Call a function of ``Phoenix.PubSub`` on the node in use, or on the next one that can be reached."""
        for _ in self._peers.all:
            peer = self._peers.current
            if peer is not self.node.internals.atom and not await self.node.connect(peer):
                self._peers.failed(peer, self.node.internals.random)
                continue
            try:
                answer = await self.node.rpc(peer, PLAIN_DISPATCHER, function, arguments, timeout=timeout)
            except RemoteError as error:
                raise failure(peer, self.name, error.reason) from None
            if answer is not OK:
                raise failure(peer, self.name, answer)
            return
        raise PubSubError(
            f"none of the nodes {', '.join(each.name for each in self._peers.all)} can be reached: "
            f"{self.node.last_connect_error(self._peers.current)}"
        )
