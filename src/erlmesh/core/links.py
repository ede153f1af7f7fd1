"""Who is linked to whom, with the unlink handshake (erl_dist_protocol, "Link Protocol").

Per pair of a local and any other pid a link is *none*, *active*, or *unlinking* with an id that the other side still
has to acknowledge. While unlinking, exit signals over the link are ignored: one may have been under way by then.
A local pair keeps two entries, one from each end. The table returns the signals to send and sends nothing.
"""

from __future__ import annotations

from typing import Final

from erlmesh.proto.control import ExitLink, Link, Unlink, UnlinkAck
from erlmesh.terms import Atom, Pid, Term

__all__ = ["Links"]

ACTIVE: Final = 0  # an unlink id is 1 or more


class Links:
    """The link table of one node, whose pids have ``node`` and ``creation`` in them."""

    def __init__(self, node: Atom) -> None:
        self._node = node
        self._by_pid: dict[Pid, dict[Pid, int]] = {}
        self._by_node: dict[Atom, dict[tuple[Pid, Pid], None]] = {}
        self._last_unlink_id = 0

    def links_of(self, local: Pid) -> list[Pid]:
        """The pids ``local`` is linked to."""
        return [other for other, state in self._by_pid.get(local, {}).items() if state == ACTIVE]

    def link(self, local: Pid, other: Pid) -> list[Link]:
        """``local`` calls link/1. Empty when the link was active already."""
        return [Link(local, other)] if self._activate(local, other) else []

    def link_received(self, link: Link) -> None:
        """A LINK came in for a living local process (the caller answers for a dead one)."""
        if self._by_pid.get(link.to, {}).get(link.sender) is None:  # while unlinking, it is a link that our UNLINK ends
            self._activate(link.to, link.sender)

    def unlink(self, local: Pid, other: Pid) -> list[Unlink]:
        """``local`` calls unlink/1. From now on no exit signal of this link reaches it."""
        links = self._by_pid.get(local)
        if links is None or links.get(other) != ACTIVE:
            return []
        self._last_unlink_id += 1
        links[other] = self._last_unlink_id
        return [Unlink(self._last_unlink_id, local, other)]

    def unlink_received(self, unlink: Unlink) -> list[UnlinkAck]:
        """An UNLINK came in. The answer must go out before any other signal to that process."""
        if self._by_pid.get(unlink.to, {}).get(unlink.sender) == ACTIVE:
            self._remove(unlink.to, unlink.sender)
        return [] if unlink.id is None else [UnlinkAck(unlink.id, unlink.to, unlink.sender)]

    def unlink_ack_received(self, ack: UnlinkAck) -> None:
        """The other side has dropped the link; an ack with another id belongs to an earlier unlink."""
        if self._by_pid.get(ack.to, {}).get(ack.sender) == ack.id:
            self._remove(ack.to, ack.sender)

    def unlink_undeliverable(self, unlink: Unlink) -> None:
        """Nobody will acknowledge this one: there is no connection that the link could be on."""
        if self._by_pid.get(unlink.sender, {}).get(unlink.to) == unlink.id:
            self._remove(unlink.sender, unlink.to)

    def exit_received(self, local: Pid, other: Pid) -> bool:
        """An exit signal came over the link: True if the link was active, and it is gone now."""
        if self._by_pid.get(local, {}).get(other) != ACTIVE:
            return False
        self._remove(local, other)
        return True

    def process_exited(self, local: Pid, reason: Term) -> list[ExitLink]:
        """``local`` is dead: what its active links must be told."""
        links = self._by_pid.pop(local, None)
        if links is None:
            return []
        for other in links:
            self._unindex(local, other)
        return [ExitLink(local, other, reason) for other, state in links.items() if state == ACTIVE]

    def connection_lost(self, node: Atom, reason: Term) -> list[ExitLink]:
        """The connection to ``node`` is gone: what local processes hear of their links there. Each EXIT must be given
        to :meth:`broken`, as if the node had sent it: hearing one, a process may unlink from the next.
        """
        signals = []
        for local, other in list(self._by_node.get(node, ())):
            if self._by_pid[local][other] == ACTIVE:
                signals.append(ExitLink(other, local, reason))
            else:
                self._remove(local, other)
        return signals

    def __len__(self) -> int:
        return sum(map(len, self._by_pid.values()))

    def _activate(self, local: Pid, other: Pid) -> bool:
        links = self._by_pid.setdefault(local, {})
        if links.get(other) == ACTIVE:
            return False
        links[other] = ACTIVE
        if other.node is not self._node:
            self._by_node.setdefault(other.node, {})[local, other] = None
        return True

    def _remove(self, local: Pid, other: Pid) -> None:
        links = self._by_pid[local]
        del links[other]
        if not links:
            del self._by_pid[local]
        self._unindex(local, other)

    def _unindex(self, local: Pid, other: Pid) -> None:
        across = self._by_node.get(other.node)
        if across is not None:
            across.pop((local, other), None)
            if not across:
                del self._by_node[other.node]
