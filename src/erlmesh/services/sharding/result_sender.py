"""Sends the results of shards to a group of receivers, until each node of the group has acknowledged them.

The holder keeps results in the replicated state. So an heir sends again what the receivers have not acknowledged, and
they count each (key, source, number) once. One member of each node gets the results: the least pid in Erlang's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from erlmesh.core.sharding.messages import OUT
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.order import sort_key

__all__ = ["RESULT_LIMIT", "ResultSender"]

Place: TypeAlias = tuple[bytes, Term, int]
"""Key, source, and number of the message that a result belongs to."""

RESULT_LIMIT: Final = 4_096
"""Results that wait for receivers, above which messages are not acknowledged. So sources stop at their credit."""


class _Waiting:
    """Results that were sent, and the nodes that have not acknowledged them."""

    __slots__ = ("acknowledged", "nodes", "result", "shard")

    def __init__(self, shard: int, result: list[Term]) -> None:
        self.shard = shard
        self.result = result
        self.nodes: set[Atom] = set()
        self.acknowledged = False


class ResultSender:
    """The results of all shards of one name. ``done(shard, key, source, number)`` is called when all have them."""

    def __init__(
        self,
        name: bytes,
        me: Pid,
        send: Callable[[Pid, Term], None],
        done: Callable[[int, bytes, Term, int], None],
    ) -> None:
        self._name = name
        self._me = me
        self._send = send
        self._done = done
        self._receivers: dict[Atom, Pid] = {}
        self._waiting: dict[Place, _Waiting] = {}

    @property
    def is_full(self) -> bool:
        """Whether more results wait than messages may cause."""
        return len(self._waiting) >= RESULT_LIMIT

    def __len__(self) -> int:
        return len(self._waiting)

    def set_receivers(self, members: Iterable[Pid]) -> None:
        """The members of the group have changed."""
        receivers: dict[Atom, Pid] = {}
        for pid in members:
            other = receivers.get(pid.node)
            if other is None or sort_key(pid) < sort_key(other):
                receivers[pid.node] = pid
        old, self._receivers = self._receivers, receivers
        for node, pid in receivers.items():
            if old.get(node) != pid:
                for place, each in self._waiting.items():
                    each.nodes.add(node)
                    self._send_one(pid, place, each)
        for node in old:
            if node not in receivers:
                for place in [place for place, each in self._waiting.items() if node in each.nodes]:
                    self._settle(place, node)

    def send(self, shard: int, key: bytes, source: Term, number: int, result: list[Term]) -> None:
        """Send a result to all receivers. Without receivers it waits for one."""
        place = (key, source, number)
        waiting = self._waiting[place] = _Waiting(shard, result)
        waiting.nodes.update(self._receivers)
        for pid in self._receivers.values():
            self._send_one(pid, place, waiting)

    def _send_one(self, pid: Pid, place: Place, waiting: _Waiting) -> None:
        key, source, number = place
        self._send(pid, (OUT, self._name, key, source, number, waiting.result, self._me))

    def got(self, node: Atom, key: bytes, source: Term, number: int) -> None:
        """A receiver of ``node`` has a result."""
        waiting = self._waiting.get((key, source, number))
        if waiting is not None and node in waiting.nodes:
            waiting.acknowledged = True
            self._settle((key, source, number), node)

    def _settle(self, place: Place, node: Atom) -> None:
        waiting = self._waiting[place]
        waiting.nodes.discard(node)
        if not waiting.nodes and waiting.acknowledged:
            del self._waiting[place]
            self._done(waiting.shard, *place)

    def drop(self, shard: int) -> None:
        """This node holds the shard no longer: the next holder sends its results."""
        for place in [place for place, each in self._waiting.items() if each.shard == shard]:
            del self._waiting[place]
