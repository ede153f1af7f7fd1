"""Reports, snapshots and events of the map, as its server sends them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

_ids = itertools.count(1)


def link(state: str = "up", **fields: Any) -> dict[str, Any]:
    """A connection, as one node sees it."""
    empty = {"silent": 0.4, "in": 0, "out": 0, "queued": 0, "slow": False, "suspended": False, "reason": None}
    return {"state": state, **empty, "attempt": None, "next": None, "hidden": False, **fields}


def report(node: str, links: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The report of a Python node, made now. ``age`` makes it older."""
    made = time.time() - fields.pop("age", 0)
    common = {"node": node, "time": made, "source": "push", "alive": True, "kind": "python", "otp": None}
    figures = {"version": "0.1.0", "build": "native", "hidden": False, "creation": 7, "uptime": 60, "processes": 40}
    rest = {"tick_time": 60, "busy": None, "links": links or {}, "groups": [], "names": {}, "shards": {}}
    return {**common, **figures, **rest, "partial": None, **fields}


def beam(node: str, links: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The report of a BEAM, which the observer asked for."""
    return report(node, links, **{"kind": "beam", "otp": "25", "build": None, "source": "poll", **fields})


def group(name: str, *members: tuple[str, str], scope: str = "pg", **fields: Any) -> dict[str, Any]:
    """A process group with one membership of each ``(pid, node)``."""
    entries = [{"pid": pid, "node": node, "name": None, "count": 1} for pid, node in members]
    return {"scope": scope, "group": name, "members": entries, "more": 0, **fields}


def event(kind: str, text: str, *, age: float = 0, **fields: Any) -> dict[str, Any]:
    """An event that happened ``age`` seconds ago."""
    common = {"id": next(_ids), "time": time.time() - age, "observer": "map@h", "kind": kind, "subject": "map@h"}
    return {**common, "peer": None, "group": None, "reason": None, "text": text, **fields}


def mesh(names: Iterable[str], **fields: Any) -> list[dict[str, Any]]:
    """Reports of nodes that are all connected."""
    nodes = list(names)
    return [report(name, {peer: link() for peer in nodes if peer != name}, **fields) for name in nodes]


def snapshot(reports: Iterable[dict[str, Any]], events: Iterable[dict[str, Any]] = (), **fields: Any) -> dict[str, Any]:
    """What the server sends first."""
    common = {"schema": 1, "observer": "map@h", "now": time.time(), "control": False, "recorded": False}
    return {**common, "reports": {entry["node"]: entry for entry in reports}, "events": list(events), **fields}
