"""``global`` when the network is really cut: names that mean two processes at the heal, locks whose holder is gone."""

from __future__ import annotations

import pytest

from erlmesh.terms import Atom
from names import PYTHON as BOXES
from names import is_beam, register, spawn, wait_for_name, whereis
from world import World

METHODS = ("random_exit_name", "random_notify_name", "notify_all_name")
CONFLICT = Atom("global_name_conflict")
PAIRS = ("py 25", "25 py", "py 27", "27 py", "py 23", "23 py", "py py", "25 25", "27 27", "23 23")
"""The node with the smaller name comes first: it decides, and its processes are kept."""
pairs = pytest.mark.parametrize("kinds", [tuple(pair.split()) for pair in PAIRS], ids=" ".join)


def ready(world: World) -> None:
    world.meet()
    world.until_known()
    for node in world.nodes:
        if not is_beam(node):
            node.eval(BOXES)


def cut(world: World) -> None:
    world.fault()
    world.switch.part([0], [1])


def until_lost(world: World) -> None:
    world.until(lambda: world.went(0, 1) and world.went(1, 0), world.ticktime * 2, what="lost on both sides")


def lives(node, pid) -> bool:
    return bool(
        node.eval("is_process_alive(P__)", P__=pid) if is_beam(node) else node.eval("node.internals.is_alive(p)", p=pid)
    )


def told(node, pid):
    """What a process has been sent and has kept."""
    if is_beam(node):
        return node.eval("element(2, process_info(P__, messages))", P__=pid)
    return node.eval("boxes[p]", p=pid)


@pairs
def test_a_name_on_both_sides_of_a_cut_ends_as_its_method_says(world, kinds):
    """Register one global name on both sides of a partition, for each resolve method; then heal it."""
    ready(world)
    cut(world)
    until_lost(world)
    sides = {method: [spawn(node) for node in world.nodes] for method in METHODS}
    for method, pids in sides.items():
        for node, pid in zip(world.nodes, pids, strict=True):
            assert register(node, pid, name=Atom(method), method=method)
    alone = spawn(world.nodes[1])
    assert register(world.nodes[1], alone, name=Atom("alone"))

    world.switch.heal()
    world.heal_to_whole()
    world.until_known()

    first, second = world.nodes
    exits, notifies, both = (sides[method] for method in METHODS)
    wait_for_name(exits[0], first, second, name=Atom(METHODS[0]))
    world.until(lambda: not lives(second, exits[1]), 5, what="the loser dead")
    assert lives(first, exits[0])
    wait_for_name(notifies[0], first, second, name=Atom(METHODS[1]))
    world.until(lambda: told(second, notifies[1]) == [(CONFLICT, Atom(METHODS[1]))], 5, what="the loser told")
    assert told(first, notifies[0]) == []
    wait_for_name(None, first, second, name=Atom(METHODS[2]))
    world.until(lambda: told(first, both[0]) == [(CONFLICT, Atom(METHODS[2]), both[1])], 5)
    world.until(lambda: told(second, both[1]) == [(CONFLICT, Atom(METHODS[2]), both[0])], 5)
    wait_for_name(alone, first, second, name=Atom("alone"))
    world.row.outcome = "the name is kept, reported or lost, as the method decides"


@pytest.mark.world(ticktime=4)
@pairs
def test_names_and_locks_wait_for_who_is_cut_off_until_it_is_given_up(world, kinds):
    """Request a name and a lock just after a partition; the other side holds the lock; net tick time 4 s."""
    ready(world)
    first, second = world.nodes
    hold(first)
    world.until(lambda: not wants(second, retries=0), 5, what="a lock that is held")
    cut(world)

    assert register(second, spawn(second), name=Atom("wanted"), timeout=30)
    assert wants(second, retries=None)

    until_lost(world)
    assert whereis(first, Atom("wanted")) is None
    world.switch.heal()
    world.heal_to_whole()
    wait_for_name(whereis(second, Atom("wanted")), first, second, name=Atom("wanted"))
    world.row.outcome = "granted once the other side is dropped; all nodes know the name after the heal"


@pairs
def test_a_lock_is_free_when_its_holder_is_killed_with_its_node(world, kinds):
    """Kill the node that holds a global lock."""
    ready(world)
    first, second = world.nodes
    hold(first)
    world.until(lambda: not wants(second, retries=0), 5, what="a lock that is held")

    world.fault()
    first.kill()

    assert wants(second, retries=None)
    world.until(lambda: world.went(1, 0), 5)
    world.row.outcome = "the lock is free"


def hold(node) -> None:
    """A process of its own there holds the lock for good."""
    if is_beam(node):
        node.eval(
            "(fun(Me) -> spawn(fun() -> true = global:set_lock({r, self()}), Me ! held, receive stop -> ok end end),"
            " receive held -> ok end end)(self())"
        )
    else:
        node.eval(
            "held = asyncio.Event()\n"
            "async def holder(me):\n"
            "    assert await node.global_.set_lock((Atom('r'), me.pid), me=me)\n"
            "    held.set()\n"
            "    await me.receive(lambda message: False)\n"
            "node.spawn(holder)\n"
            "await held.wait()"
        )


def wants(node, *, retries: int | None) -> bool:
    """Takes the lock in the evaluating process; with ``retries=None`` waits for it."""
    if is_beam(node):
        tries = "infinity" if retries is None else str(retries)
        return bool(node.eval(f"global:set_lock({{r, self()}}, [node() | nodes()], {tries})", timeout=30))
    return bool(node.eval(f"await node.global_.set_lock((Atom('r'), me.pid), retries={retries}, me=me)", timeout=30))
