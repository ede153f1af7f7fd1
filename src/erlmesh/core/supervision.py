"""The book of a supervisor: its children, and what follows when one of them terminates (supervisor.erl).

::

    restart       exit reason normal, shutdown, {shutdown, _}    any other reason
    ─────────     ───────────────────────────────────────────    ─────────────────────────
    permanent     restart                                        restart
    transient     stays in the book without a process            restart
    temporary     leaves the book                                leaves the book

    strategy      a restart of one child
    ───────────   ──────────────────────────────────────────────────────────────────
    one_for_one   starts it
    rest_for_one  stops those that were started after it; starts it and them
    one_for_all   stops all others; starts all

More than ``max_restarts`` restarts within ``max_seconds`` end the supervisor with ``shutdown``. A child that is dynamic
(of a DynamicSupervisor) leaves the book in each case in which it is not restarted.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from erlmesh.core.exit_reasons import NORMAL, SHUTDOWN
from erlmesh.records import record
from erlmesh.terms import Pid, Term
from erlmesh.terms.maps import exact_key

__all__ = [
    "Child",
    "ChildBook",
    "Nothing",
    "Restart",
    "RestartType",
    "Shutdown",
    "Strategy",
    "TooManyRestarts",
    "is_regular",
]

RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
Shutdown: TypeAlias = "float | Literal['brutal_kill'] | None"
"""Seconds that a child may take to end after ``shutdown``; ``brutal_kill`` gives it none, None any time."""

STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")


@record(eq=False)
class Child:
    """One entry of the book. ``spec`` belongs to the caller."""

    id: Term
    restart: RestartType
    spec: object
    pid: Pid | None = None
    restarting: bool = False
    """True after a restart that failed, until the next attempt."""


@record(frozen=True)
class Nothing:
    """No process has to be started or stopped."""


@record(frozen=True)
class Restart:
    """Stop the processes of ``stop``, in this order, then start ``start``, in this order."""

    stop: tuple[Child, ...]
    start: tuple[Child, ...]


@record(frozen=True)
class TooManyRestarts:
    """The supervisor has to end with ``shutdown``."""


class ChildBook:
    """The children in the order of their start, and the times of the last restarts.

    Raises ValueError for an unknown strategy or a limit below zero.
    """

    def __init__(self, strategy: Strategy, max_restarts: int, max_seconds: int, *, dynamic: bool = False) -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"a strategy is one of {', '.join(STRATEGIES)}, not {strategy!r}")
        if max_restarts < 0 or max_seconds < 1:
            raise ValueError("max_restarts is at least 0, and max_seconds at least 1")
        self.strategy = strategy
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self.dynamic = dynamic
        self._children: dict[object, Child] = {}
        self._by_pid: dict[Pid, Child] = {}
        self._restarts: list[int] = []
        """The seconds of the last restarts, newest first."""

    def children(self) -> list[Child]:
        """All children in the order of their start."""
        return list(self._children.values())

    def __len__(self) -> int:
        return len(self._children)

    def find(self, child_id: Term) -> Child | None:
        """The child with this id (of a dynamic supervisor: with this pid)."""
        if self.dynamic:
            return self._by_pid.get(child_id) if type(child_id) is Pid else None
        return self._children.get(exact_key(child_id))

    def with_pid(self, pid: Pid) -> Child | None:
        """The child that runs as ``pid``."""
        return self._by_pid.get(pid)

    def add(self, child: Child) -> None:
        """Enter a child after the others. The caller has looked that its id is free."""
        self._children[child if self.dynamic else exact_key(child.id)] = child

    def started(self, child: Child, pid: Pid) -> None:
        """The child runs as ``pid``."""
        child.pid, child.restarting = pid, False
        self._by_pid[pid] = child

    def ignored(self, child: Child) -> None:
        """The start function returned ``ignore``. The child stays without a process, unless it is temporary or dynamic.

        So ``restart_child``, and a restart of its neighbours, try it again (supervisor.erl, ``{ok, undefined}``).
        """
        child.restarting = False
        self.stopped(child)

    def stopped(self, child: Child) -> None:
        """The process of the child was stopped on purpose. It keeps its place, unless it is temporary or dynamic."""
        self.without_process(child)
        if self.dynamic or child.restart == "temporary":
            self.remove(child)

    def remove(self, child: Child) -> None:
        """Take the child out of the book."""
        self.without_process(child)
        self._children.pop(child if self.dynamic else exact_key(child.id), None)

    def exited(self, child: Child, reason: Term, now: float) -> Nothing | Restart | TooManyRestarts:
        """The process of the child has terminated by itself."""
        self.without_process(child)
        if child.restart == "permanent" or (child.restart == "transient" and not is_regular(reason)):
            return self.restart(child, now)
        self.stopped(child)
        return Nothing()

    def restart(self, child: Child, now: float) -> Nothing | Restart | TooManyRestarts:
        """Restart a child that has terminated, or whose last restart has failed."""
        if self._too_many(now):
            self.stopped(child)
            return TooManyRestarts()
        if self.strategy == "one_for_one":
            return Restart((), (child,))
        affected = self.children()
        if self.strategy == "rest_for_one":
            affected = affected[affected.index(child) :]
        stop = tuple(each for each in reversed(affected) if each.pid is not None)
        # As in OTP: a temporary child is stopped and not started again.
        start = tuple(each for each in affected if each.restart != "temporary" or each is child)
        return Restart(stop, start)

    def _too_many(self, now: float) -> bool:
        # OTP counts whole seconds, and a restart on the edge of the period counts.
        second = int(now // 1)
        self._restarts = [second] + [each for each in self._restarts if each >= second - self.max_seconds]
        return len(self._restarts) > self.max_restarts

    def without_process(self, child: Child) -> None:
        """The process of the child has ended. It keeps its place, and is started again."""
        if child.pid is not None:
            self._by_pid.pop(child.pid, None)
            child.pid = None


def is_regular(reason: Term) -> bool:
    """True for ``normal``, ``shutdown`` and ``{shutdown, _}``."""
    return (
        reason is NORMAL or reason is SHUTDOWN or (type(reason) is tuple and len(reason) == 2 and reason[0] is SHUTDOWN)
    )
