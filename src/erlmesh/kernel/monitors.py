"""Who watches whom, from both ends. The table returns what must be said and says nothing.

*Watching*: a local process (or a call that waits for its answer) watches a pid or a registered name, anywhere.
*Watched*: a local process is watched, from here or from another node; the one who asked may have named it by pid or by
registered name, and is told in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from erlmesh.proto.control import Demonitor, Down, Monitor
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Monitors", "Watch"]

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Watch:
    """``owner`` watches ``target`` (a pid, or a name registered on ``node``)."""

    owner: Pid
    target: Pid | Atom
    node: Atom

    def as_seen(self) -> Pid | tuple[Atom, Atom]:
        """The process as a DOWN message names it: the pid, or ``{Name, Node}``."""
        return self.target if isinstance(self.target, Pid) else (self.target, self.node)


class Monitors:
    """The monitor table of one node."""

    def __init__(self, node: Atom) -> None:
        self._node = node
        self._watching: dict[Ref, Watch] = {}
        self._watching_of: dict[Pid, dict[Ref, None]] = {}
        self._watching_on: dict[Atom, dict[Ref, None]] = {}
        self._watched: dict[Pid, dict[Ref, tuple[Pid, Pid | Atom]]] = {}
        self._watchers_on: dict[Atom, dict[Ref, Pid]] = {}
        self._watched_by: dict[Ref, Pid] = {}

    # Watching

    def watch(self, owner: Pid, target: Pid | Atom, node: Atom, ref: Ref) -> Monitor:
        """``owner`` starts to watch; the answer is the signal to deliver to ``node``."""
        self._watching[ref] = Watch(owner, target, node)
        self._watching_of.setdefault(owner, {})[ref] = None
        if node is not self._node:
            self._watching_on.setdefault(node, {})[ref] = None
        return Monitor(owner, target, ref)

    def unwatch(self, owner: Pid, ref: Ref) -> tuple[Watch, Demonitor] | None:
        """``owner`` stops watching. None if that watch is over already, or is somebody else's."""
        watch = self._watching.get(ref)
        if watch is None or watch.owner != owner:
            return None
        self._end(ref)
        return watch, Demonitor(owner, watch.target, ref)

    def down(self, ref: Ref, node: Atom) -> Watch | None:
        """A DOWN came in from ``node``: the watch it ends, or None if that is over already, or is none of theirs."""
        watch = self._watching.get(ref)
        return self._end(ref) if watch is not None and watch.node is node else None

    def _end(self, ref: Ref) -> Watch | None:
        watch = self._watching.pop(ref, None)
        if watch is not None:
            _discard(self._watching_of, watch.owner, ref)
            _discard(self._watching_on, watch.node, ref)
        return watch

    # Watched

    def watched(self, process: Pid, monitor: Monitor) -> None:
        """The living local ``process`` is watched from now on. A reference in use already is ignored."""
        if monitor.ref in self._watched_by:
            return
        self._watched.setdefault(process, {})[monitor.ref] = (monitor.sender, monitor.target)
        self._watched_by[monitor.ref] = process
        if monitor.sender.node is not self._node:
            self._watchers_on.setdefault(monitor.sender.node, {})[monitor.ref] = process

    def unwatched(self, ref: Ref, sender: Pid) -> None:
        """The watcher ``sender`` has lost interest; unknown references, and those of others, are ignored."""
        process = self._watched_by.get(ref)
        if process is None or self._watched[process][ref][0] != sender:
            return
        del self._watched_by[ref]
        _discard(self._watched, process, ref)
        _discard(self._watchers_on, sender.node, ref)

    # Ends

    def died(self, process: Pid, reason: Term) -> tuple[list[Down], list[tuple[Watch, Demonitor]]]:
        """A local process is dead: what its watchers are told, and what its own watches are taken back with."""
        told = []
        for ref, (watcher, named) in self._watched.pop(process, {}).items():
            del self._watched_by[ref]
            _discard(self._watchers_on, watcher.node, ref)
            told.append(Down(named, watcher, ref, reason))
        taken_back = []
        for ref in list(self._watching_of.get(process, ())):
            ended = self.unwatch(process, ref)
            if ended is not None:
                taken_back.append(ended)
        return told, taken_back

    def lost(self, node: Atom, reason: Term) -> list[Down]:
        """The connection to ``node`` is gone: what local watchers hear of their watches there. Each DOWN must be given
        to :meth:`down`, as if the node had sent it.
        """
        for ref, process in self._watchers_on.pop(node, {}).items():
            del self._watched_by[ref]
            _discard(self._watched, process, ref)
        return [
            Down(watch.target, watch.owner, ref, reason)
            for ref in self._watching_on.get(node, ())
            for watch in (self._watching[ref],)
        ]

    def watchers_of(self, process: Pid) -> list[Pid]:
        """Who watches the local ``process``."""
        return [watcher for watcher, _ in self._watched.get(process, {}).values()]

    def __len__(self) -> int:
        return len(self._watching) + len(self._watched_by)


def _discard(index: dict[_K, dict[Ref, _V]], key: _K, ref: Ref) -> None:
    refs = index.get(key)
    if refs is not None:
        refs.pop(ref, None)
        if not refs:
            del index[key]
