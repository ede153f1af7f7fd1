"""The members of a large group in an array, so that a pick costs the same at any size and after any change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh.services.multiset import Multiset, listed, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from erlmesh.terms import Pid

__all__ = ["PickList"]


class PickList:
    """An array of the members in ``bag``, oldest first. ``bag`` is a large multiset that changes in place.

    The owner calls :meth:`joined` or :meth:`left` after each change of ``bag``. A membership that ends leaves its entry
    in the array, and picks skip such entries. When half of the entries are dead, :meth:`left` returns False, and the
    owner drops the array. So the time of a change and of a pick is constant on average.
    """

    __slots__ = ("_dead", "_dead_total", "_entries", "bag")

    def __init__(self, bag: Multiset[Pid]) -> None:
        self.bag = bag
        self._entries = listed(bag)
        self._entries.reverse()
        # The number of dead entries of each pid. Which of the entries of a pid are dead is not known.
        self._dead: dict[Pid, int] = {}
        self._dead_total = 0

    def __len__(self) -> int:
        return size(self.bag)

    def joined(self, pids: Sequence[Pid]) -> None:
        """Add an entry for each of ``pids``, or use a dead entry of the same pid again."""
        if not self._dead:
            self._entries.extend(reversed(pids))
            return
        for pid in reversed(pids):
            if pid in self._dead:
                self._bury(pid, -1)
            else:
                self._entries.append(pid)

    def left(self, pids: Sequence[Pid]) -> bool:
        """Note that each of ``pids`` has left once; all were members. False if the array must be built again."""
        for pid in pids:
            self._bury(pid, 1)
        return self._dead_total * 2 <= len(self._entries)

    def _bury(self, pid: Pid, change: int) -> None:
        self._dead_total += change
        count = self._dead.get(pid, 0) + change
        if count:
            self._dead[pid] = count
        else:
            del self._dead[pid]

    def random(self, random: Random) -> Pid:
        """A random member. A process that joined twice is picked twice as often. There must be a member."""
        while True:
            pid = random.choice(self._entries)
            if self._is_picked(pid, random):
                return pid

    def in_turn(self, turn: int, random: Random) -> tuple[Pid, int]:
        """The first member at the position ``turn`` or after it, and the turn to continue with. There must be one."""
        entries = self._entries
        while True:
            pid = entries[turn % len(entries)]
            turn += 1
            if self._is_picked(pid, random):
                return pid, turn

    def _is_picked(self, pid: Pid, random: Random) -> bool:
        """Whether to pick an entry of ``pid``: with the probability that it is not a dead one."""
        dead = self._dead.get(pid, 0)
        if not dead:
            return True
        alive = self.bag.get(pid, 0) if isinstance(self.bag, dict) else 0
        return alive > 0 and random.randrange(alive + dead) < alive
