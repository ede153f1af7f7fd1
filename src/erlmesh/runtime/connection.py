"""One attempt to connect, and the connection that comes of it, as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh.records import record

if TYPE_CHECKING:
    import asyncio

    from erlmesh.errors import ErlmeshError
    from erlmesh.net.dist_protocol import DistProtocol
    from erlmesh.proto.flags import Flags

__all__ = ["Connection"]


@record(eq=False)
class Connection:
    """One attempt to connect, and the connection that comes of it. Compared by identity."""

    name: str = ""
    """Empty for an incoming connection until the peer has sent its name and it was accepted."""
    dialled: bool = False
    """This node opened it."""
    protocol: DistProtocol | None = None
    """None until the TCP connection of an outgoing attempt is there."""
    task: asyncio.Task[None] | None = None
    """Resolves the name and opens the TCP connection of an outgoing attempt."""
    hidden: bool = False
    flags: Flags | None = None
    """The distribution flags that both sides support; None before the handshake is complete."""
    creation: int = 0
    """The incarnation of the peer; 0 before the handshake is complete."""
    started_at: float = 0.0
    connected_at: float = 0.0
    refusal: ErlmeshError | None = None
    """Why this node refuses an incoming connection, if that needs more words than the status."""
    label: str = ""
    """The label of the peer in the metrics, from the end of the handshake on."""
