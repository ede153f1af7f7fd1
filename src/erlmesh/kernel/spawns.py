"""Processes that were asked for on other nodes and are not there yet (erl_dist_protocol, SPAWN_REQUEST).

The answer is a SPAWN_REPLY with the request's reference, which is also that of the monitor, if one was asked for.
Whoever asked may give up meanwhile: then the answer undoes what it brings. The table returns signals and sends none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from erlmesh.proto.control import Demonitor, ExitLink, SpawnReply
from erlmesh.terms import Atom, Pid, Ref

__all__ = ["LINKED", "MONITORED", "Asked", "Spawns", "undone"]

LINKED: Final = 1
MONITORED: Final = 2
"""The flags of a SPAWN_REPLY."""

_ABANDONED: Final = Atom("abandoned")


@dataclass(frozen=True, slots=True)
class Asked:
    """``owner`` asked ``node`` for a process."""

    owner: Pid
    node: Atom


class Spawns:
    """The requests of one node that are not answered."""

    def __init__(self) -> None:
        self._asked: dict[Ref, Asked] = {}

    def ask(self, ref: Ref, owner: Pid, node: Atom) -> None:
        """A request goes out."""
        self._asked[ref] = Asked(owner, node)

    def forget(self, ref: Ref) -> Asked | None:
        """The request never left, or its node is gone: no answer will come. None if there was no such request."""
        return self._asked.pop(ref, None)

    def answered(self, reply: SpawnReply, node: Atom) -> Asked | None:
        """The reply ends its request; None when it answers nothing that was asked of ``node`` for that process."""
        asked = self._asked.get(reply.ref)
        if asked is None or asked.node is not node or asked.owner != reply.to:
            return None
        del self._asked[reply.ref]
        return asked

    def of(self, node: Atom) -> list[Ref]:
        """The requests that wait for ``node``, oldest first."""
        return [ref for ref, asked in self._asked.items() if asked.node is node]

    def __len__(self) -> int:
        return len(self._asked)


def undone(reply: SpawnReply, child: Pid) -> list[ExitLink | Demonitor]:
    """Nobody waits for ``child`` any more: the signals to its node that end the link and monitor it was born with."""
    signals: list[ExitLink | Demonitor] = []
    if reply.flags & LINKED:
        signals.append(ExitLink(reply.to, child, _ABANDONED))
    if reply.flags & MONITORED:
        signals.append(Demonitor(reply.to, child, reply.ref))
    return signals
