"""What checks look at in a node and users have no business with."""

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
    """When the present connection with ``peer`` came up; None if there is none."""
    connection = node._connections.connection(peer)
    return None if connection is None else connection.connected_at


def duplicate_connections(node: Node) -> list[str]:
    """Peers with more than one established connection."""
    up = [
        connection.name
        for pump, connection in node._connections._by_protocol.items()
        if pump.channel is not None and not pump._closed
    ]
    return [name for name in dict.fromkeys(up) if up.count(name) > 1]


def links_of(node: Node, pid: Pid) -> list[Pid]:
    """Whom the local process is linked to."""
    return node._router.links.links_of(pid)


def held_locks(node: Node) -> list[tuple[Term, Pid]]:
    """Resources locked on this node, each with each of its holders."""
    return [(resource, pid) for resource, pids in node.global_.statistics().locks for pid in pids]


def monitor_count(node: Node) -> int:
    """How many monitors there are from and to its processes."""
    return len(node._router.monitors)


def leaked_resources(node: Node) -> dict[str, int]:
    """What must be nothing on a node that is at rest and has no processes but its services."""
    connections, router = node._connections, node._router
    return {
        "links": len(router.links),
        "attempts to connect": len(connections._tasks),
        "waiting for connections": len(connections._pending),
        "strangers": len(connections._pending_handshakes),
        "connections beside those that are up": len(connections._by_protocol)
        - len(node.nodes())
        - len(node.nodes(hidden=True)),
        "global sessions": len(node.global_.statistics().in_session),
        "locks": len(node.global_.statistics().locks),
        "local pg memberships": node.pg.statistics().local_memberships,
    }


def monitored_by(node: Node, pid: Pid) -> list[Pid]:
    """Who watches the local process."""
    return node._router.monitors.monitored_by(pid)
