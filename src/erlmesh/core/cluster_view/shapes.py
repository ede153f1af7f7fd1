"""The shapes of what is told of a cluster. All are plain dictionaries, because they leave as JSON.

A *view* is what one node says of itself, or what was asked of it. A *report* is what an observer makes of it: it has
the observer's times, bytes per second in place of counters, and the links that are gone. All texts are printable and
short.
"""

from __future__ import annotations

from typing import Final, NotRequired, TypedDict

__all__ = [
    "MAX_GROUPS", "MAX_LINKS", "MAX_MEMBERS", "MAX_MEMBERS_IN_ALL", "MAX_NAMES", "MAX_NODES", "Busy", "Event",
    "GroupView", "Left", "LinkReport", "LinkView", "Member", "NamedPid", "NodeView", "Report", "ShardView",
]  # fmt: skip

MAX_NODES: Final = 512
"""Nodes that an observer knows."""
MAX_LINKS: Final = 1024
"""Links of one node."""
MAX_GROUPS: Final = 500
"""Groups that one node lists. It tells the number of the others."""
MAX_MEMBERS: Final = 200
"""Members that are listed of one group."""
MAX_MEMBERS_IN_ALL: Final = 2000
"""Members that one node lists, of all groups."""
MAX_NAMES: Final = 500
"""Global names that one node lists."""


Busy = TypedDict("Busy", {"for": float, "since": float, "line": str, "gil": bool})
"""Code holds the event loop of a node: for how long when it was told, since when, the line, and whether it also holds
the GIL.
"""


class LinkView(TypedDict):
    """A connection as the node at one end sees it. ``None`` is: not known, or it does not apply."""

    state: str
    """``up``, ``down``, ``connecting`` (an attempt is under way) or ``reconnecting`` (it is lost and dialled again)."""
    silent: float | None
    """Seconds since anything came, when the view was made."""
    bytes_in: int | None
    bytes_out: int | None
    queued: int | None
    """Bytes that wait for the peer."""
    suspended: bool
    """The peer does not read, so it is not read from."""
    hidden: bool
    reason: str | None
    """Why it is not up."""
    attempt: int | None
    """The attempts to reconnect so far."""
    next: float | None
    """Seconds until the next one, when the view was made."""


class Member(TypedDict):
    """A process in a group, or one that has a name."""

    pid: str
    node: str
    name: str | None
    """The registered name. Only its own node knows it."""
    count: int
    """How often it has joined."""


class GroupView(TypedDict):
    """One group of one scope of ``pg``."""

    scope: str
    group: str
    members: list[Member]
    more: int
    """Members that are not listed."""


class NamedPid(TypedDict):
    pid: str
    node: str


class ShardView(TypedDict):
    """The shards of one name, from the membership of their groups alone."""

    count: int
    """The highest shard that somebody holds, plus one."""
    holders: dict[str, list[int]]
    taking: list[int]


class Left(TypedDict):
    """A process of the node that has left a group since the view before."""

    scope: str
    group: str
    pid: str
    reason: str
    """``left``, or the exit reason of the process."""


class NodeView(TypedDict):
    """What one node says. ``groups``, ``names`` and ``shards`` are absent if they are as in its last view."""

    kind: str
    """``python`` or ``beam``."""
    otp: str | None
    version: str | None
    build: str | None
    hidden: bool
    creation: int | None
    uptime: float | None
    processes: int | None
    tick_time: float | None
    links: dict[str, LinkView]
    partial: str | None
    """What could not be asked, in words."""
    groups: NotRequired[list[GroupView]]
    more_groups: NotRequired[int]
    names: NotRequired[dict[str, NamedPid]]
    shards: NotRequired[dict[str, ShardView]]
    left: NotRequired[list[Left]]


LinkReport = TypedDict(
    "LinkReport",
    {
        "state": str,
        "silent": float | None,
        "in": float | None,
        "out": float | None,
        "queued": int | None,
        "slow": bool,
        "suspended": bool,
        "hidden": bool,
        "reason": str | None,
        "attempt": int | None,
        "next": float | None,
    },
)
"""A :class:`LinkView` with bytes per second in place of the counters. ``slow`` tells that the peer reads slowly."""


class Report(TypedDict):
    """All that is known of one node, as its observer passes it on."""

    node: str
    time: float
    """When its view arrived: seconds since 1970, on the observer's clock."""
    source: str
    """``push`` (it tells its views), ``poll`` (it is asked), or ``none`` (known from the links of others only)."""
    alive: bool
    kind: str
    otp: str | None
    version: str | None
    build: str | None
    hidden: bool
    creation: int | None
    uptime: float | None
    processes: int | None
    tick_time: float | None
    busy: Busy | None
    links: dict[str, LinkReport]
    groups: list[GroupView]
    more_groups: int
    names: dict[str, NamedPid]
    shards: dict[str, ShardView]
    partial: str | None


class Event(TypedDict):
    """A change of the view of one node. ``text`` is a sentence that needs no other field."""

    id: int
    time: float
    observer: str
    kind: str
    subject: str
    peer: str | None
    group: str | None
    reason: str | None
    text: str
