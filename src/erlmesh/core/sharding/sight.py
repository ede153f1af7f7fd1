"""Which candidates see which others. A quorum needs this, because three nodes can be connected in a line. No I/O.

::

    A ──── C ──── B        A sees C, and B sees C: both see two of three nodes.

Each candidate with a quorum joins the group ``{erlmesh_shards, Name, sees, Node}`` for each node that it sees in G. So
A finds that C sees B, which A does not see. Then A takes nothing: B may hold it. Of two sides with a quorum at least
one node is on both sides, and it sees both. It leaves the group of a lost node only when that node has closed its
fence, or knows that the connection is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from erlmesh.terms import Atom

__all__ = ["Sight"]


class Sight:
    """What the other candidates see, as the candidate on ``here`` knows it."""

    def __init__(self, here: Atom) -> None:
        self._here = here
        self._seen: dict[Atom, Counter[Atom]] = {}
        """For each node, those that see it."""

    def joined(self, by: Atom, node: Atom) -> None:
        """A candidate of the node ``by`` sees ``node``."""
        self._seen.setdefault(node, Counter())[by] += 1

    def left(self, by: Atom, node: Atom) -> None:
        """A candidate of ``by`` does not see ``node`` any more, or is gone itself."""
        seers = self._seen.get(node)
        if seers is None or by not in seers:
            return
        seers[by] -= 1
        if not seers[by]:
            del seers[by]
        if not seers:
            del self._seen[node]

    def confirmed(self, nodes: Collection[Atom]) -> int:
        """How many of ``nodes`` see this one. It sees itself."""
        seers = self._seen.get(self._here, ())
        return sum(node is self._here or node in seers for node in nodes)

    def overlaps(self, nodes: Collection[Atom]) -> bool:
        """Whether one of ``nodes``, which this node sees, sees a node that is none of them."""
        known = {*nodes}
        return any(
            node not in known and any(by in known and by is not self._here for by in seers)
            for node, seers in self._seen.items()
        )
