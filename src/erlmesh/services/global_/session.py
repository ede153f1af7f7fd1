"""One session between two servers named ``global_name_server``: its state, and its messages in parsed form.

See ``sync.py`` for the protocol.
"""

from __future__ import annotations

from typing import NamedTuple

from erlmesh.records import field, record
from erlmesh.services.global_.protocol import OLDEST_VSN, PARTITION_VSN, VSN, Atoms, LockId
from erlmesh.terms import Atom, Pid, Term

__all__ = ["InitConnect", "Resolved", "Session", "encode_known", "parse_init_connect", "parse_nodes"]


class InitConnect(NamedTuple):
    """A parsed ``init_connect``."""

    vsn: int
    """The lower of the two versions. Both sides use it."""
    peer_vsn: int
    peer_tag: Term
    """The peer's tag of this session."""
    locker: Pid
    """The peer's locker."""


class Resolved(NamedTuple):
    """A parsed ``resolved``."""

    operations: list[Term]
    """Changes of our table: how the peer's conflicts were decided."""
    known: list[tuple[Atom, int]]
    """The peer and the nodes of its partition, with their versions (0 if unknown)."""
    external: Term
    """The C node names of the peer's partition."""


@record
class Session:
    """One session with a connected node, from nodeup until the partitions are one or the connection is lost."""

    my_tag: int
    """Our tag. The peer puts it into its messages."""
    peer_tag: Term = None
    """The peer's tag, None until its init_connect arrives."""
    vsn: int = 0
    """The common protocol version, 0 until the peer's init_connect arrives."""
    lock: LockId | None = None
    """The lock that both partitions are locked with, None until they are."""
    peer_names: list[Term] | None = None
    """The peer's names while they wait for the lock, None before and after."""
    operations: list[Term] | None = None
    """Changes of our own table, None until the conflicts are resolved."""
    result: Resolved | None = None
    """The peer's ``resolved``, None until it arrives."""
    lost: set[Atom] = field(default_factory=set)
    """Nodes that were lost after ``result`` arrived. They are not introduced."""
    resolving: bool = False
    """True while a process resolves conflicts for this session."""


def parse_init_connect(version: Term, init_msg: Term) -> InitConnect | None:
    """Return None if a message is not understood or is from a version that is too old."""
    match version, init_msg:
        case ((int() as peer_vsn, peer_tag, *_), (Atoms.LOCKER, _, _, Pid() as locker)) if peer_vsn >= OLDEST_VSN:
            return InitConnect(min(peer_vsn, VSN), peer_vsn, peer_tag, locker)
    return None


def parse_nodes(nodes: Term) -> list[tuple[Atom, int]]:
    """Parse ``[Node]`` or ``[{Node, Vsn}]``. A version that is missing is 0."""
    found: list[tuple[Atom, int]] = []
    for item in nodes if isinstance(nodes, list) else ():
        match item:
            case Atom():
                found.append((item, 0))
            case (Atom() as node, int() as vsn):
                found.append((node, vsn))
    return found


def encode_known(nodes: list[tuple[Atom, int]], vsn: int) -> list[Term]:
    """Encode ``nodes`` for a peer of version ``vsn``: versions are included since version 7."""
    return list(nodes) if vsn >= PARTITION_VSN else [node for node, _ in nodes]
