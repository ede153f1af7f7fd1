"""The calls of ``global:sync/0`` that wait until nodes are in sync. No I/O.

A process makes one call at a time, so a second call of it replaces the first. Callers are monitored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from erlmesh.services.global_.protocol import Atoms, Demonitor, Effect, Monitor, Reply
from erlmesh.terms import Atom, Pid, Term

__all__ = ["MAX_CALLS", "SyncCalls"]

MAX_CALLS: Final = 10_000
"""Calls that wait. Above it the oldest is answered."""


class SyncCalls:
    """The calls that wait, oldest first. Each method returns what is to be done."""

    def __init__(self) -> None:
        self._calls: dict[Pid, tuple[dict[Atom, None], tuple[Pid, Term]]] = {}
        """The nodes that each caller waits for, and its ``From``."""

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, caller: tuple[Pid, Term], nodes: Iterable[Atom]) -> list[Effect]:
        """Reply to ``caller`` when all ``nodes`` are in sync or lost, at once if there are none."""
        effects = self._remove(caller[0])
        missing = dict.fromkeys(nodes)
        if not missing:
            return [*effects, Reply(caller, Atoms.OK)]
        self._calls[caller[0]] = (missing, caller)
        effects = [Monitor(caller[0]), *effects]  # in this order, it stays monitored in between
        if len(self._calls) > MAX_CALLS:
            effects += self._answer(next(iter(self._calls)))
        return effects

    def node_done(self, node: Atom) -> list[Effect]:
        """``node`` is in sync or lost: reply to the callers that wait for no other node."""
        effects: list[Effect] = []
        for pid, (missing, _) in list(self._calls.items()):
            if missing.pop(node, node) is None and not missing:
                effects += self._answer(pid)
        return effects

    def caller_down(self, pid: Pid) -> None:
        """``pid`` has terminated, or its node is lost. Its monitor has ended."""
        self._calls.pop(pid, None)

    def _answer(self, pid: Pid) -> list[Effect]:
        return [Reply(self._calls[pid][1], Atoms.OK), *self._remove(pid)]

    def _remove(self, pid: Pid) -> list[Effect]:
        return [] if self._calls.pop(pid, None) is None else [Demonitor(pid)]
