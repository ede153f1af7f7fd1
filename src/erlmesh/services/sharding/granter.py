"""The process that claims shards from other nodes and grants them: the group, the messages and the timers.

The decisions are in :mod:`erlmesh.core.sharding.grants`. Only candidates with a quorum have this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from erlmesh.core.sharding.grants import CLAIM, GRANT, Grants
from erlmesh.core.sharding.names import TAG, grants_group
from erlmesh.errors import NodeNotAlive, NoProcess
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.pg.protocol import GroupEvent, Joined, Tag
from erlmesh.terms import Pid, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.server import Pg
    from erlmesh.services.sharding.settings import ShardSettings

__all__ = ["CLAIM_INTERVAL", "Granter"]

LEASE: Final = 0.6
"""Tick times for which a holder counts a grant, from its claim on."""
HOLD: Final = 0.75
"""Tick times for which a granter keeps a grant, from the last claim on. It is more than LEASE, as clocks may differ."""
CLAIM_INTERVAL: Final = 0.1
"""Tick times between two claims."""

peer_log = PeerLog(event_log("erlmesh.shards"))


class Granter:
    """The process, and its part in the group. ``on_change()`` is called when :meth:`elected` may give another answer.

    ``on_end()`` is called if another process kills it.
    """

    def __init__(
        self, node: Runtime, pg: Pg, settings: ShardSettings, on_change: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        self._node = node
        self._pg = pg
        self._settings = settings
        self._on_change = on_change
        self._group = grants_group(settings.name)
        self._process = process = node.spawn_handler(self._handle, on_end=on_end)
        tick = node.net_ticktime
        self._grants = Grants(
            process.pid, settings.shards, settings.quorum, node.now(), lease=LEASE * tick, hold=HOLD * tick
        )
        self._stay_in_group = pg.leave_later(process.pid, TAG, _nothing)
        for pid in pg.get_members(self._group):
            self._grants.joined(pid, node.now())
        self._timers: dict[Pid, asyncio.TimerHandle] = {}
        """For each lost process whose node has closed the connection, the end of the wait for its return."""
        self._looking: asyncio.TimerHandle | None = None

    def join(self) -> None:
        """Begin to claim and to grant."""
        self._call_pg(self._pg.join)
        self._look()

    def close(self) -> None:
        """End. Nothing that was claimed is held any more."""
        self._stay_in_group()
        self._call_pg(self._pg.leave)
        for timer in (self._looking, *self._timers.values()):
            if timer is not None:
                timer.cancel()
        self._process.stop()

    def elected(self) -> int:
        """The shards that a quorum grants now, one bit each. It looks at the clock."""
        return self._grants.elected(self._node.now())

    def is_current(self) -> bool:
        """False if :meth:`elected` may give another answer than the last time. It looks at the clock."""
        return self._grants.is_current(self._node.now())

    def claim(self, shards: int) -> None:
        """Claim these shards, and no others. One bit each."""
        self._grants.claim(shards, self._node.now())
        self._send()

    def apply(self, event: GroupEvent) -> None:
        """The group has changed."""
        grants, now = self._grants, self._node.now()
        for pid in event.pids:
            if pid == self._process.pid:
                continue
            if isinstance(event, Joined):
                timer = self._timers.pop(pid, None)
                if timer is not None:
                    timer.cancel()
                grants.joined(pid, now)
            else:
                ended = event.reason is Tag.LEAVE or pid.node is self._node.atom
                grants.left(pid, now, ended=ended)
                if not ended and self._has_closed(pid):
                    seconds = self._settings.settle
                    self._timers[pid] = asyncio.get_running_loop().call_later(seconds, self._forget, pid)
        self._send()

    def _has_closed(self, pid: Pid) -> bool:
        """Whether the node of a lost process has closed the connection: it has ended, or has given this one up."""
        node = self._node
        return not node.is_connected(pid.node) and node.last_disconnect_reason(pid.node) == "connection_closed"

    def _forget(self, pid: Pid) -> None:
        self._timers.pop(pid, None)
        self._grants.forget(pid, self._node.now())
        self._send()
        self._on_change()

    def _look(self) -> None:
        seconds = CLAIM_INTERVAL * self._node.net_ticktime
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look)
        self._grants.look(self._node.now())
        self._send()
        self._on_change()

    def _handle(self, message: Term) -> None:
        now, peer = self._node.now(), self._process._ops.message_peer
        match message:
            case (tag, Pid() as pid, int() as number, bytes() as shards) if (
                tag is CLAIM and pid.node is peer and self._is_set(shards)
            ):
                self._grants.claimed(pid, number, int.from_bytes(shards, "little"), now)
            case (tag, Pid() as pid, int() as number, bytes() as shards, bool() as remembers) if (
                tag is GRANT and pid.node is peer and self._is_set(shards)
            ):
                self._grants.granted(pid, number, int.from_bytes(shards, "little"), remembers, now)
            case _:
                name = (peer or self._node.atom).name
                text = "shards ignored the message %s"
                peer_log.write(logging.WARNING, "message_ignored", name, text, ForeignText(message))
                return
        self._send()
        self._on_change()

    def _is_set(self, shards: bytes) -> bool:
        return len(shards) == (self._settings.shards + 7) // 8

    def _send(self) -> None:
        for pid, message in self._grants.take_messages():
            if self._process.alive:
                self._process.send(pid, message, connect=False)

    def _call_pg(self, change: Callable[[Term, Pid], object]) -> None:
        # If the scope has stopped, with the node, all of its members have left.
        with suppress(NoProcess, NodeNotAlive):
            change(self._group, self._process.pid)


def _nothing() -> None:
    """The candidate, and not this process, ends when the node stops."""
