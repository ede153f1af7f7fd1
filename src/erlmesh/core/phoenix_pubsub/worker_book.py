"""The workers of a PubSub on the other nodes, and which of them gets a message.

One broadcast is one message to each node, to a worker of a group that this node is in. So pools of different sizes
cannot lose a message. What one sender sends to a node goes to one worker, so its order is kept::

    sender ─▶ its lane, 0 … 63 ─▶ the worker that the node has for the lane

A lane keeps its worker until this one is gone. A new worker of the node serves lanes that are not used yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from erlmesh.core.phoenix_pubsub.names import MAX_POOL_SIZE
from erlmesh.records import field, record
from erlmesh.terms import Atom, Pid

__all__ = ["LANES", "NodeChange", "WorkerBook"]

LANES: Final = 64
"""Senders of different lanes may use different workers of a node."""
MAX_WORKERS: Final = 2 * MAX_POOL_SIZE
"""Of one node: those of the largest pool, before and after a restart. More of them are ignored."""


@record(frozen=True)
class NodeChange:
    """A node has its first worker now (``joined``), or has lost its last one."""

    node: Atom
    joined: bool


@record
class _Node:
    workers: dict[Pid, None] = field(default_factory=dict)
    """In the order in which they joined."""
    lanes: dict[int, Pid] = field(default_factory=dict)


class WorkerBook:
    """The workers by node. ``own`` is the node of this member: it is left out."""

    def __init__(self, own: Atom) -> None:
        self._own = own
        self._nodes: dict[Atom, _Node] = {}
        self._counts: dict[tuple[Atom, Pid], int] = {}
        """How often a worker is in a group."""
        self._groups: dict[Pid, dict[Atom, None]] = {}
        """The groups of each worker. A worker of an Elixir node is in one, a member that is like this one in many."""

    def __contains__(self, node: Atom) -> bool:
        return node in self._nodes

    def nodes(self) -> list[Atom]:
        """The other nodes with a worker, in the order in which they appeared."""
        return list(self._nodes)

    def groups_of(self, node: Atom) -> list[Atom]:
        """The groups in which that node has a worker."""
        found = self._nodes.get(node)
        return [] if found is None else list(dict.fromkeys(g for pid in found.workers for g in self._groups[pid]))

    def workers_of(self, node: Atom, group: Atom) -> set[Pid]:
        """The workers of that node in the group."""
        found = self._nodes.get(node)
        return set() if found is None else {pid for pid in found.workers if group in self._groups[pid]}

    def joined(self, group: Atom, pids: Iterable[Pid]) -> list[NodeChange]:
        """Add the workers that have joined a group, each as often as it is listed."""
        changes = []
        for pid in pids:
            if pid.node is self._own:
                continue
            count = self._counts.get((group, pid), 0)
            node = self._nodes.get(pid.node)
            if node is not None and pid not in node.workers and len(node.workers) >= MAX_WORKERS:
                continue
            self._counts[group, pid] = count + 1
            if count:
                continue
            self._groups.setdefault(pid, {})[group] = None
            if node is None:
                node = self._nodes[pid.node] = _Node()
                changes.append(NodeChange(pid.node, joined=True))
            node.workers[pid] = None
        return changes

    def left(self, group: Atom, pids: Iterable[Pid]) -> list[NodeChange]:
        """Remove workers that have left a group. Pids that are not in it are ignored: pg may list them, too."""
        changes = []
        for pid in pids:
            count = self._counts.get((group, pid), 0)
            if count > 1:
                self._counts[group, pid] = count - 1
            elif count == 1:
                del self._counts[group, pid], self._groups[pid][group]
                if not self._groups[pid]:
                    changes += self._remove(pid)
        return changes

    def _remove(self, pid: Pid) -> list[NodeChange]:
        del self._groups[pid]
        node = self._nodes[pid.node]
        del node.workers[pid]
        for lane in [lane for lane, worker in node.lanes.items() if worker == pid]:
            del node.lanes[lane]
        if node.workers:
            return []
        del self._nodes[pid.node]
        return [NodeChange(pid.node, joined=False)]

    def recipient(self, node: Atom, sender: int) -> Pid | None:
        """Return the worker of ``node`` for a message of ``sender``, any number; None if the node has no worker."""
        found = self._nodes.get(node)
        return None if found is None else _worker_of_lane(found, _lane(sender))

    def recipients(self, sender: int) -> list[Pid]:
        """Return one worker of each other node for a broadcast of ``sender``."""
        lane = _lane(sender)
        return [_worker_of_lane(found, lane) for found in self._nodes.values()]


def _lane(sender: int) -> int:
    # Processes that start one after the other may all have even numbers. So the bits are mixed.
    return (sender * 0x9E3779B1 & 0xFFFFFFFF) * LANES >> 32


def _worker_of_lane(node: _Node, lane: int) -> Pid:
    worker = node.lanes.get(lane)
    if worker is None:
        workers = list(node.workers)
        worker = node.lanes[lane] = workers[lane % len(workers)]
    return worker
