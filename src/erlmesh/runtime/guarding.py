"""What a node has to do with loops that are held: its own, which a guardian watches, and those of its peers.

A node whose loop is held tells it to the process ``erlmesh`` of its peers (BEAMs have none, and no harm is done) ::

    {busy, Node, Milliseconds}      held for so long by now, by somebody's code
    {free, Node}                    it turns again
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.net.watchdog_thread import ThreadWritable, WatchdogThread
from erlmesh.proto.control import SendName
from erlmesh.runtime.process import Process
from erlmesh.runtime.router import Peer
from erlmesh.terms import Atom, Term

__all__ = ["OURS", "Guarding"]

OURS: Final = Atom("erlmesh")
BUSY: Final = Atom("busy")
FREE: Final = Atom("free")
LONGEST: Final = 1 << 40
"""Milliseconds that somebody can mean."""


class Guarding:
    """For the node of the process ``own``, and as long as ``peers`` has the established connections."""

    def __init__(self, own: Process, net_ticktime: float, peers: Mapping[Atom, Peer]) -> None:
        self.name = own.pid.node.name
        self.net_ticktime = net_ticktime
        self._own = own
        self._peers = peers
        self._guardian: WatchdogThread | None = None
        self._busy: dict[str, float] = {}
        self.teller: Callable[[float], bool] | None = None
        """Told, in another thread, for how many seconds our loop has been held; False if the log is to say it."""

    # Our own loop

    def begin(self) -> None:
        """From now on others hear of us, whoever holds the loop that runs now."""
        self._guardian = WatchdogThread.attach(self)

    def end(self) -> None:
        """No longer. May be called again."""
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            guardian.detach(self)

    def connections(self) -> Sequence[ThreadWritable]:
        return cast("list[Pump]", list(self._peers.values()))

    def word(self, held: float) -> SendName:
        return SendName(self._own.pid, OURS, (BUSY, self._own.pid.node, round(held * 1000)))

    def is_told(self, held: float) -> bool:
        return self.teller is not None and self.teller(held)

    def free(self) -> None:
        for peer in list(self._peers):
            self._own.send((OURS, peer), (FREE, self._own.pid.node), connect=False)

    # Theirs

    def hear(self, message: Term) -> None:
        """What came for the process ``erlmesh``; anything may have."""
        match message:
            case (Atom("busy"), Atom() as peer, int() as held) if peer in self._peers and 0 <= held < LONGEST:
                self._busy[peer.name] = _now() - held / 1000
            case (Atom("free"), Atom() as peer):
                self.forget(peer.name)

    def forget(self, peer: str) -> None:
        """``peer`` is busy no more, or gone."""
        self._busy.pop(peer, None)

    def busy(self) -> dict[str, float]:
        """The peers whose loops are held, and for how many seconds by now."""
        return {peer: _now() - since for peer, since in self._busy.items()}


def _now() -> float:
    return asyncio.get_running_loop().time()
