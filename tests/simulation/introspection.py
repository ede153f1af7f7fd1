"""Internal state of a node that the checks read. It is not part of the public API."""

from __future__ import annotations

from erlmesh.node import Node
from erlmesh.terms import Pid, Term

__all__ = [
    "connected_since",
    "duplicate_connections",
    "held_locks",
    "leaked_resources",
    "links_of",
    "monitor_count",
    "monitored_by",
]


def connected_since(node: Node, peer: str) -> float | None:
    """The time at which the current connection with ``peer`` came up, or None."""
    connection = node.internals._connections.connection(peer)
    return None if connection is None else connection.connected_at


def duplicate_connections(node: Node) -> list[str]:
    """Peers with more than one established connection."""
    up = [
        connection.name
        for pump, connection in node.internals._connections._by_protocol.items()
        if pump.channel is not None and not pump._closed
    ]
    return [name for name in dict.fromkeys(up) if up.count(name) > 1]


def links_of(node: Node, pid: Pid) -> list[Pid]:
    """The pids that the local process is linked to."""
    return node.internals._router.links.links_of(pid)


def held_locks(node: Node) -> list[tuple[Term, Pid]]:
    """Pairs of resource and holder for all locks on this node."""
    return [(resource, pid) for resource, pids in node.global_.statistics().locks for pid in pids]


def monitor_count(node: Node) -> int:
    """Number of monitors from and to the processes of the node."""
    return len(node.internals._router.monitors)


def leaked_resources(node: Node) -> dict[str, int]:
    """Counters that must be 0 on a quiescent node that runs only its services."""
    connections, router = node.internals._connections, node.internals._router
    return {
        "links": len(router.links),
        "connection attempts": len(connections.attempts.tasks),
        "signals waiting for connections": len(connections._pending),
        "pending handshakes": len(connections._admission.pending),
        "connections that are not up": len(connections._by_protocol) - len(node.nodes()) - len(node.nodes(hidden=True)),
        "global sessions": len(node.global_.statistics().in_session),
        "locks": len(node.global_.statistics().locks),
        "local pg memberships": node.pg.statistics().local_memberships,
    }


def monitored_by(node: Node, pid: Pid) -> list[Pid]:
    """The pids that monitor the local process."""
    return node.internals._router.monitors.monitored_by(pid)
