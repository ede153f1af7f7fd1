"""Checks a view that another node has sent.

A node may say anything of itself. What is kept of it is bounded and printable. A wrong type becomes "not known", so a
later version of a view, with more in it, is read as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from erlmesh.core.cluster_view.shapes import (
    MAX_GROUPS,
    MAX_LINKS,
    MAX_MEMBERS,
    MAX_MEMBERS_IN_ALL,
    MAX_NAMES,
    GroupView,
    Left,
    LinkView,
    Member,
    NamedPid,
    NodeView,
    ShardView,
)
from erlmesh.core.cluster_view.shards import MAX_SHARDS
from erlmesh.core.cluster_view.texts import name_text
from erlmesh.terms.foreign_text import foreign_text

__all__ = ["checked_view", "node_text"]

_LINK_STATES: Final = frozenset({"up", "down", "connecting", "reconnecting"})
_MAX_LEFT: Final = 500
_MAX_NUMBER: Final = 1 << 53
"""Larger numbers are not exact in the programs that read JSON."""


def checked_view(raw: object) -> NodeView:
    """Return the view that ``raw``, decoded JSON, contains. Raises ``ValueError`` if it is none at all."""
    if not isinstance(raw, dict) or not isinstance(raw.get("links"), dict):
        raise ValueError("a view is an object with links")  # noqa: TRY004 - the node has sent wrong data
    view: NodeView = {
        "kind": "beam" if raw.get("kind") == "beam" else "python",
        "otp": _text(raw.get("otp")),
        "version": _text(raw.get("version")),
        "build": _text(raw.get("build")),
        "hidden": raw.get("hidden") is True,
        "creation": _count(raw.get("creation")),
        "uptime": _number(raw.get("uptime")),
        "processes": _count(raw.get("processes")),
        "tick_time": _number(raw.get("tick_time")),
        "links": {node_text(peer): _link(link) for peer, link in islice(_objects(raw["links"]), MAX_LINKS)},
        "partial": _text(raw.get("partial")),
    }
    if isinstance(raw.get("groups"), list):
        view["groups"] = _groups(raw["groups"])
        view["more_groups"] = _count(raw.get("more_groups")) or 0
    if isinstance(raw.get("names"), dict):
        view["names"] = {name_text(name): _named(pid) for name, pid in islice(_objects(raw["names"]), MAX_NAMES)}
    if isinstance(raw.get("shards"), dict):
        view["shards"] = {name_text(name): _shards(each) for name, each in islice(_objects(raw["shards"]), 64)}
    if isinstance(raw.get("left"), list):
        view["left"] = [_left(each) for each in raw["left"][:_MAX_LEFT] if isinstance(each, dict)]
    return view


def node_text(name: object) -> str:
    """Return the name of a node as printable text. Nothing is lost of a usual name."""
    return name_text(name)


def _objects(raw: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((key, value) for key, value in raw.items() if isinstance(value, dict))


def _link(raw: dict[str, Any]) -> LinkView:
    state = raw.get("state")
    return {
        "state": state if isinstance(state, str) and state in _LINK_STATES else "down",
        "silent": _number(raw.get("silent")),
        "bytes_in": _count(raw.get("bytes_in")),
        "bytes_out": _count(raw.get("bytes_out")),
        "queued": _count(raw.get("queued")),
        "suspended": raw.get("suspended") is True,
        "hidden": raw.get("hidden") is True,
        "reason": _text(raw.get("reason")),
        "attempt": _count(raw.get("attempt")),
        "next": _number(raw.get("next")),
    }


def _groups(raw: list[Any]) -> list[GroupView]:
    groups: list[GroupView] = []
    left = MAX_MEMBERS_IN_ALL
    for each in raw[:MAX_GROUPS]:
        if not isinstance(each, dict):
            continue
        found = each.get("members")
        told = [one for one in (found if isinstance(found, list) else []) if isinstance(one, dict)]
        members = [_member(one) for one in told[: min(MAX_MEMBERS, left)]]
        left -= len(members)
        groups.append(
            {
                "scope": name_text(each.get("scope")),
                "group": name_text(each.get("group")),
                "members": members,
                "more": (_count(each.get("more")) or 0) + len(told) - len(members),
            }
        )
    return groups


def _member(raw: dict[str, Any]) -> Member:
    return {
        "pid": foreign_text(raw.get("pid")),
        "node": node_text(raw.get("node")),
        "name": _text(raw.get("name")),
        "count": _count(raw.get("count")) or 1,
    }


def _named(raw: dict[str, Any]) -> NamedPid:
    return {"pid": foreign_text(raw.get("pid")), "node": node_text(raw.get("node"))}


def _shards(raw: dict[str, Any]) -> ShardView:
    holders = raw.get("holders")
    return {
        "count": min(_count(raw.get("count")) or 0, MAX_SHARDS),
        "holders": {
            node_text(node): [shard for shard in shards[:MAX_SHARDS] if _count(shard) is not None]
            for node, shards in islice((holders if isinstance(holders, dict) else {}).items(), 512)
            if isinstance(shards, list)
        },
        "taking": [],
    }


def _left(raw: dict[str, Any]) -> Left:
    return {
        "scope": name_text(raw.get("scope")),
        "group": name_text(raw.get("group")),
        "pid": foreign_text(raw.get("pid")),
        "reason": foreign_text(raw.get("reason")),
    }


def _text(value: object) -> str | None:
    return foreign_text(value) if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_NUMBER else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return round(float(value), 3) if 0 <= value < _MAX_NUMBER and math.isfinite(value) else None
