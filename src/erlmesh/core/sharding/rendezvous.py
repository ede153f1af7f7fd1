r"""The choice of one member of a group for a key: rendezvous hashing.

Each node of the group has a rank for the key, ``md5(name of the node, a zero byte, the key)``. The greatest rank wins.
If the node has several members, the least pid in Erlang's order stands for it. So all who see the same members give the
same answer, whoever asks. A node that leaves gives away its own keys only. A node that comes takes an equal share from
each of the others. Elixir gives the same answer::

    :pg.get_members(group) |> Enum.sort() |> Enum.max_by(&:erlang.md5("#{node(&1)}\0#{key}"), fn -> nil end)

MD5 is not used for security here. It is the digest that every BEAM and every Python has.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from hashlib import md5
from heapq import nlargest
from typing import Final

from erlmesh.terms import Atom, Pid
from erlmesh.terms.order import sort_key

__all__ = ["Rendezvous", "key_bytes", "node_prefix", "rank"]

_md5: Final = partial(md5, usedforsecurity=False)


def key_bytes(key: str | bytes) -> bytes:
    """Return a key as all nodes see it: a ``str`` is its UTF-8. Raises ``TypeError`` for another type."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    raise TypeError(f"a key is a str or bytes, not {type(key).__name__}: for a number, use str(number)")


def node_prefix(node: Atom) -> bytes:
    """Return what the ranks of ``node`` are made of, beside the key."""
    return node.name.encode() + b"\0"


def rank(prefix: bytes, key: bytes) -> bytes:
    """Return the rank of a node for a key. ``prefix`` is :func:`node_prefix` of the node."""
    return _md5(prefix + key).digest()


class Rendezvous:
    """The nodes of one group. It is made once for each change of the group; an answer costs one digest for each node.

    ``members`` may be in any order, and may repeat a pid.
    """

    __slots__ = ("_nodes",)

    def __init__(self, members: Iterable[Pid]) -> None:
        first: dict[Atom, Pid] = {}
        for pid in members:
            other = first.get(pid.node)
            if other is None or sort_key(pid) < sort_key(other):
                first[pid.node] = pid
        self._nodes = [(node_prefix(node), pid) for node, pid in first.items()]

    def owner(self, key: bytes) -> Pid | None:
        """Return the member that is responsible for ``key``. None if there are no members."""
        best, found = b"", None
        for prefix, pid in self._nodes:
            digest = _md5(prefix + key).digest()
            if digest > best:
                best, found = digest, pid
        return found

    def owners(self, key: bytes, count: int) -> list[Pid]:
        """Return ``count`` members on different nodes, the responsible one first. Fewer if there are fewer nodes.

        If the node of the first one leaves, the second one becomes the first, and so on.
        """
        ranked = [(_md5(prefix + key).digest(), pid) for prefix, pid in self._nodes]
        return [pid for _, pid in nlargest(count, ranked, key=lambda each: each[0])]
