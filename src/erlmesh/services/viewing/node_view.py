"""The view of this node: its links, and the groups and global names that it knows. It reads tables only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from erlmesh import native
from erlmesh.core.cluster_view.shapes import (
    MAX_GROUPS,
    MAX_LINKS,
    MAX_MEMBERS,
    MAX_MEMBERS_IN_ALL,
    MAX_NAMES,
    GroupView,
    LinkView,
    Member,
    NamedPid,
    NodeView,
)
from erlmesh.core.cluster_view.shards import ShardTable
from erlmesh.core.cluster_view.texts import name_text, pid_text, plain_text, term_name
from erlmesh.runtime.link_states import LinkState, link_states
from erlmesh.terms import Atom, Pid, Term
from erlmesh.version import __version__

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.global_.names import GlobalNames
    from erlmesh.services.pg.server import Pg

__all__ = ["NodeViewer", "group_views", "named_pids"]

MAX_REPEATS: Final = 1000
"""Memberships of a group that are looked at. A process may have joined often."""


class NodeViewer:
    """Makes views of the node ``runtime``. ``scopes`` are all its scopes of ``pg``; more may be added."""

    def __init__(self, runtime: Runtime, scopes: Mapping[Atom, Pg], global_: GlobalNames) -> None:
        self.runtime = runtime
        self.scopes = scopes
        self.global_ = global_

    def view(self, down: Mapping[str, str]) -> NodeView:
        """Return the view without groups and names. ``down`` has the reasons of links that are lost for good."""
        runtime = self.runtime
        links = {name: _lost(reason) for name, reason in islice(down.items(), MAX_LINKS)}
        states = link_states(runtime._instance, runtime.now())
        links.update((name_text(name), _link(state)) for name, state in islice(states.items(), MAX_LINKS))
        return {
            "kind": "python",
            "otp": None,
            "version": __version__,
            "build": "pure" if native.module is None else "native",
            "hidden": runtime.hidden,
            "creation": runtime.creation,
            "uptime": round(runtime.now() - runtime.started_at, 1),
            "processes": runtime.process_count(),
            "tick_time": runtime.net_ticktime,
            "links": links,
            "partial": None,
        }

    def add_groups(self, view: NodeView) -> None:
        """Add the groups of all scopes, and the shards that some of them stand for."""
        names = {process.pid: name for name, process in self.runtime.state.registry.names.items()}
        groups: list[GroupView] = []
        shards, more = ShardTable(), 0
        for scope in list(self.scopes.values()):
            if scope.alive:
                pairs = [(group, scope._server.state.members(group)) for group in scope.which_groups()]
                listed, left_out = group_views(scope.scope, pairs, shards, names, MAX_GROUPS - len(groups))
                groups += listed
                more += left_out
        view["groups"], view["more_groups"], view["shards"] = groups, more, shards.views()

    def add_names(self, view: NodeView) -> None:
        """Add the global names."""
        entries = self.global_._server.names.entries()
        view["names"] = named_pids((name, pid) for name, pid, _ in entries)


def group_views(
    scope: Atom,
    pairs: Iterable[tuple[Term, Iterable[Pid]]],
    shards: ShardTable,
    names: Mapping[Pid, Atom],
    limit: int = MAX_GROUPS,
) -> tuple[list[GroupView], int]:
    """Return the first ``limit`` groups of ``pairs``, and how many there are beyond. Groups of shards go to ``shards``.

    ``names`` are the registered names of processes.
    """
    groups: list[GroupView] = []
    more, room = 0, MAX_MEMBERS_IN_ALL
    for group, pids in pairs:
        if shards.add(group, islice(pids, MAX_MEMBERS)):
            continue
        if len(groups) >= limit:
            more += 1
            continue
        size = len(pids) if isinstance(pids, (list, tuple)) else 0
        counts = Counter(islice(pids, MAX_REPEATS))
        members = [_member(pid, count, names) for pid, count in islice(counts.items(), min(MAX_MEMBERS, room))]
        room -= len(members)
        listed = sum(each["count"] for each in members)
        shown: GroupView = {
            "scope": name_text(scope.name), "group": term_name(group),
            "members": members, "more": max(0, size - listed),
        }  # fmt: skip
        groups.append(shown)
    groups.sort(key=lambda each: (each["scope"], each["group"]))
    return groups, more


def _member(pid: Pid, count: int, names: Mapping[Pid, Atom]) -> Member:
    name = names.get(pid)
    return {
        "pid": pid_text(pid),
        "node": name_text(pid.node.name),
        "name": None if name is None else plain_text(name.name),
        "count": count,
    }


def named_pids(entries: Iterable[tuple[Term, Term]]) -> dict[str, NamedPid]:
    """Return the first global names of ``entries``, in order of their texts."""
    found: dict[str, NamedPid] = {
        term_name(name): {"pid": pid_text(pid), "node": name_text(pid.node.name)}
        for name, pid in islice(entries, MAX_NAMES)
        if isinstance(pid, Pid)
    }
    return dict(sorted(found.items()))


def _link(state: LinkState) -> LinkView:
    return {
        "state": state.state,
        "silent": None if state.silent is None else round(state.silent, 1),
        "bytes_in": state.bytes_in,
        "bytes_out": state.bytes_out,
        "queued": state.queued,
        "suspended": state.suspended,
        "hidden": state.hidden,
        "reason": None if state.reason is None else plain_text(state.reason),
        "attempt": state.attempt,
        "next": None if state.next is None else round(state.next, 1),
    }


def _lost(reason: str) -> LinkView:
    return {
        "state": "down", "silent": None, "bytes_in": None, "bytes_out": None, "queued": None, "suspended": False,
        "hidden": False, "reason": reason, "attempt": None, "next": None,
    }  # fmt: skip
