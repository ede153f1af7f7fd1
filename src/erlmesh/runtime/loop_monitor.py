"""What a node has to do with loops that are held: its own, which a guardian watches, and those of its peers.

A node whose loop is held tells it to the process ``erlmesh`` of its peers (BEAMs have none, and no harm is done) ::

    {loop_blocked, Node, Milliseconds}      held for so long by now, by somebody's code
    {loop_recovered, Node}                  it turns again
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from erlmesh.core.node_names import NodeTable
from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.net.watchdog_thread import ThreadWritable, WatchdogThread
from erlmesh.proto.control import SendName
from erlmesh.runtime.node_state import Peer
from erlmesh.runtime.process import LocalProcess
from erlmesh.terms import Atom, Term

__all__ = ["ERLMESH", "LoopMonitor"]

ERLMESH: Final = Atom("erlmesh")
LOOP_BLOCKED: Final = Atom("loop_blocked")
LOOP_RECOVERED: Final = Atom("loop_recovered")
MAX_MILLISECONDS: Final = 1 << 40
"""Milliseconds that somebody can mean."""


class LoopMonitor:
    """For the node of the process ``own``, and as long as ``peers`` has the established connections."""

    def __init__(self, node_process: LocalProcess, net_ticktime: float, peers: Mapping[Atom, Peer]) -> None:
        self.name = node_process.pid.node.name
        self.net_ticktime = net_ticktime
        self._node_process = node_process
        self._peers = peers
        self._watchdog: WatchdogThread | None = None
        self._blocked_since: dict[str, float] = {}
        self.on_blocked: Callable[[float], bool] | None = None
        """Told, in another thread, for how many seconds our loop has been held; False if the log is to say it."""

    # Our own loop

    def start(self) -> None:
        """From now on others hear of us, whoever holds the loop that runs now."""
        self._watchdog = WatchdogThread.attach(self)

    def stop(self) -> None:
        """No longer. May be called again."""
        guardian, self._watchdog = self._watchdog, None
        if guardian is not None:
            guardian.detach(self)

    def connections(self) -> Sequence[ThreadWritable]:
        return cast("list[DistProtocol]", list(self._peers.values()))

    def blocked_signal(self, seconds: float) -> SendName:
        return SendName(
            self._node_process.pid, ERLMESH, (LOOP_BLOCKED, self._node_process.pid.node, round(seconds * 1000))
        )

    def notify_blocked(self, seconds: float) -> bool:
        return self.on_blocked is not None and self.on_blocked(seconds)

    def loop_recovered(self) -> None:
        for peer in list(self._peers):
            self._node_process.send((ERLMESH, peer), (LOOP_RECOVERED, self._node_process.pid.node), connect=False)

    # Theirs

    def on_message(self, message: Term) -> None:
        """What came for the process ``erlmesh``; anything may have."""
        match message:
            case (Atom("loop_blocked"), Atom() as peer, int() as held) if (
                peer in self._peers and 0 <= held < MAX_MILLISECONDS
            ):
                self._blocked_since[peer.name] = _now() - held / 1000
            case (Atom("loop_recovered"), Atom() as peer):
                self.discard_peer(peer.name)

    def discard_peer(self, peer: str) -> None:
        """``peer`` is busy no more, or gone."""
        self._blocked_since.pop(peer, None)

    def blocked_peers(self) -> NodeTable[float]:
        """The peers whose loops are held, and for how many seconds by now."""
        return NodeTable((peer, _now() - since) for peer, since in self._blocked_since.items())


def _now() -> float:
    return asyncio.get_running_loop().time()
