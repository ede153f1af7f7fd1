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
        self._subscribers: dict[Pid, tuple[bool, bool]] = {}
        """Whether the subscriber wants the reason in ``nodedown``, and the events of hidden nodes."""

    def subscribe(self, pid: Pid, *, reasons: bool, hidden: bool = False) -> None:
        """Send events to ``pid`` from now on. A second call replaces ``reasons`` and ``hidden``."""
        self._subscribers[pid] = (reasons, hidden)

    def node_up(self, name: str, *, hidden: bool) -> None:
        """Send ``{nodeup, Name}``."""
        event = (NODEUP, Atom(name))
        self._notify(event, event, hidden=hidden)

    def node_down(self, name: str, reason: str, *, hidden: bool) -> None:
        """Send ``{nodedown, Name}``, or ``{nodedown, Name, Reason}`` to subscribers that want reasons."""
        self._notify((NODEDOWN, Atom(name)), (NODEDOWN, Atom(name), Atom(reason)), hidden=hidden)

    def _notify(self, event: Term, with_reason: Term, *, hidden: bool) -> None:
        # A copy: a handler that gets the event may subscribe a process.
        for pid, (reasons, also_hidden) in list(self._subscribers.items()):
            process = self._registry.local(pid)
            if process is None:
                del self._subscribers[pid]
            elif also_hidden or not hidden:
                self._delivery.deliver(process, with_reason if reasons else event)
