"""What must hold after every act of a story, on every node that is awake."""

from __future__ import annotations

from collections import Counter

from erlmesh.services.pg import Pg
from erlmesh.terms import exact
from erlmesh.testing.inside import duplicate_connections, lock_holders
from erlmesh.testing.stories.world import Life, World

__all__ = ["check"]


def check(world: World) -> None:
    """Raises Broken."""
    for life in world.awake():
        life.witness.check()
        for watcher in life.watchers:
            watcher.check()
        for name, scope in life.scopes.items():
            _check_members(world, life, name, scope)
            _check_own_members(world, life, name, scope)
        _check_connections(world, life)
        _check_locks(world, life)
    world.complain()


def _check_members(world: World, life: Life, name: str, scope: Pg) -> None:
    node = life.node
    for group in scope.which_groups():
        members = Counter(scope.get_members(group))
        own = Counter(scope.get_local_members(group))
        if own != Counter({pid: count for pid, count in members.items() if pid.node is node.atom}):
            world.blame(f"{node.name} {name} {group!r}: local members differ from members")
        for pid, count in members.items():
            if node.creation_of(pid.node) != pid.creation:
                world.blame(f"{node.name} {name} {group!r}: {pid!r} is of a node that is down")
            if count > world.most[name, exact(group), pid]:
                world.blame(f"{node.name} {name} {group!r}: {pid!r} is in it {count} times")


def _check_own_members(world: World, life: Life, name: str, scope: Pg) -> None:
    node = life.node
    groups = {exact(group): group for group in scope.which_groups()}
    for (scope_name, key), wanted in life.joined.items():
        if scope_name == name:
            want = Counter({pid: count for pid, count in wanted.items() if count and node.is_alive(pid)})
            have = Counter(scope.get_local_members(groups[key])) if key in groups else Counter()
            if want != have:
                world.blame(f"{node.name} {name} {key!r}: {have} instead of {want}")


def _check_connections(world: World, life: Life) -> None:
    for name in duplicate_connections(life.node):
        world.blame(f"{life.node.name} has two connections with {name}")


def _check_locks(world: World, life: Life) -> None:
    for resource, pid in lock_holders(life.node):
        if pid.node is not life.node.atom and life.node.creation_of(pid.node) not in (None, pid.creation):
            world.blame(f"{life.node.name}: {resource!r} is held by {pid!r} of a former life")
