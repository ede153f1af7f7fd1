"""A group in place of a process: all of its members at once, or one of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from erlmesh.services.gen_server import call_each
from erlmesh.terms import Atom, Pid, Term, exact_key

if TYPE_CHECKING:
    from random import Random

    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Membership", "MultiCallResult", "Picker", "multi_call_members"]

_KILL: Final = Atom("kill")
_MAX_ROTATIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Membership:
    """``pids`` in ``group`` on all nodes, newest first, as often as they joined; ``local`` those of the own node."""

    group: Term
    pids: tuple[Pid, ...]
    local: tuple[Pid, ...]


@dataclass(frozen=True, slots=True)
class MultiCallResult:
    """What a group replied: ``replies`` by pid, ``missing`` the reasons of the others by pid."""

    replies: Mapping[Pid, Term]
    missing: Mapping[Pid, Term]


class Picker:
    """Chooses members, and remembers whose turn it was in the groups asked last."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rotations: dict[Hashable, int] = {}

    def pick(self, group: Term, strategy: str, members: Sequence[Pid], local: Sequence[Pid]) -> Pid | None:
        match strategy:
            case "local":
                return self._random.choice(local or members) if members else None
            case "random":
                return self._random.choice(members) if members else None
            case "round_robin":
                return self._round_robin(exact_key(group), members)
        raise ValueError(f"pick by local, random or round_robin, not by {strategy!r}")

    def _round_robin(self, key: Hashable, members: Sequence[Pid]) -> Pid | None:
        turn = self._rotations.pop(key, 0)
        if not members:
            return None
        self._rotations[key] = turn + 1  # last in order: the groups not asked for longest are forgotten first
        if len(self._rotations) > _MAX_ROTATIONS:
            del self._rotations[next(iter(self._rotations))]
        # The newest come first in the list: counting from its end, a newcomer changes nobody else's turn.
        return members[-1 - turn % len(members)]


async def multi_call_members(
    node: Runtime, pids: Iterable[Pid], request: Term, timeout: float | None
) -> MultiCallResult:
    """In a process of its own, so that late replies find nobody."""

    async def asking(me: Process) -> None:
        _, caller, what = await me.receive()
        me.reply(caller, await call_each(me, pids, what, timeout))

    asker = node.spawn(asking)
    try:
        replies, missing = await node.call(asker, request, timeout=None)
    except BaseException:  # nobody waits any more
        node.exit(asker, _KILL)
        raise
    return MultiCallResult(replies, missing)
