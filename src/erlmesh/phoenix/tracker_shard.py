"""One shard of a Tracker on this node: carries out what :class:`ShardBook` decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.collector import without_collector
from erlmesh.core.exit_reasons import NOPROC
from erlmesh.core.phoenix_pubsub.names import topic_bytes
from erlmesh.core.phoenix_tracker.entries import Entry
from erlmesh.core.phoenix_tracker.messages import shard_topic
from erlmesh.core.phoenix_tracker.presence_state import Changes
from erlmesh.core.phoenix_tracker.shard_book import (
    Broadcast,
    Changed,
    Direct,
    Effect,
    Ignored,
    ShardBook,
    TrackerSettings,
)
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.phoenix.adapter import Adapter, NodeChange

__all__ = ["TrackerShard"]

log = event_log("erlmesh.phoenix")
_peer_log = PeerLog(log)

PROBE_INTERVAL: Final = 0.5
"""Seconds between two probes of a node that has not answered."""


class TrackerShard:
    """The shard ``name``. ``on_changes(changes)`` is called when the lists have changed.

    It has a handler process, which gets the DOWN of tracked processes. A full replica registers its name.
    """

    def __init__(
        self,
        adapter: Adapter,
        name: Atom,
        settings: TrackerSettings,
        *,
        speaks: bool,
        on_changes: Callable[[Changes], None],
    ) -> None:
        self.name = name
        self._adapter = adapter
        self._node = adapter.node.internals
        self._settings = settings
        self._on_changes = on_changes
        self._loop = asyncio.get_running_loop()
        self._topic = topic_bytes(shard_topic(name))
        self._monitors: dict[Pid, Ref] = {}
        self._lookups: dict[Ref, Atom] = {}
        self._absent: dict[Atom, None] = {}
        """The nodes that have no process of this name."""
        self._probed_at: dict[Atom, float] = {}
        self._refused = 0
        self._registered = name if speaks else None
        self._spawn()
        # Greater in each life: a restart takes longer than a microsecond.
        vsn = time.time_ns() // 1000
        self.book = ShardBook(
            (adapter.own, vsn), settings, self._loop.time(), speaks=speaks, make_id=self._node.make_ref
        )
        self._ends = [
            adapter.subscribe(self._topic, self._receive),
            adapter.watch_nodes(self._node_changed),
        ]
        first = self._node.random.uniform(0, settings.broadcast_period / 4)
        self._timer = self._loop.call_later(first, self._beat)
        for node in adapter.nodes():
            self._probe(node)

    def _spawn(self) -> None:
        self._process = self._node.spawn_handler(self._handle_message, name=self._registered, restart=self._restart)

    def _restart(self) -> None:
        """Start the process again. Any process can send an exit signal, and that must not cost the entries."""
        if not self._ends or self._node.is_stopping:
            return
        log.warning("tracker_restarted", "the process of the tracker shard %s terminated and starts again", self.name)
        self._spawn()
        self._lookups.clear()
        self._monitors = {pid: self._process.monitor(pid) for pid in self.book.state.tracked_pids()}

    @property
    def pid(self) -> Pid:
        """The process of the shard."""
        return self._process.pid

    def end(self) -> None:
        """Say farewell, so that the other nodes forget this replica at once, and end. A second call has no effect."""
        if not self._ends:
            return
        self._timer.cancel()
        for end in self._ends:
            end()
        self._ends = []
        self._apply(self.book.end())
        self._process._on_end = None
        self._process.stop()

    # Changes of this node

    def track(self, entry: Entry) -> None:
        """Add an entry. Its process is monitored: the entry leaves with it."""
        if entry.pid not in self._monitors and self._process.alive:
            self._monitors[entry.pid] = self._process.monitor(entry.pid)
        self._apply(self.book.track(entry))

    def update(self, entry: Entry) -> None:
        """Replace an entry."""
        self._apply(self.book.update(entry))

    def untrack(self, pid: Pid, topic: bytes, key: Term) -> None:
        """Remove an entry, if there is one."""
        self._apply(self.book.untrack(pid, topic, key))
        self._demonitor(pid)

    def untrack_pid(self, pid: Pid) -> None:
        """Remove all entries of a process."""
        self._apply(self.book.untrack_pid(pid))
        self._demonitor(pid)

    def _demonitor(self, pid: Pid) -> None:
        if pid in self._monitors and self._process.alive and not self.book.state.is_tracked(pid):
            self._process.demonitor(self._monitors.pop(pid), flush=True)

    # Events

    def _handle_message(self, message: Term) -> None:
        match message:
            case (Atom("DOWN"), Ref() as ref, _, _, reason) if ref in self._lookups:
                node = self._lookups.pop(ref)
                if reason is NOPROC:
                    self._absent[node] = None
            case (Atom("DOWN"), Ref() as ref, _, Pid() as pid, _) if self._monitors.get(pid) == ref:
                del self._monitors[pid]
                self._apply(self.book.untrack_pid(pid))
            case _:
                self._process.unhandled(message)

    def _receive(self, _topic: bytes, message: Term) -> None:
        # A full state has all entries of a shard.
        self._apply(without_collector(self.book.receive, message, self._loop.time(), self._node.is_message_from))

    # The other nodes

    def _node_changed(self, change: NodeChange) -> None:
        # The loss of a node is not looked at: its heartbeats decide.
        if change.joined:
            self._probe(change.node)
        else:
            self.book.forget_node(change.node)
            self._absent.pop(change.node, None)

    def _probe(self, node: Atom) -> None:
        """Ask the replica of a node. A monitor tells if there is none, also on nodes that allow no calls."""
        self._probed_at[node] = self._loop.time()
        self._absent.pop(node, None)
        if node not in self._lookups.values() and self._process.alive:
            self._lookups[self._process.monitor((self.name, node))] = node
        self._apply(self.book.probe(node))

    def waits_for(self, node: Atom) -> bool:
        """True if a node may have a replica that has not answered yet. It is asked again from time to time."""
        if self.book.replicas.ref(node) is not None or node in self._absent:
            return False
        if self._loop.time() - self._probed_at.get(node, 0.0) > PROBE_INTERVAL:
            self._probe(node)
        return True

    def is_absent(self, node: Atom) -> bool:
        """True if a node has no such shard."""
        return node in self._absent and self.book.replicas.ref(node) is None

    def _beat(self) -> None:
        if not self._ends:
            return
        self._timer = self._loop.call_later(self._settings.broadcast_period, self._beat)
        self._apply(self.book.beat(self._loop.time()))
        if (refused := self.book.state.refused) > self._refused:
            self._refused = refused
            _peer_log.write(
                logging.ERROR,
                "tracker_full",
                "",
                "the shard %s is full: %s entries of other nodes are missing",
                self.name,
                refused,
                count=refused,
            )

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Changed(changes):
                    self._on_changes(changes)
                case Broadcast(message):
                    if self._adapter.alive:
                        self._adapter.broadcast(self._topic, message)
                case Direct(node, message):
                    if self._adapter.alive:
                        self._adapter.direct_broadcast(node, self._topic, message)
                case Ignored(reason):
                    _peer_log.write(
                        logging.WARNING,
                        "tracker_message_ignored",
                        "",
                        "the shard %s ignored a %s",
                        self.name,
                        ForeignText(reason),
                        reason=reason,
                    )
