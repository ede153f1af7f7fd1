"""Carries out for one scope of a hidden node what :mod:`erlmesh.services.pg.hidden_peers` decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from erlmesh.services.pg.hidden_peers import HiddenPeers
from erlmesh.services.pg.protocol import Tag
from erlmesh.terms import Atom, Pid

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess, Timer
    from erlmesh.runtime.runtime import Runtime

__all__ = ["HiddenExchange"]


class HiddenExchange:
    """Sends discovers from ``process``, the server of a scope. It lives as long as this process.

    ``known()`` returns the nodes whose server is known. The process calls :meth:`timer_fired` when it gets the message
    ``discover`` from itself.
    """

    def __init__(
        self,
        node: Runtime,
        process: LocalProcess,
        known: Callable[[], Iterable[Atom]],
        discover: Callable[[Atom], None],
    ) -> None:
        self._node = node
        self._process = process
        self._known = known
        self._discover = discover
        self._peers = HiddenPeers(node.random)
        self._timer: Timer | None = None
        node.monitor_nodes(process.pid, hidden=True)

    def start(self) -> None:
        """The scope or its server has just started. To a hidden node every other node is a hidden one."""
        for name in self._node.nodes(hidden=True):
            self._discover(Atom(name))
            self.node_up(Atom(name))

    def node_up(self, node: Atom) -> None:
        """``node`` is connected, and has got its first discover."""
        self._peers.connected(node, self._node.now())
        self._set_timer()

    def node_down(self, node: Atom) -> None:
        """The connection with ``node`` is lost. The monitor of its server reports the loss of its members."""
        self._peers.disconnected(node)

    def server_lost(self, server: Pid) -> None:
        """The server of another node has terminated."""
        self._peers.server_lost(server.node, self._node.now())
        self._set_timer()

    def timer_fired(self) -> None:
        """Send a discover to the nodes whose server is still unknown."""
        self._timer = None
        for node in self._peers.due(set(self._known()), self._node.now()):
            self._discover(node)
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self._peers.next_deadline()
        if self._timer is None and deadline < math.inf:
            self._timer = self._process.send_after(max(deadline - self._node.now(), 0.0), Tag.DISCOVER)
