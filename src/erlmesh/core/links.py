"""Links between processes, with the unlink handshake (erl_dist_protocol, "Link Protocol"). No I/O.

The states of the link between a local process and another process, seen from the local one::

             link, link_received                      unlink: UNLINK with a new id is sent
    (none) ───────────────────────▶ active ──────────────────────────────────────────────▶ unlinking
       ▲                              │  ▲                                                  │   │
       ├──────────────────────────────┘  └────────────────────── link: LINK is sent ────────┘   │
       │  exit_received, unlink_received                                                        │
       └────────────────────────────────────────────────────────────────────────────────────────┘
          unlink_ack_received with the id of the last unlink

While a link is unlinking, an exit signal over it is ignored: the peer may have sent it before it got our UNLINK.
A link between two local processes has two entries, one for each end. The methods return the signals to send.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from erlmesh.proto.control import ExitLink, Link, Unlink, UnlinkAck
from erlmesh.terms import Atom, Pid, Term

__all__ = ["Links"]

ACTIVE: Final = 0
"""The state of an active link. Any other number is the id of the UNLINK that is not acknowledged: 1 or more."""


class Links:
    """The link table of the node ``node``."""

    def __init__(self, node: Atom) -> None:
        self._node = node
        self._by_pid: dict[Pid, dict[Pid, int]] = {}
        """The state of each link: local pid, then the other pid."""
        self._by_node: dict[Atom, dict[tuple[Pid, Pid], None]] = {}
        """Links to other nodes as (local pid, other pid), for :meth:`connection_lost`."""
        self._last_unlink_id = 0

    def links_of(self, local: Pid) -> list[Pid]:
        """Return the pids that ``local`` is linked to."""
        return [other for other, state in self._by_pid.get(local, {}).items() if state == ACTIVE]

    def link(self, local: Pid, other: Pid) -> list[Link]:
        """``local`` calls ``link/1``. Return the signals to send: none if the link was active already."""
        return [Link(local, other)] if self._activate(local, other) else []

    def link_received(self, link: Link) -> None:
        """A LINK signal arrived for a local process that is alive. (The caller answers for one that is not.)

        While our UNLINK is not acknowledged it is ignored: the peer sent it before our UNLINK, which ends that link.
        """
        if self._by_pid.get(link.to, {}).get(link.sender) is None:
            self._activate(link.to, link.sender)

    def unlink(self, local: Pid, other: Pid) -> list[Unlink]:
        """``local`` calls ``unlink/1``. From now on no exit signal of this link reaches it."""
        links = self._by_pid.get(local)
        if links is None or links.get(other) != ACTIVE:
            return []
        self._last_unlink_id += 1
        links[other] = self._last_unlink_id
        return [Unlink(self._last_unlink_id, local, other)]

    def unlink_received(self, unlink: Unlink) -> list[UnlinkAck]:
        """An UNLINK signal arrived. The signals returned must be sent before any other signal to that process.

        Its id is None if the peer does not have ``DFLAG_UNLINK_ID``. Such a peer expects no acknowledgement.
        """
        if self._by_pid.get(unlink.to, {}).get(unlink.sender) == ACTIVE:
            self._remove(unlink.to, unlink.sender)
        return [] if unlink.id is None else [UnlinkAck(unlink.id, unlink.to, unlink.sender)]

    def unlink_ack_received(self, ack: UnlinkAck) -> None:
        """The peer has removed the link. An acknowledgement with another id belongs to an earlier unlink."""
        if self._by_pid.get(ack.to, {}).get(ack.sender) == ack.id:
            self._remove(ack.to, ack.sender)

    def unlink_undeliverable(self, unlink: Unlink) -> None:
        """``unlink`` could not be sent, so no acknowledgement will come: without a connection there is no link."""
        if self._by_pid.get(unlink.sender, {}).get(unlink.to) == unlink.id:
            self._remove(unlink.sender, unlink.to)

    def exit_received(self, local: Pid, other: Pid) -> bool:
        """An exit signal arrived over the link, which ends it. True if the link was active.

        If it was not, the process has unlinked in the meantime and must not get the signal.
        """
        if self._by_pid.get(local, {}).get(other) != ACTIVE:
            return False
        self._remove(local, other)
        return True

    def process_exited(self, local: Pid, reason: Term) -> list[ExitLink]:
        """``local`` has terminated. Return the exit signals to send over its active links."""
        links = self._by_pid.pop(local, None)
        if links is None:
            return []
        for other in links:
            self._unindex(local, other)
        return [ExitLink(local, other, reason) for other, state in links.items() if state == ACTIVE]

    def connection_lost(self, node: Atom, reason: Term) -> Iterator[ExitLink]:
        """The connection to ``node`` is lost. Return the exit signals for the local ends of the links to it.

        Pass each signal to :meth:`exit_received`, as if the node had sent it. A process that gets one of them may
        unlink from the sender of the next. The signals are created one by one: there may be many. Links that are made
        after the call are not among them.
        """
        return self._exits(list(self._by_node.get(node, ())), reason)

    def _exits(self, ends: list[tuple[Pid, Pid]], reason: Term) -> Iterator[ExitLink]:
        for local, other in ends:
            state = self._by_pid.get(local, {}).get(other)
            if state == ACTIVE:
                yield ExitLink(other, local, reason)
            elif state is not None:
                self._remove(local, other)

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
