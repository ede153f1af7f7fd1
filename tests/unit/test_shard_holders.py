"""The holder that an outbox sends to, while two processes hold a shard."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from erlmesh.core.sharding.names import holders_group
from erlmesh.services.pg.protocol import Joined, Left
from erlmesh.services.sharding.holders import ShardHolders
from erlmesh.terms import Atom, Pid

NAME, SHARD = b"cep", 7
ONE, TWO, BEST = (Pid(Atom(f"{name}@host"), 1, 0, 1) for name in ("one", "two", "best"))


class Groups:
    """The members of the group of one shard. The last one in ``members`` is the best one."""

    def __init__(self) -> None:
        self.members: list[Pid] = []
        self.moved: list[int] = []
        self._tell: Callable[[Any], None] = lambda _: None
        shards: Any = SimpleNamespace(_settings=SimpleNamespace(name=NAME), holder_of=lambda _: self.best())
        self.holders = ShardHolders(self, shards)  # type: ignore[arg-type]
        self.holders.watch(self.moved.append)

    def best(self) -> Pid | None:
        return self.members[-1] if self.members else None

    def subscribe(self, tell: Callable[[Any], None]) -> Callable[[], None]:
        self._tell = tell
        return lambda: None

    def join(self, pid: Pid) -> None:
        self.members.append(pid)
        self._tell(Joined((pid,), holders_group(NAME, SHARD)))

    def leave(self, pid: Pid) -> None:
        self.members.remove(pid)
        self._tell(Left((pid,), Atom("leave"), holders_group(NAME, SHARD)))

    @property
    def holder(self) -> Pid | None:
        return self.holders.holder_of(b"key", SHARD)


def test_messages_stay_with_their_holder_until_it_leaves() -> None:
    groups = Groups()
    groups.join(ONE)
    assert groups.holder == ONE
    groups.moved.clear()

    groups.join(BEST)  # The other side of a partition: both hold the shard until the states are merged.
    assert groups.holder == ONE
    assert groups.moved == []

    groups.leave(ONE)
    assert groups.holder == BEST
    assert groups.moved == [SHARD]


def test_another_holder_that_leaves_changes_nothing() -> None:
    groups = Groups()
    groups.join(ONE)
    assert groups.holder == ONE
    groups.join(TWO)
    groups.moved.clear()

    groups.leave(TWO)

    assert groups.holder == ONE
    assert groups.moved == []


def test_the_first_holder_gets_what_waits_and_a_holder_that_comes_back_is_another_one() -> None:
    groups = Groups()
    assert groups.holder is None
    groups.join(ONE)
    assert groups.moved == [SHARD]
    assert groups.holder == ONE

    groups.leave(ONE)
    assert groups.holder is None
    groups.join(ONE)
    assert groups.holder == ONE
    assert groups.moved == [SHARD] * 3
