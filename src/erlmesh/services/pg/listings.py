"""What queries of one group return, kept until the group changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from erlmesh.terms import Atom, Pid

__all__ = ["Listing", "by_node"]


class Listing:
    """The lists of one group that queries have built. Each is None until a query needs it."""

    __slots__ = ("local", "members", "recipients")

    def __init__(self) -> None:
        self.members: tuple[Pid, ...] | None = None
        """The members on all nodes, newest first, with multiplicity."""
        self.local: tuple[Pid, ...] | None = None
        """The members on this node, newest first, with multiplicity."""
        self.recipients: dict[Atom, list[Pid]] | None = None
        """Every member once, by node."""


def by_node(pids: Iterable[Pid]) -> dict[Atom, list[Pid]]:
    """Every pid once, grouped by node, in the order of the first occurrences."""
    nodes: dict[Atom, list[Pid]] = {}
    for pid in dict.fromkeys(pids):
        nodes.setdefault(pid.node, []).append(pid)
    return nodes
