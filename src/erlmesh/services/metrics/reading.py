"""Reads the values of all metrics from the tables of a node. It changes nothing, and keeps nothing.

The event loop calls this for each scrape. The time is bounded: it looks at all peers, and at no more processes and
groups than the limits here.
"""

from __future__ import annotations

import asyncio
import platform
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Final

from erlmesh import native
from erlmesh.core.node_counters import HIDDEN, OTHER
from erlmesh.services.metrics.values import Values
from erlmesh.services.observing.node_figures import OTP_RELEASE
from erlmesh.terms import Term
from erlmesh.terms.foreign_text import MAX_LENGTH, foreign_text, printable
from erlmesh.version import __version__

if TYPE_CHECKING:
    from erlmesh.runtime.connection import Connection
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.node_services import NodeServices
    from erlmesh.services.pg.server import Pg

__all__ = ["MAX_GROUPS", "MAX_PROCESSES", "MAX_RANKED", "build_labels", "read_tables"]

MAX_GROUPS: Final = 50
"""Groups of a scope that have series of their own."""
MAX_RANKED: Final = 20_000
"""Groups of a scope that are looked at to find the largest ones."""
MAX_PROCESSES: Final = 100_000
"""Processes whose mailboxes are looked at."""
DROP_REASONS: Final = (
    "no_connection",
    "connect_queue_full",
    "mailbox_limit",
    "no_process",
    "subscription_full",
)
MAX_RECONNECTING: Final = 100
"""Lost peers that are listed."""


def build_labels() -> tuple[str, str, str, str]:
    """Return the labels of ``erlmesh_build_info``."""
    build = "pure" if native.module is None else "native"
    return __version__, platform.python_version(), build, OTP_RELEASE


def read_tables(values: Values, runtime: Runtime, services: NodeServices) -> None:
    """Add all values that are in the tables of a running node."""
    _read_connections(values, runtime)
    _read_peers(values, runtime)
    _read_processes(values, runtime)
    for scope in list(services._scopes.values()):
        if scope.alive:
            _read_groups(values, scope)
    values.add("erlmesh_global_names", services.global_.statistics().names)


def _read_connections(values: Values, runtime: Runtime) -> None:
    connections, counters = runtime._connections, runtime.state.counters
    dialling, queued, accepting, pending = connections.waiting()
    states = {
        "up": len(runtime.nodes()),
        "hidden": len(runtime.nodes(hidden=True)),
        "dialling": dialling,
        "dial_queued": queued,
        "accepting": accepting,
        "reconnecting": len(runtime.reconnecting()),
    }
    values.add_all("erlmesh_connections", states)
    values.add("erlmesh_pending_bytes", pending)
    zero = {"outgoing": 0, "incoming": 0}
    values.add_all("erlmesh_connections_opened", zero | counters.counts("connections"))
    values.add_all("erlmesh_disconnects", {"connection_closed": 0} | counters.counts("disconnects"))
    values.add_all("erlmesh_connect_failures", {"connect_error": 0} | counters.counts("failed"))
    values.add_all("erlmesh_refused_connections", {"wrong_cookie": 0} | counters.counts("refused"))
    values.add("erlmesh_reconnect_attempts", sum(counters.counts("attempts").values()))
    values.add("erlmesh_reconnects", sum(counters.counts("reconnects").values()))
    values.add_all("erlmesh_dropped_messages", dict.fromkeys(DROP_REASONS, 0) | counters.counts("dropped"))


def _read_peers(values: Values, runtime: Runtime) -> None:
    sums, blocked = runtime.state.counters.peers.sums(), runtime.blocked_peers()
    for connection in runtime._connections.established():
        _read_peer(values, connection, blocked.get(connection.name, 0.0))
    for label, counts in sums.items():
        _add_counts(values, label, counts)
    for name in islice(runtime.reconnecting(), MAX_RECONNECTING):
        values.add("erlmesh_peer_connections", 0, _peer_label(name if name in sums else OTHER))


def _read_peer(values: Values, connection: Connection, blocked_for: float) -> None:
    protocol, label = connection.protocol, _peer_label(connection.label)
    if protocol is None or protocol.channel is None:
        return
    _add_counts(values, connection.label, protocol.counts())
    statistics = protocol.channel.statistics()
    values.add("erlmesh_peer_connections", 1, label)
    values.add("erlmesh_peer_send_queue_bytes", statistics.pending, label)
    values.add("erlmesh_peer_receive_buffer_bytes", statistics.buffered, label)
    values.add("erlmesh_peer_silence_seconds", protocol.silence(), label)
    values.add("erlmesh_peer_loop_blocked_seconds", blocked_for, label)


_PEER_COUNTERS: Final = (
    "erlmesh_peer_received_bytes",
    "erlmesh_peer_sent_bytes",
    "erlmesh_peer_received_signals",
    "erlmesh_peer_sent_signals",
    "erlmesh_peer_received_ticks",
    "erlmesh_peer_sent_ticks",
)
"""In the order of :meth:`DistProtocol.counts`."""


def _add_counts(values: Values, label: str, counts: tuple[int, ...] | list[int]) -> None:
    for name, count in zip(_PEER_COUNTERS, counts, strict=True):
        values.add(name, count, _peer_label(label))


def _peer_label(label: str) -> str:
    # A node name contains @, so the text of one is neither of the shared labels.
    return label if label in (OTHER, HIDDEN) else printable(label)


def _read_processes(values: Values, runtime: Runtime) -> None:
    registry = runtime.state.registry
    sizes = [len(process._mailbox) for process in islice(registry.processes.values(), MAX_PROCESSES)]
    values.add("erlmesh_processes", len(registry.processes))
    values.add("erlmesh_registered_names", len(registry.names))
    values.add("erlmesh_mailbox_messages", sum(sizes))
    values.add("erlmesh_largest_mailbox_messages", max(sizes, default=0))
    values.add("erlmesh_event_loop_callbacks", len(getattr(asyncio.get_running_loop(), "_ready", ())))
    pool = runtime.function_pool
    running, waiting = (0, 0) if pool is None else pool.load
    values.add("erlmesh_function_calls_running", running)
    values.add("erlmesh_function_calls_waiting", waiting)
    values.add("erlmesh_refused_calls", 0 if pool is None else pool.refused, "queue_full")


def _read_groups(values: Values, scope: Pg) -> None:
    statistics, name = scope._server.state.statistics(), foreign_text(scope.scope)
    values.add("erlmesh_groups", statistics.groups, name)
    values.add("erlmesh_group_memberships", statistics.memberships, name)
    largest = nlargest(MAX_GROUPS, scope._server.state.group_sizes(MAX_RANKED), key=lambda group: group[1])
    for group, members in largest:
        values.add("erlmesh_group_members", members, name, _group_label(group))
    rest = statistics.memberships - sum(members for _, members in largest)
    if rest:
        values.add("erlmesh_group_members", rest, name, OTHER)


def _group_label(group: Term) -> str:
    """The name of a group. A text stands without quotes, as an atom does."""
    if isinstance(group, bytes):
        group = group[: 4 * MAX_LENGTH].decode(errors="replace")
    return foreign_text(group)
