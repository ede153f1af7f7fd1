"""Invariants that must hold after each action of a scenario, on each node that is not paused.

Most of them hold at any time. Some may be violated for a limited time. A silent peer stays up until the tick time is
over. ``pg2`` and ``global`` learn of processes from third nodes, and then connect to the nodes of these processes to
monitor them. Such a deviation has a grace time. It is a violation if each check during that time finds it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias

from erlmesh.proto.handshake_driver import SETUP_TIMEOUT
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom, Pid, Term, exact_key
from simulation.introspection import connected_since, duplicate_connections, held_locks
from simulation.model import ClusterModel, NodeRun

__all__ = ["check_invariants"]

CONNECT_TIMEOUT: Final = 2 * SETUP_TIMEOUT + 6.0
"""Seconds after which a connection attempt has ended, also if it had to wait for the simultaneous one."""
SILENCE_TICKTIMES: Final = 1.25
"""Number of tick times after which a silent peer is down."""
GRACE_SECONDS: Final = 2.0

Grace: TypeAlias = dict[tuple[object, ...], float]
"""Deviations and their grace times in seconds."""


def check_invariants(model: ClusterModel) -> None:
    """Check all invariants. Raises InvariantViolation."""
    grace: Grace = {}
    for node_run in model.unpaused():
        node_run.events_checker.check()
        for watcher in node_run.group_models:
            watcher.check()
        for name, scope in node_run.scopes.items():
            _check_members(model, node_run, name, scope)
            _check_own_members(model, node_run, name, scope)
        _check_connections(model, node_run, grace)
        _check_locks(model, node_run, grace)
        _check_pg2(model, node_run, grace)
        _check_names(model, node_run, grace)
    _expire_grace(model, grace)
    model.raise_violations()


def _expire_grace(model: ClusterModel, grace: Grace) -> None:
    now = model.cluster.now()
    model.grace = {key: model.grace.get(key, now) for key in grace}
    for key, since in model.grace.items():
        if now - since > grace[key]:
            model.record_violation(f"for {now - since:.1f} s: {' '.join(map(str, key))}")


def _check_members(model: ClusterModel, node_run: NodeRun, name: str, scope: Pg) -> None:
    node = node_run.node
    for group in scope.which_groups():
        members = Counter(scope.get_members(group))
        local = Counter(scope.get_local_members(group))
        if local != Counter({pid: count for pid, count in members.items() if pid.node is node.internals.atom}):
            model.record_violation(f"{node.name} {name} {group!r}: local members differ from members")
        for pid, count in members.items():
            if node.internals.creation_of(pid.node) != pid.creation:
                model.record_violation(f"{node.name} {name} {group!r}: {pid!r} belongs to a node that is down")
            if count > model.max_memberships[name, exact_key(group), pid]:
                model.record_violation(f"{node.name} {name} {group!r}: {pid!r} is a member {count} times")


def _check_own_members(model: ClusterModel, node_run: NodeRun, name: str, scope: Pg) -> None:
    node = node_run.node
    groups = {exact_key(group): group for group in scope.which_groups()}
    for (scope_name, key), wanted in node_run.memberships.items():
        if scope_name == name:
            want = Counter({pid: count for pid, count in wanted.items() if count and node.internals.is_alive(pid)})
            have = Counter(scope.get_local_members(groups[key])) if key in groups else Counter()
            if want != have:
                model.record_violation(f"{node.name} {name} {key!r}: {have} instead of {want}")


def _check_connections(model: ClusterModel, node_run: NodeRun, grace: Grace) -> None:
    node = node_run.node
    for name in duplicate_connections(node):
        model.record_violation(f"{node.name} has two connections with {name}")
    for name in node.nodes():
        creation = node.internals.creation_of(name) or 0
        if creation < node_run.peer_creations.get(name, 0):
            model.record_violation(
                f"{node.name} is connected with creation {creation} of {name}, after {node_run.peer_creations[name]}"
            )
        node_run.peer_creations[name] = creation
        if not _can_receive_from(model, node.name, name, creation):
            since = (
                connected_since(node, name),
                model.cluster.delivered(name, node),
            )  # after a heal, old data still arrives
            grace["silent peer is up", node.name, name, since] = SILENCE_TICKTIMES * model.net_ticktime + GRACE_SECONDS


def _can_receive_from(model: ClusterModel, name: str, peer: str, creation: int) -> bool:
    """True if data that this incarnation of ``peer`` sends can reach ``name``."""
    node_run = model.node_runs.get(peer)
    if node_run is None or node_run.node.internals.creation != creation or model.cluster.is_paused(peer):
        return False
    return (peer, name) not in model.cluster.cuts()


def _check_locks(model: ClusterModel, node_run: NodeRun, grace: Grace) -> None:
    node = node_run.node
    holders: dict[object, tuple[Term, list[Pid]]] = {}
    for resource, pid in held_locks(node):
        holders.setdefault(exact_key(resource), (resource, []))[1].append(pid)
        if pid.node is node.internals.atom and not node.internals.is_alive(pid):
            model.record_violation(f"{node.name}: {resource!r} is held by {pid!r}, which is dead")
        if pid.node is not node.internals.atom and node.internals.creation_of(pid.node) not in (None, pid.creation):
            model.record_violation(f"{node.name}: {resource!r} is held by {pid!r} of an earlier incarnation")
        if node.internals.creation_of(pid.node) != pid.creation:
            grace["lock of a node that is down", node.name, resource, pid, pid.creation] = CONNECT_TIMEOUT
    for resource, pids in holders.values():
        if len(pids) > (2 if resource == Atom("global") else 1):  # the lockers of two merging partitions both hold it
            model.record_violation(f"{node.name}: {resource!r} is held by {pids}")


def _check_pg2(model: ClusterModel, node_run: NodeRun, grace: Grace) -> None:
    node = node_run.node
    for group in node.pg2.which_groups():
        for pid, count in Counter(node.pg2.get_members(group)).items():
            if count > model.pg2_joins[exact_key(group), pid]:
                model.record_violation(
                    f"{node.name} pg2 {group!r}: {pid!r} is a member {count} times, more than it joined"
                )
            if pid.node is node.internals.atom and not node.internals.is_alive(pid):
                model.record_violation(f"{node.name} pg2 {group!r}: {pid!r} is dead")
            if node.internals.creation_of(pid.node) != pid.creation:
                grace["pg2 member of a node that is down", node.name, group, pid, pid.creation] = CONNECT_TIMEOUT


def _check_names(model: ClusterModel, node_run: NodeRun, grace: Grace) -> None:
    node = node_run.node
    for name in node.global_.registered():
        pid = node.global_.whereis(name)
        if pid is None:
            model.record_violation(f"{node.name}: the global name {name} belongs to a local process that is dead")
        elif node.internals.creation_of(pid.node) != pid.creation:
            grace["global name of a node that is down", node.name, name, pid, pid.creation] = CONNECT_TIMEOUT
