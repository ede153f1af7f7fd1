"""The names of shards: their groups in ``pg``, the shard of a key, and what the rank of a node for a shard is made of.

All of this is seen by other nodes, also by those in Elixir. Names are binaries, shards are integers from 0.
"""

from __future__ import annotations

from functools import partial
from hashlib import md5
from typing import Final

from erlmesh.terms import Term

__all__ = [
    "TAG",
    "candidates_group",
    "copies_group",
    "grants_group",
    "holders_group",
    "keepers_group",
    "shard_key",
    "shard_of",
]

TAG: Final = b"erlmesh_shards"
"""The first element of each group's name."""

_md5: Final = partial(md5, usedforsecurity=False)


def candidates_group(name: bytes) -> Term:
    """The group of all processes that may hold shards. The protocol calls it G."""
    return (TAG, name)


def holders_group(name: bytes, shard: int) -> Term:
    """The group of the process that holds ``shard``. The protocol calls it H(s)."""
    return (TAG, name, shard)


def copies_group(name: bytes, shard: int) -> Term:
    """The group of the processes that have a confirmed copy of the state of ``shard``."""
    return (TAG, name, shard, b"copy")


def keepers_group(name: bytes) -> Term:
    """The group of the candidates that can keep a state."""
    return (TAG, name, b"keeps")


def grants_group(name: bytes) -> Term:
    """The group of the processes that grant shards. Only candidates with a quorum have one. See ``grants.py``."""
    return (TAG, name, b"grants")


def shard_of(key: bytes, shards: int) -> int:
    """The shard of a key: the first four bytes of its MD5 digest, modulo the number of shards."""
    return int.from_bytes(_md5(key).digest()[:4]) % shards


def shard_key(name: bytes, shard: int) -> bytes:
    """The key that ranks the nodes for a shard: ``name/7``. With the name, single shards do not all go to one node."""
    return b"%b/%d" % (name, shard)
