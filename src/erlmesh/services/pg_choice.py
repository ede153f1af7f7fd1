"""A group in place of a process: all of its members at once, or one of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from erlmesh.services.gen_server import ask
from erlmesh.terms import Atom, Pid, Term, exact_key

if TYPE_CHECKING:
    from random import Random

    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Answers", "Membership", "Picker", "ask_all"]

_KILL: Final = Atom("kill")
_TURNS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Membership:
    """``pids`` in ``group`` on all nodes, newest first, as often as they joined; ``local`` those of the own node."""

    group: Term
    pids: tuple[Pid, ...]
    local: tuple[Pid, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a group replied: ``replies`` by pid, ``missing`` the reasons of the others by pid."""

    replies: Mapping[Pid, Term]
    missing: Mapping[Pid, Term]


class Picker:
    """Chooses members, and remembers whose turn it was in the groups asked last."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._turns: dict[Hashable, int] = {}

    def pick(self, group: Term, strategy: str, members: Sequence[Pid], local: Sequence[Pid]) -> Pid | None:
        match strategy:
            case "local":
                return self._random.choice(local or members) if members else None
            case "random":
                return self._random.choice(members) if members else None
            case "round_robin":
                return self._next(exact_key(group), members)
        raise ValueError(f"pick by local, random or round_robin, not by {strategy!r}")

    def _next(self, key: Hashable, members: Sequence[Pid]) -> Pid | None:
        turn = self._turns.pop(key, 0)
        if not members:
            return None
        self._turns[key] = turn + 1  # last in order: the groups not asked for longest are forgotten first
        if len(self._turns) > _TURNS_KEPT:
            del self._turns[next(iter(self._turns))]
        # The newest come first in the list: counting from its end, a newcomer changes nobody else's turn.
        return members[-1 - turn % len(members)]


async def ask_all(node: Runtime, pids: Iterable[Pid], request: Term, timeout: float | None) -> Answers:
    """In a process of its own, so that late replies find nobody."""

    async def asking(me: Process) -> None:
        _, caller, what = await me.receive()
        me.reply(caller, await ask(me, pids, what, timeout))

    asker = node.spawn(asking)
    try:
        replies, missing = await node.call(asker, request, timeout=None)
    except BaseException:  # nobody waits any more
        node.exit(asker, _KILL)
        raise
    return Answers(replies, missing)
