"""The checked arguments of ``node.shards``."""

from __future__ import annotations

from erlmesh.records import record

__all__ = ["ShardSettings"]


@record(frozen=True)
class ShardSettings:
    """The arguments of ``node.shards``. ``name`` is the bytes of the name, times are seconds."""

    name: bytes
    shards: int
    settle: float
    quorum: int
    release_timeout: float | None
