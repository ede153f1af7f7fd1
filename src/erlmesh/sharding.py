"""Shards that one process holds each: ``node.shards``. Acknowledged delivery: ``node.outbox`` and ``node.inbox``.

This module exports the names for them.
"""

from __future__ import annotations

from erlmesh.core.sharding.keeper import Keeper, Merge, Origin, Results, newest
from erlmesh.errors import Full, OutboxClosed
from erlmesh.services.sharding.events import Release, ShardEvent, Take
from erlmesh.services.sharding.inbox import Delivery, Inbox
from erlmesh.services.sharding.outbox import Outbox, Refusal
from erlmesh.services.sharding.shards import Shards

__all__ = [
    "Delivery",
    "Full",
    "Inbox",
    "Keeper",
    "Merge",
    "Origin",
    "Outbox",
    "OutboxClosed",
    "Refusal",
    "Release",
    "Results",
    "ShardEvent",
    "Shards",
    "Take",
    "newest",
]
