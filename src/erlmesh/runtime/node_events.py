"""Sends ``nodeup`` and ``nodedown`` messages, as ``net_kernel:monitor_nodes/2`` does."""

from __future__ import annotations

from typing import Final

from erlmesh.runtime.node_state import NodeState
from erlmesh.terms import Atom, Pid, Term

__all__ = ["NodeEvents"]

NODEUP: Final = Atom("nodeup")
NODEDOWN: Final = Atom("nodedown")


class NodeEvents:
    """The subscribers of one node. A terminated subscriber is removed when the next event occurs."""

    def __init__(self, state: NodeState) -> None:
        self._registry = state.registry
        self._delivery = state.delivery
        self._subscribers: dict[Pid, bool] = {}
        """True if the subscriber wants the reason in ``nodedown``."""

    def subscribe(self, pid: Pid, *, reasons: bool) -> None:
        """Send events to ``pid`` from now on. A second call replaces ``reasons``."""
        self._subscribers[pid] = reasons

    def node_up(self, name: str) -> None:
        """Send ``{nodeup, Name}``."""
        event = (NODEUP, Atom(name))
        self._notify(event, event)

    def node_down(self, name: str, reason: str) -> None:
        """Send ``{nodedown, Name}``, or ``{nodedown, Name, Reason}`` to subscribers that want reasons."""
        self._notify((NODEDOWN, Atom(name)), (NODEDOWN, Atom(name), Atom(reason)))

    def _notify(self, event: Term, with_reason: Term) -> None:
        # A copy: a handler that gets the event may subscribe a process.
        for pid, reasons in list(self._subscribers.items()):
            process = self._registry.local(pid)
            if process is None:
                del self._subscribers[pid]
            else:
                self._delivery.deliver(process, with_reason if reasons else event)
