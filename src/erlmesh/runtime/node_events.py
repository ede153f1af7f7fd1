"""Sends nodeup and nodedown to the processes that called ``monitor_nodes``."""

from __future__ import annotations

from typing import Final

from erlmesh.runtime.node_state import NodeState
from erlmesh.terms import Atom, Pid, Term

__all__ = ["NodeEvents"]

NODEUP: Final = Atom("nodeup")
NODEDOWN: Final = Atom("nodedown")


class NodeEvents:
    """The subscribers of one node. A terminated subscriber is removed at the next event."""

    def __init__(self, state: NodeState) -> None:
        self._registry = state.registry
        self._delivery = state.delivery
        self._subscribers: dict[Pid, bool] = {}

    def subscribe(self, pid: Pid, *, reasons: bool) -> None:
        self._subscribers[pid] = reasons

    def node_up(self, name: str) -> None:
        event = (NODEUP, Atom(name))
        self._notify(event, event)

    def node_down(self, name: str, reason: str) -> None:
        self._notify((NODEDOWN, Atom(name)), (NODEDOWN, Atom(name), Atom(reason)))

    def _notify(self, event: Term, with_reason: Term) -> None:
        for pid, reasons in list(self._subscribers.items()):
            process = self._registry.local(pid)
            if process is None:
                del self._subscribers[pid]
            else:
                self._delivery.deliver(process, with_reason if reasons else event)
