"""How many log lines others may cause. No I/O: time is an argument.

Each kind of message of one peer has some lines at once, and then one in a minute with the number of those that were
left out. All peers together have ten times as much, because a peer may use many names and addresses.
"""

from __future__ import annotations

from typing import Final

from erlmesh.proto.bounded_dict import BoundedDict
from erlmesh.records import record

__all__ = ["BURST", "INTERVAL", "LogRate"]

BURST: Final = 5
"""Lines of one kind and peer without a pause."""
INTERVAL: Final = 60.0
"""Seconds until there may be one more."""
ALL_PEERS: Final = 10
"""How many times as much all peers together have."""
MAX_KEYS: Final = 512
"""Kinds and peers that are remembered."""


@record
class _Bucket:
    lines: float
    """Lines that may be written now."""
    refilled_at: float
    left_out: int = 0
    """Messages since the last line."""

    def refill(self, now: float, *, most: float, interval: float) -> None:
        self.lines = min(most, self.lines + (now - self.refilled_at) / interval)
        self.refilled_at = now


class LogRate:
    """The rates of one node."""

    def __init__(self) -> None:
        self._peers: BoundedDict[tuple[str, str], _Bucket] = BoundedDict(MAX_KEYS)
        self._kinds: BoundedDict[str, _Bucket] = BoundedDict(MAX_KEYS)

    def admit(self, kind: str, peer: str, now: float) -> int | None:
        """Return whether to write a line: the number of messages left out before, or None to leave it out.

        ``kind`` is chosen by this node, ``peer`` is a name or an address. The number is that of the kind and the peer.
        """
        bucket = self._peers.get((kind, peer))
        if bucket is None:
            bucket = _Bucket(BURST, now)
            self._peers.store((kind, peer), bucket)
        every = self._kinds.get(kind)
        if every is None:
            every = _Bucket(BURST * ALL_PEERS, now)
            self._kinds.store(kind, every)
        bucket.refill(now, most=BURST, interval=INTERVAL)
        every.refill(now, most=BURST * ALL_PEERS, interval=INTERVAL / ALL_PEERS)
        if bucket.lines < 1 or every.lines < 1:
            bucket.left_out += 1
            return None
        bucket.lines -= 1
        every.lines -= 1
        left_out, bucket.left_out = bucket.left_out, 0
        return left_out
