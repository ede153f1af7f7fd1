"""Phoenix.PubSub: a Python node as a member, beside the Elixir nodes of a Phoenix application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from erlmesh.behaviours.child_spec import ChildSpec
from erlmesh.core.exit_reasons import NORMAL, SHUTDOWN
from erlmesh.core.phoenix_pubsub.message_queue import BYTE_LIMIT, Overflow
from erlmesh.core.phoenix_pubsub.messages import PubSubStatistics, broadcast_term
from erlmesh.core.phoenix_pubsub.names import (
    CHANNEL_DISPATCHER,
    PLAIN_DISPATCHER,
    checked_dispatcher,
    pubsub_atom,
    topic_bytes,
)
from erlmesh.core.supervision import RestartType
from erlmesh.errors import ProcessStartError, PubSubError, PubSubNotReady
from erlmesh.node import Node, Process
from erlmesh.phoenix.adapter import Adapter
from erlmesh.phoenix.start_stop import StartStop
from erlmesh.phoenix.subscribers import Subscribers
from erlmesh.phoenix.subscription import Subscription
from erlmesh.terms import Atom, Pid, Term
from erlmesh.typed import to_term

if TYPE_CHECKING:
    from erlmesh.phoenix.subscribers import Unsubscribe

__all__ = ["PubSub"]

T = TypeVar("T")
LIMIT: Final = 10_000
"""Messages that wait for one subscriber, unless ``subscribe`` says otherwise."""


class PubSub(StartStop):
    """The Phoenix.PubSub ``name`` on this node. ::

        async with PubSub(node, "MyApp.PubSub") as pubsub:
            await pubsub.broadcast("orders", {"id": 7})
            async for message in pubsub.subscribe("orders"):
                ...

    It finds the pool sizes and the release of the other nodes by itself. ``name`` is that of the Elixir application:
    ``"MyApp.PubSub"``, or ``Atom("my_pubsub")``. A node has one PubSub of a name.

    A broadcast before the first contact with another node would be lost. So the first one waits for that contact, at
    most ``ready_timeout`` seconds, and raises PubSubNotReady after that time. Without ``require_peers`` it is sent to
    the nodes that are known, also if there are none.

    A member gets the messages of all topics of all nodes. While the event loop is blocked for long, senders on Elixir
    nodes may have to wait. A node with long computations, or with few topics, is better a guest: :class:`PubSubGuest`.
    """

    def __init__(self, node: Node, name: str | Atom, *, ready_timeout: float = 5.0, require_peers: bool = True) -> None:
        self.node = node
        self.name = pubsub_atom(name)
        self.adapter = Adapter(node, self.name, self._ended)
        """What services of this package use, see :class:`erlmesh.phoenix.adapter.RawPubSub`."""
        self._ready_timeout = ready_timeout
        self._require_peers = require_peers
        self._has_met = False
        self._subscribers = Subscribers(self.adapter)

    # Start and stop

    async def start(self) -> None:
        """Join the other nodes. Raises ValueError if this node has a PubSub of this name, NodeNotAlive."""
        self.adapter.start()

    async def stop(self) -> None:
        """Leave the other nodes. All subscriptions end."""
        self.adapter.stop()

    async def start_link(self, parent: Process) -> Pid:
        """Start it with a link to ``parent``, as a child of a supervisor, and return the pid of the worker.

        When the worker ends, the subscriptions end, too: with PubSubError, unless the reason is ``shutdown`` or
        ``normal``. Raises ProcessStartError.
        """
        try:
            self.adapter.start(restart=False)
        except ValueError as error:
            taken = self.node.whereis(self.adapter.adapter)
            raise ProcessStartError(str(error), (Atom("already_started"), taken or Atom("undefined"))) from None
        pid = self.adapter.process.pid
        parent.link(pid)
        return pid

    def child_spec(self, *, id: Term = None, restart: RestartType = "permanent") -> ChildSpec:
        """Return what a supervisor needs: ``Supervisor.running(node, [pubsub.child_spec(), ...])``."""
        return ChildSpec(self.name if id is None else id, self.start_link, restart=restart, modules=(PLAIN_DISPATCHER,))

    def _ended(self, reason: Term) -> None:
        self._has_met = False
        quiet = reason in (NORMAL, SHUTDOWN) or (type(reason) is tuple and reason[:1] == (SHUTDOWN,))
        self._subscribers.end(None if quiet else PubSubError(f"the PubSub {self.adapter.shown} has ended: {reason}"))

    # The other nodes

    async def ready(self, timeout: float | None = 5.0) -> bool:
        """Wait until this node and the others know each other. False after ``timeout`` seconds.

        True means: another node has this PubSub, and each connected node that has it would get what this node
        broadcasts now, and the other way round.
        """
        if await self.adapter.ready(timeout):
            self._has_met = True
            return True
        return False

    def nodes(self) -> list[str]:
        """The other nodes that have this PubSub."""
        return [node.name for node in self.adapter.nodes()]

    @property
    def statistics(self) -> PubSubStatistics:
        """Counts of messages since the start."""
        return self.adapter.statistics

    # Subscriptions

    @overload
    def subscribe(
        self, topic: str | bytes, *, limit: int = ..., byte_limit: int = ..., overflow: Overflow = ...
    ) -> Subscription[Term]: ...
    @overload
    def subscribe(
        self, topic: str | bytes, *, type: type[T], limit: int = ..., byte_limit: int = ..., overflow: Overflow = ...
    ) -> Subscription[T]: ...
    @overload
    def subscribe(
        self, topic: str | bytes, *, type: Any, limit: int = ..., byte_limit: int = ..., overflow: Overflow = ...
    ) -> Subscription[Any]: ...
    @overload
    def subscribe(self, topic: str | bytes, process: Pid | Process) -> Unsubscribe: ...
    def subscribe(
        self,
        topic: str | bytes,
        process: Pid | Process | None = None,
        *,
        type: Any = None,
        limit: int = LIMIT,
        byte_limit: int = BYTE_LIMIT,
        overflow: Overflow = "drop_oldest",
    ) -> Subscription[Any] | Unsubscribe:
        """Subscribe to a topic, from now on. The result is for ``async for``, see :class:`Subscription`.

        At most ``limit`` messages wait for it, and together they have about ``byte_limit`` bytes (64 MiB) at most.
        ``overflow`` says what happens to one more: ``drop_oldest`` drops those that have waited longest,
        ``drop_newest`` the new one, ``fail`` ends the subscription with SubscriptionOverflow. What is dropped is
        counted and logged. With a ``type``, each message is converted to it (:func:`erlmesh.from_term`).

        With ``process``, a process of this node gets the messages themselves into its mailbox, as in Elixir. Then the
        result is a function that ends the subscription; the end of the process does, too.

        Raises RuntimeError before the start, PubSubError after the end, and ValueError for a process of another node:
        it subscribes there.
        """
        key = topic_bytes(topic)
        if process is None:
            return Subscription(self._subscribers.add_inbox(key, limit, overflow, byte_limit), type)
        return self._subscribers.add_process(key, process.pid if isinstance(process, Process) else process)

    # Messages

    async def broadcast(
        self,
        topic: str | bytes,
        message: object,
        *,
        dispatcher: str | Atom = PLAIN_DISPATCHER,
        allow_dispatcher: bool = False,
    ) -> None:
        """Send a message to the subscribers of the topic on all nodes. Values that are no terms are converted first.

        Messages of one process, or of code outside of processes, keep their order. The call waits while a connection
        is full, as a process on a BEAM does.

        ``dispatcher`` is the Elixir module that hands the message to the subscribers. A module that does not come with
        Phoenix is refused with ValueError: where it is not loaded, the worker of the PubSub ends. ``allow_dispatcher``
        says that each node has it.

        Raises PubSubNotReady (see the class), PubSubError after the end of the PubSub or its node, and EncodeError for
        a value that is not a term.
        """
        await self._broadcast(topic, to_term(message), checked_dispatcher(dispatcher, allowed=allow_dispatcher), None)

    async def broadcast_from(
        self,
        sender: Pid | Process | Subscription[Any],
        topic: str | bytes,
        message: object,
        *,
        dispatcher: str | Atom = PLAIN_DISPATCHER,
        allow_dispatcher: bool = False,
    ) -> None:
        """Do the same as :meth:`broadcast`, but not to ``sender``: a process or a subscription of this node."""
        chosen = checked_dispatcher(dispatcher, allowed=allow_dispatcher)
        await self._broadcast(topic, to_term(message), chosen, sender)

    async def broadcast_event(
        self,
        topic: str | bytes,
        event: str,
        payload: object,
        *,
        keys: Literal["strings", "atoms"] = "strings",
        sender: Pid | Process | Subscription[Any] | None = None,
    ) -> None:
        """Send an event to channels and LiveViews, as ``MyAppWeb.Endpoint.broadcast(topic, event, payload)``.

        Browsers that have joined the topic as a channel get the event. A LiveView that has subscribed gets a
        ``Phoenix.Socket.Broadcast`` with ``topic``, ``event`` and ``payload``. The payload is a dict. Its keys that are
        a ``str`` become strings, or with ``keys="atoms"`` atoms, also in dicts inside of it. LiveViews often match on
        atoms. A BEAM never frees an atom: use ``atoms`` only for keys that stand in the code.

        ``sender`` is left out, as by :meth:`broadcast_from`. Raises TypeError for another payload, and as
        :meth:`broadcast`.
        """
        term = broadcast_term(topic_bytes(topic), event, payload, keys)
        await self._broadcast(topic, term, CHANNEL_DISPATCHER, sender)

    async def direct_broadcast(
        self,
        node: str | Atom,
        topic: str | bytes,
        message: object,
        *,
        dispatcher: str | Atom = PLAIN_DISPATCHER,
        allow_dispatcher: bool = False,
    ) -> None:
        """Send a message to the subscribers of the topic on one node. Raises PubSubNotReady if it is not known."""
        chosen, term, target = checked_dispatcher(dispatcher, allowed=allow_dispatcher), to_term(message), Atom(node)
        if target is self.adapter.own:
            self._subscribers.broadcast(topic_bytes(topic), term, None)
            return
        if target not in self.adapter.nodes() and not self._has_met:
            await self.ready(self._ready_timeout)
        if not self.adapter.direct_broadcast(target, topic_bytes(topic), term, chosen):
            raise PubSubNotReady(
                f"{target.name} has no PubSub {self.adapter.shown} that is known here: pubsub.nodes() lists those"
            )
        await self.node.internals.wait_writable([target])

    def local_broadcast(
        self,
        topic: str | bytes,
        message: object,
        *,
        sender: Pid | Process | Subscription[Any] | None = None,
    ) -> None:
        """Send a message to the subscribers on this node only. ``sender`` is left out."""
        self._subscribers.broadcast(topic_bytes(topic), to_term(message), _excluded(sender))

    def broadcast_nowait(
        self,
        topic: str | bytes,
        message: object,
        *,
        dispatcher: str | Atom = PLAIN_DISPATCHER,
        allow_dispatcher: bool = False,
    ) -> None:
        """Do the same as :meth:`broadcast`, without waiting, for code that is no coroutine.

        Raises PubSubNotReady at once if no other node is known yet. It never waits for a full connection: see
        ``send_queue_limit`` of :class:`NodeConfig`.
        """
        chosen = checked_dispatcher(dispatcher, allowed=allow_dispatcher)
        if self.adapter.process and not self._has_met and self._require_peers and not self.adapter.nodes():
            raise self._not_ready("call `await pubsub.ready()` first")
        self._send(topic_bytes(topic), to_term(message), chosen, None)

    async def _broadcast(
        self, topic: str | bytes, message: Term, dispatcher: Atom, sender: Pid | Process | Subscription[Any] | None
    ) -> None:
        await self._meet()
        self._send(topic_bytes(topic), message, dispatcher, _excluded(sender))
        await self.node.internals.wait_writable(self.adapter.nodes())

    def _send(self, topic: bytes, message: Term, dispatcher: Atom, excluded: object) -> None:
        self.adapter.broadcast(topic, message, dispatcher)
        self._subscribers.broadcast(topic, message, excluded)

    async def _meet(self) -> None:
        """Wait for the first contact with another node."""
        if self._has_met:
            return
        if not await self.ready(self._ready_timeout) and self._require_peers and not self.adapter.nodes():
            raise self._not_ready(f"waited {self._ready_timeout:g} s")
        self._has_met = True

    def _not_ready(self, what: str) -> PubSubNotReady:
        return PubSubNotReady(
            f"no connected node has the PubSub {self.adapter.shown}, so the broadcast would be lost ({what}): check "
            f"the name and node.nodes(), or pass require_peers=False if this node may be alone"
        )


def _excluded(sender: Pid | Process | Subscription[Any] | None) -> object:
    """What identifies a subscriber of this node: a pid or an inbox."""
    if isinstance(sender, Process):
        return sender.pid
    return sender._inbox if isinstance(sender, Subscription) else sender
