"""What a :class:`~erlmesh.core.sharding.replica_book.ReplicaBook` asks its server to do."""

from __future__ import annotations

from typing import TypeAlias

from erlmesh.records import record
from erlmesh.terms import Pid, Term

__all__ = [
    "Act",
    "Confirmed",
    "Ignored",
    "JoinCopies",
    "LeaveCopies",
    "LeaveHolders",
    "Lost",
    "Out",
    "Pause",
    "ReplicaEffect",
    "Send",
    "Settled",
    "Unsendable",
]


@record(frozen=True)
class Send:
    """Send a message, without connecting."""

    to: Pid
    message: Term


@record(frozen=True)
class JoinCopies:
    """Join the group of those that have a complete copy."""


@record(frozen=True)
class LeaveCopies:
    """Leave it."""


@record(frozen=True)
class LeaveHolders:
    """Leave the group of the holder: another node may take the shard."""


@record(frozen=True)
class Act:
    """Take messages from now on. The last numbers of sources may have changed: read them from the book."""


@record(frozen=True)
class Pause:
    """Take no messages until the next :class:`Act`."""


@record(frozen=True)
class Settled:
    """All that the state contained at the last :class:`Act` is replicated now, so it may be acknowledged."""


@record(frozen=True)
class Confirmed:
    """A message is applied and replicated: acknowledge it."""

    key: bytes
    source: Term
    number: int
    token: object
    """What the caller has passed to ``apply``."""


@record(frozen=True)
class Out:
    """Send results to the receivers, until they have acknowledged them or this node holds the shard no longer."""

    key: bytes
    source: Term
    number: int
    results: list[Term]


@record(frozen=True)
class Lost:
    """A merge has lost messages: by ``newest``, or because ``merge`` raised ``error``."""

    key: bytes
    count: int
    error: Exception | None


@record(frozen=True)
class Ignored:
    """Something of a node could not be used. ``error`` is that of a function of the keeper."""

    peer: Pid
    reason: str
    error: Exception | None = None


@record(frozen=True)
class Unsendable:
    """A message is applied, and what the keeper has returned are not terms: it has no results."""

    key: bytes
    source: Term
    error: Exception


ReplicaEffect: TypeAlias = (
    Send
    | JoinCopies
    | LeaveCopies
    | LeaveHolders
    | Act
    | Pause
    | Settled
    | Confirmed
    | Out
    | Lost
    | Ignored
    | Unsendable
)
