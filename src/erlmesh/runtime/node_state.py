"""The tables of one node instance, and the interface through which the router's parts send signals.

:class:`NodeState` holds tables only. Every part has a reference to the same tables, so a lookup costs no call.
:class:`Dispatcher` is the router as its parts see it: they import this module and never the router.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from erlmesh import native
from erlmesh.core.identifiers import Identifiers
from erlmesh.core.links import Links
from erlmesh.core.monitors import Monitors
from erlmesh.core.node_counters import NodeCounters
from erlmesh.core.spawn_requests import SpawnRequests
from erlmesh.errors import NoConnection
from erlmesh.proto.control import Signal
from erlmesh.records import record
from erlmesh.runtime.deadlines import Deadlines
from erlmesh.runtime.delivery import Delivery
from erlmesh.runtime.process import Backpressure, LocalProcess
from erlmesh.runtime.registry import ProcessRegistry
from erlmesh.runtime.wakeups import Wakeups
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Dispatcher", "EnqueueSignal", "NodeState", "Peer", "direct_delivery"]


class Peer(Backpressure, Protocol):
    """An established connection, as the router needs it."""

    overfull: bool
    """So much waits for the peer that its further signals must wait."""

    def send(self, signal: Signal) -> None:
        """Queue the signal. Raises EncodeError if a value is not a term; the connection stays usable."""

    def send_message(self, sender: Pid, to: Pid, message: Term) -> None:
        """Do the same as ``send(Send(sender, to, message))``, without making the signal."""


@record(frozen=True)
class NodeState:
    """The tables of one node instance. They are shared by reference and live as long as the instance."""

    identifiers: Identifiers
    registry: ProcessRegistry
    """Local processes by pid, name and alias."""
    delivery: Delivery
    """Messages on their way into local mailboxes and handlers."""
    links: Links
    monitors: Monitors
    spawn_requests: SpawnRequests
    """SPAWN_REQUESTs that were sent and have no reply yet."""
    peers: dict[Atom, Peer]
    """The established connections by node. The connection manager adds and removes entries."""
    wakeups: Wakeups
    """When the processes that a message wakes up continue."""
    deadlines: Deadlines
    """The time limits of calls and receives."""
    direct: object | None
    """What applies common signals of a connection to these tables; see :func:`direct_delivery`."""
    demonitor_callbacks: dict[Ref, Callable[[], object]]
    """What is called when the origin of a monitor of a local process gives it up, or is lost. Mostly empty."""
    counters: NodeCounters
    """What is counted for metrics. No message is."""

    @classmethod
    def empty(cls, identifiers: Identifiers) -> NodeState:
        """The state of an instance that has no process and no connection."""
        node, registry = identifiers.node, ProcessRegistry(identifiers)
        monitors, counters = Monitors(node), NodeCounters()
        demonitor_callbacks: dict[Ref, Callable[[], object]] = {}
        return cls(
            identifiers=identifiers,
            registry=registry,
            delivery=Delivery(node, counters),
            links=Links(node),
            monitors=monitors,
            spawn_requests=SpawnRequests(),
            peers={},
            wakeups=Wakeups(),
            deadlines=Deadlines(),
            direct=direct_delivery(registry, monitors, demonitor_callbacks),
            demonitor_callbacks=demonitor_callbacks,
            counters=counters,
        )


def direct_delivery(
    registry: ProcessRegistry, monitors: Monitors, demonitor_callbacks: dict[Ref, Callable[[], object]]
) -> object | None:
    """Return an object for ``Wire.deliver_to``; None without the native part.

    It looks at the tables for each signal, so it is never out of date. It does what the router would do, with the
    signals that no other signal precedes in the read:

    * a message to a living process without a handler and without pending calls: into its mailbox;
    * a message to an alias: it ends the call that waits for it, or is dropped if the alias does not exist any more;
    * a monitor of a living process, and its removal, unless it has a callback.
    """
    if native.module is None:
        return None
    identifiers = registry.identifiers
    made: object = native.module.DirectDelivery(
        identifiers.node,
        identifiers.creation,
        (registry.processes, registry.names, registry.aliases),
        (*monitors.target_tables(), demonitor_callbacks),
        LocalProcess,
    )
    return made


class EnqueueSignal(Protocol):
    """Where a signal goes while its node is not connected."""

    def __call__(self, node: Atom, signal: Signal, size: int, dial: bool) -> Backpressure | None:
        """Keep a signal whose message has ``size`` bytes, if ``dial`` is true or a connection attempt is under way.

        Later the signal is sent, in order, or :meth:`Termination.undeliverable` is called; never from within this call.
        Returns None if the signal was not kept.
        """


class Dispatcher(Protocol):
    """Sends signals for the router's parts."""

    @property
    def enqueue(self) -> EnqueueSignal:
        """Keeps a signal for a node that is not connected."""

    def send(self, node: Atom, signal: Signal, size: int = 0) -> Backpressure | None:
        """Send to ``node``, and connect first if needed. ``size`` is the bytes of the signal's terms, if known.

        Return what the sender has filled and must wait for, or None.
        """

    def send_if_connected(self, node: Atom, signal: Signal) -> bool:
        """Send to ``node`` if it is connected or is being connected. False if the signal was dropped."""

    @property
    def pending(self) -> Callable[[Atom], Backpressure | None]:
        """Returns what waits for a node that is being connected; None if nothing does."""

    def apply(self, signal: Signal, node: Atom) -> None:
        """Apply one signal that came from ``node``, which may be this node."""

    def no_connection_error(self, node: Atom) -> NoConnection:
        """The error for a caller that waits for an answer of a node without a connection."""
