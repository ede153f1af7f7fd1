"""Addressing a group instead of a process: all members at once, or one of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.core.exit_reasons import KILL
from erlmesh.etf import as_received
from erlmesh.records import record
from erlmesh.services.gen_server import call_each
from erlmesh.services.pg.pick_list import PickList
from erlmesh.terms import Pid, Term, exact_key

if TYPE_CHECKING:
    from random import Random

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Membership", "MultiCallResult", "Picker", "multi_call_members"]

Candidates: TypeAlias = "Sequence[Pid] | PickList"
"""The members of a group, newest first, or as :class:`PickList` if the group is large."""

_MAX_ROTATIONS: Final = 10_000
"""Groups whose round-robin position is kept. A group beyond that starts again."""


@record(frozen=True)
class Membership:
    """The members of one group at one moment.

    ``pids`` are the members on all nodes, newest first, repeated as often as they joined. ``local`` are those on this
    node.
    """

    group: Term
    pids: tuple[Pid, ...]
    local: tuple[Pid, ...]


@record(frozen=True)
class MultiCallResult:
    """The replies of a group by pid, and the reasons of the members that did not reply by pid."""

    replies: Mapping[Pid, Term]
    missing: Mapping[Pid, Term]


class Picker:
    """Picks members, and keeps the round-robin position of the most recently used groups."""

    def __init__(self, random: Random) -> None:
        self._random = random
        # exact_key of a group → the position of the next pick. Least recently used groups come first.
        self._rotations: dict[Hashable, int] = {}

    def pick(self, group: Term, strategy: str, members: Candidates, local: Candidates) -> Pid | None:
        """Return a member, or None if there is none. Raises ``ValueError`` for an unknown strategy."""
        match strategy:
            case "local":
                return self._random_one(local or members)
            case "random":
                return self._random_one(members)
            case "round_robin":
                return self._round_robin(exact_key(group), members)
        raise ValueError(f"the strategy is local, random or round_robin, not {strategy!r}")

    def _random_one(self, members: Candidates) -> Pid | None:
        if not members:
            return None
        return members.random(self._random) if isinstance(members, PickList) else self._random.choice(members)

    def _round_robin(self, key: Hashable, members: Candidates) -> Pid | None:
        turn = self._rotations.pop(key, 0)
        if not members:
            return None
        if isinstance(members, PickList):
            picked, turn = members.in_turn(turn, self._random)
        else:
            # The newest member is the first of the list. Counting from the end keeps the order when a member joins.
            picked, turn = members[-1 - turn % len(members)], turn + 1
        self._rotations[key] = turn  # Inserted last: the least recently used group is removed first.
        if len(self._rotations) > _MAX_ROTATIONS:
            del self._rotations[next(iter(self._rotations))]
        return picked


async def multi_call_members(
    node: Runtime, pids: Iterable[Pid], request: Term, timeout: float | None
) -> MultiCallResult:
    """Call each of ``pids`` in a separate process, so that late replies are dropped with it.

    Members of this node get the request, and give their replies, in the form of those of other nodes. See
    :meth:`erlmesh.services.pg.server.Pg.multi_call`.
    """
    request = as_received(request)

    async def run(me: LocalProcess) -> None:
        _, caller, call = await me.receive()
        replies, missing = await call_each(me, pids, call, timeout)
        own = me.pid.node
        me.reply(
            caller, ({pid: as_received(reply) if pid.node is own else reply for pid, reply in replies.items()}, missing)
        )

    process = node.spawn_service(run)
    try:
        replies, missing = await node.call(process, request, timeout=None)
    except BaseException:  # The caller was cancelled: no one needs the replies.
        node.exit(process, KILL)
        raise
    return MultiCallResult(replies, missing)
