"""What must hold after every act of a story, on every node that is awake.

Most of it holds at every moment. The rest may be untrue for a while that the protocols limit: a silent peer is up until
the tick time is over; ``pg2`` and ``global`` learn of processes from third nodes, and then connect to theirs in order
to watch them. Such a *doubt* is a fault when every check for longer than that has found it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias

from erlmesh.proto.handshake_driver import SETUP_TIMEOUT
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom, Pid, Term, exact_key
from erlmesh.testing.inside import connected_since, duplicate_connections, lock_holders
from erlmesh.testing.stories.world import Life, World

__all__ = ["check"]

CONNECTING: Final = 2 * SETUP_TIMEOUT + 6.0
"""Seconds until an attempt to connect has surely ended: it may have been told to wait for the other's."""
SILENCE: Final = 1.25
"""Tick times after which a silent peer is down."""
GRACE: Final = 2.0

Doubts: TypeAlias = dict[tuple[object, ...], float]
"""What is not as it should be, and for how many seconds that may be so."""


def check(world: World) -> None:
    """Raises Broken."""
    doubts: Doubts = {}
    for life in world.awake():
        life.witness.check()
        for watcher in life.watchers:
            watcher.check()
        for name, scope in life.scopes.items():
            _check_members(world, life, name, scope)
            _check_own_members(world, life, name, scope)
        _check_connections(world, life, doubts)
        _check_locks(world, life, doubts)
        _check_pg2(world, life, doubts)
        _check_names(world, life, doubts)
    _judge(world, doubts)
    world.complain()


def _judge(world: World, doubts: Doubts) -> None:
    now = world.cluster.now()
    world.doubts = {doubt: world.doubts.get(doubt, now) for doubt in doubts}
    for doubt, since in world.doubts.items():
        if now - since > doubts[doubt]:
            world.blame(f"for {now - since:.1f} s: {' '.join(map(str, doubt))}")


def _check_members(world: World, life: Life, name: str, scope: Pg) -> None:
    node = life.node
    for group in scope.which_groups():
        members = Counter(scope.get_members(group))
        own = Counter(scope.get_local_members(group))
        if own != Counter({pid: count for pid, count in members.items() if pid.node is node.atom}):
            world.blame(f"{node.name} {name} {group!r}: local members differ from members")
        for pid, count in members.items():
            if node._creation_of(pid.node) != pid.creation:
                world.blame(f"{node.name} {name} {group!r}: {pid!r} is of a node that is down")
            if count > world.most[name, exact_key(group), pid]:
                world.blame(f"{node.name} {name} {group!r}: {pid!r} is in it {count} times")


def _check_own_members(world: World, life: Life, name: str, scope: Pg) -> None:
    node = life.node
    groups = {exact_key(group): group for group in scope.which_groups()}
    for (scope_name, key), wanted in life.joined.items():
        if scope_name == name:
            want = Counter({pid: count for pid, count in wanted.items() if count and node.is_alive(pid)})
            have = Counter(scope.get_local_members(groups[key])) if key in groups else Counter()
            if want != have:
                world.blame(f"{node.name} {name} {key!r}: {have} instead of {want}")


def _check_connections(world: World, life: Life, doubts: Doubts) -> None:
    node = life.node
    for name in duplicate_connections(node):
        world.blame(f"{node.name} has two connections with {name}")
    for name in node.nodes():
        creation = node._creation_of(name) or 0
        if creation < life.creations.get(name, 0):
            world.blame(f"{node.name} is connected with life {creation} of {name}, after {life.creations[name]}")
        life.creations[name] = creation
        if not _hears(world, node.name, name, creation):
            since = connected_since(node, name), world.cluster.arrived(name, node)  # a heal lets old words through
            doubts["silent peer is up", node.name, name, since] = SILENCE * world.net_ticktime + GRACE


def _hears(world: World, name: str, peer: str, creation: int) -> bool:
    """Whether anything that this life of ``peer`` says can reach ``name``."""
    life = world.lives.get(peer)
    if life is None or life.node.creation != creation or world.cluster.is_paused(peer):
        return False
    return (peer, name) not in world.cluster.cuts()


def _check_locks(world: World, life: Life, doubts: Doubts) -> None:
    node = life.node
    holders: dict[object, tuple[Term, list[Pid]]] = {}
    for resource, pid in lock_holders(node):
        holders.setdefault(exact_key(resource), (resource, []))[1].append(pid)
        if pid.node is node.atom and not node.is_alive(pid):
            world.blame(f"{node.name}: {resource!r} is held by {pid!r}, who is dead")
        if pid.node is not node.atom and node._creation_of(pid.node) not in (None, pid.creation):
            world.blame(f"{node.name}: {resource!r} is held by {pid!r} of a former life")
        if node._creation_of(pid.node) != pid.creation:
            doubts["lock of a node that is down", node.name, resource, pid, pid.creation] = CONNECTING
    for resource, pids in holders.values():
        if len(pids) > (2 if resource == Atom("global") else 1):  # the lockers of two partitions hold that together
            world.blame(f"{node.name}: {resource!r} is held by {pids}")


def _check_pg2(world: World, life: Life, doubts: Doubts) -> None:
    node = life.node
    for group in node.pg2.which_groups():
        for pid, count in Counter(node.pg2.get_members(group)).items():
            if count > world.pg2_joins[exact_key(group), pid]:
                world.blame(f"{node.name} pg2 {group!r}: {pid!r} is in it {count} times, and never joined so often")
            if pid.node is node.atom and not node.is_alive(pid):
                world.blame(f"{node.name} pg2 {group!r}: {pid!r} is dead")
            if node._creation_of(pid.node) != pid.creation:
                doubts["pg2 member of a node that is down", node.name, group, pid, pid.creation] = CONNECTING


def _check_names(world: World, life: Life, doubts: Doubts) -> None:
    node = life.node
    for name in node.global_.registered():
        pid = node.global_.whereis(name)
        if pid is None:
            world.blame(f"{node.name}: the global name {name} belongs to a process of ours that is dead")
        elif node._creation_of(pid.node) != pid.creation:
            doubts["global name of a node that is down", node.name, name, pid, pid.creation] = CONNECTING
