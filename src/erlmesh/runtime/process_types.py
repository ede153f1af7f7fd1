"""The types that a process and the parts of its node share."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["MFA", "Backpressure", "Body", "Cancellable", "Destination", "RequestedBody", "StopMode", "Timer"]

Destination: TypeAlias = "Pid | Ref | Atom | str | tuple[Atom | str, Atom | str]"
"""Where a message can go: a pid, an alias, a name registered here, or ``(name, node)`` in Erlang's order."""

Body: TypeAlias = "Callable[..., Awaitable[Any]]"
"""``async def body(me, *arguments)``."""

RequestedBody: TypeAlias = "Callable[..., Awaitable[Any] | None]"
"""The body of a process that another node has started: ``async def body(me, *arguments)``, or a function that does all
or the first part of the work without waiting. It returns an awaitable for the rest, or None. With None the process does
not end: the body must have terminated it, or lets something else do so.
"""

MFA: TypeAlias = tuple[Atom, Atom, list[Term]]
"""Module, function, arguments."""


class StopMode(enum.Enum):
    """What a process does when its node stops. A process that traps exits gets the message in each case."""

    ENDS = "ends"
    """It is terminated at once with ``shutdown``."""
    FINISHES = "finishes"
    """It is a call of another node. It ends by itself, and the node waits for it."""
    DRAINS = "drains"
    """It gets ``{'EXIT', Pid, shutdown}`` as a message, replies to its callers, and ends by itself."""
    SUPERVISES = "supervises"
    """The same, and it stops its own children."""
    SERVES = "serves"
    """It belongs to a service of the node, and ends with it."""


class Cancellable(Protocol):
    """What works for a process: a task, or a call in a thread."""

    def cancel(self) -> object:
        """The process has terminated."""


class Backpressure(Protocol):
    """Where signals to a node go, as a sender needs to know it."""

    busy: bool
    """More is queued than a BEAM lets a process send without being suspended (``busy_dist_port``)."""

    async def wait_writable(self) -> None:
        """Return when it is no longer busy, or gone."""


class Timer:
    """A message to its own sender that is due later (``erlang:send_after``)."""

    __slots__ = ("_handle",)

    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        """Cancel the message, unless it is in the mailbox already."""
        self._handle.cancel()
