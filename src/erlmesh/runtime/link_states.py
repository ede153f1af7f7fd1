"""The connections of a node as tools show them, with those that are lost and dialled again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from erlmesh.records import record

if TYPE_CHECKING:
    from erlmesh.net.dist_protocol import DistProtocol
    from erlmesh.runtime.instance import NodeInstance

__all__ = ["LinkState", "link_states"]


@record(frozen=True)
class LinkState:
    """One connection, or the attempt to have one. Seconds and bytes are None where they do not apply."""

    state: str
    """``up``, ``connecting`` or ``reconnecting``."""
    hidden: bool = False
    silent: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    queued: int | None = None
    suspended: bool = False
    """This node does not read from the peer, because the peer does not read."""
    reason: str | None = None
    """Why it is not up, in words of this node. They may quote the peer."""
    attempt: int | None = None
    """How many attempts to reconnect have begun."""
    next: float | None = None
    """Seconds until the next one."""


def link_states(instance: NodeInstance, now: float) -> dict[str, LinkState]:
    """Return what is known of each peer. ``now`` is on the event loop's clock."""
    connections, reconnector = instance.connections, instance.reconnector
    found: dict[str, LinkState] = {}
    for connection in connections.attempts.under_way:
        found[connection.name] = LinkState("connecting", reason=connections.log.last_connect_error(connection.name))
    for name, (attempt, due) in ({} if reconnector is None else reconnector.lost()).items():
        reason = connections.log.last_connect_error(name) or connections.log.last_disconnect_reason(name)
        wait = None if due == math.inf else max(0.0, due - now)
        found[name] = LinkState("reconnecting", reason=reason, attempt=attempt, next=wait)
    for name, connection in connections._peers.established_connections().items():
        if connections.connection(name) is not None and connection.protocol is not None:
            found[name] = _up(connection.protocol, connection.hidden)
    return found


def _up(protocol: DistProtocol, hidden: bool) -> LinkState:
    queued, bytes_in, bytes_out = protocol._counts()
    suspender = protocol._suspender
    return LinkState(
        "up", hidden, protocol.silence(), bytes_in, bytes_out, queued, suspender is not None and suspender.is_suspended
    )
