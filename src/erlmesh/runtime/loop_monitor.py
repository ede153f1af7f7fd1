"""Reports that this node's event loop is blocked, and records the reports of its peers.

A watchdog thread detects that the loop is blocked. The node then sends messages to the process ``erlmesh`` of each
peer. A BEAM has no such process and drops them. ::

    {loop_blocked, Node, Milliseconds}      code on Node has blocked its event loop for this long by now
    {loop_recovered, Node}                  the event loop of Node runs again
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from erlmesh.core.node_names import NodeTable
from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.net.watchdog import attach_watchdog
from erlmesh.net.watched_node import ThreadWritable, Watchdog
from erlmesh.proto.control import SendName
from erlmesh.runtime.node_state import Peer
from erlmesh.runtime.process import LocalProcess
from erlmesh.terms import Atom, Term

__all__ = ["ERLMESH", "LoopMonitor"]

ERLMESH: Final = Atom("erlmesh")
LOOP_BLOCKED: Final = Atom("loop_blocked")
LOOP_RECOVERED: Final = Atom("loop_recovered")
MAX_MILLISECONDS: Final = 1 << 40
"""The first number of milliseconds that is no plausible report (about 35 years)."""


class LoopMonitor:
    """Monitors the event loop of one node and of its peers.

    ``node_process`` is the sender of the messages. ``peers`` is the router's own table of established connections.
    """

    def __init__(self, node_process: LocalProcess, net_ticktime: float, peers: Mapping[Atom, Peer]) -> None:
        self.name = node_process.pid.node.name
        self.net_ticktime = net_ticktime
        self._node_process = node_process
        self._peers = peers
        self._watchdog: Watchdog | None = None
        self._blocked_since: dict[str, float] = {}
        """When the loop of each blocked peer stopped, on this node's clock."""
        self.on_blocked: Callable[[float], bool] | None = None
        """Called in the watchdog's thread with the seconds the loop has been blocked. False asks for a log entry."""
        self.on_line: Callable[[float, str, bool], object] | None = None
        """Called in a thread with the same seconds, the line that blocks the loop, and whether it holds the GIL."""

    # The loop of this node

    def start(self, *, thread_in_python: bool = False) -> None:
        """Start to watch the running event loop. Peers get a report whenever it is blocked."""
        self._watchdog = attach_watchdog(self, thread_in_python=thread_in_python)

    def stop(self) -> None:
        """Stop to watch. May be called more than once."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.detach(self)

    def peer_connected(self, peer: str) -> None:
        """The connection to ``peer`` is established: the watchdog serves it from now on."""
        connection = self._peers.get(Atom(peer))
        if self._watchdog is not None and connection is not None:
            self._watchdog.connection_ready(self, cast("DistProtocol", connection))

    def blocked_for(self) -> float:
        """Return for how many seconds the own loop has been blocked. Any thread may call this."""
        watchdog = self._watchdog
        return 0.0 if watchdog is None else watchdog.blocked_for()

    def connections(self) -> Sequence[ThreadWritable]:
        """Return the connections to report on. On a real network every :class:`Peer` is a :class:`DistProtocol`."""
        return cast("list[DistProtocol]", list(self._peers.values()))

    def blocked_signal(self, seconds: float) -> SendName:
        """Return the signal that the watchdog's thread writes to each connection."""
        return SendName(
            self._node_process.pid, ERLMESH, (LOOP_BLOCKED, self._node_process.pid.node, round(seconds * 1000))
        )

    def notify_blocked(self, seconds: float) -> bool:
        """Call the user's callback. False if the log must report the blocking code instead."""
        return self.on_blocked is not None and self.on_blocked(seconds)

    def notify_line(self, seconds: float, line: str, *, gil: bool) -> None:
        """Pass on which line blocks the loop, if somebody looks."""
        on_line = self.on_line  # read once: the event loop may set it to None
        if on_line is not None:
            on_line(seconds, line, gil)

    def loop_recovered(self) -> None:
        """Tell all peers that the loop runs again. The loop calls this, not the watchdog's thread."""
        for peer in list(self._peers):
            self._node_process.send((ERLMESH, peer), (LOOP_RECOVERED, self._node_process.pid.node), connect=False)

    # The loops of peers

    def on_message(self, message: Term) -> None:
        """Handle a message to the process ``erlmesh``. Any node can send it, so other terms are ignored."""
        match message:
            case (Atom("loop_blocked"), Atom() as peer, int() as milliseconds) if (
                peer in self._peers and 0 <= milliseconds < MAX_MILLISECONDS
            ):
                self._blocked_since[peer.name] = _now() - milliseconds / 1000
            case (Atom("loop_recovered"), Atom() as peer):
                self.discard_peer(peer.name)

    def discard_peer(self, peer: str) -> None:
        """Forget the report of ``peer``: its loop runs again, or its connection is lost."""
        self._blocked_since.pop(peer, None)

    def blocked_peers(self) -> NodeTable[float]:
        """Return the seconds for which the event loop of each blocked peer has been blocked by now."""
        return NodeTable((peer, _now() - since) for peer, since in self._blocked_since.items())


def _now() -> float:
    return asyncio.get_running_loop().time()
