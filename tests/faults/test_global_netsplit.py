"""``global`` in a network partition: names registered on both sides, and locks whose holder is unreachable."""

from __future__ import annotations

import pytest

from erlmesh.terms import Atom
from global_cases import PY_MAILBOXES as BOXES
from global_cases import is_beam, register, spawn, wait_for_name, whereis
from scenario import Scenario

METHODS = ("random_exit_name", "random_notify_name", "notify_all_name")
CONFLICT = Atom("global_name_conflict")
PAIRS = ("py 25", "25 py", "py 27", "27 py", "py 23", "23 py", "py py", "25 25", "27 27", "23 23")
"""The node with the smaller name comes first. It resolves conflicts, and its processes are kept."""
pairs = pytest.mark.parametrize("kinds", [tuple(pair.split()) for pair in PAIRS], ids=" ".join)


def ready(scenario: Scenario) -> None:
    scenario.form_mesh()
    scenario.wait_until_known_to_global()
    for node in scenario.nodes:
        if not is_beam(node):
            node.eval(BOXES)


def cut(scenario: Scenario) -> None:
    scenario.mark_fault()
    scenario.switch.partition([0], [1])


def wait_until_lost(scenario: Scenario) -> None:
    scenario.wait_until(
        lambda: scenario.nodedowns(0, 1) and scenario.nodedowns(1, 0), scenario.ticktime * 2, what="lost on both sides"
    )


def is_alive(node, pid) -> bool:
    return bool(
        node.eval("is_process_alive(P__)", P__=pid) if is_beam(node) else node.eval("node.internals.is_alive(p)", p=pid)
    )


def messages_of(node, pid):
    """The messages in the mailbox of a process."""
    if is_beam(node):
        return node.eval("element(2, process_info(P__, messages))", P__=pid)
    return node.eval("boxes[p]", p=pid)


@pairs
def test_name_on_both_sides_of_a_partition_is_resolved_by_its_method(scenario, kinds):
    """Register one global name on both sides of a partition, for each resolve method; then heal it."""
    ready(scenario)
    cut(scenario)
    wait_until_lost(scenario)
    sides = {method: [spawn(node) for node in scenario.nodes] for method in METHODS}
    for method, pids in sides.items():
        for node, pid in zip(scenario.nodes, pids, strict=True):
            assert register(node, pid, name=Atom(method), method=method)
    alone = spawn(scenario.nodes[1])
    assert register(scenario.nodes[1], alone, name=Atom("alone"))

    scenario.switch.heal()
    scenario.wait_for_recovery()
    scenario.wait_until_known_to_global()

    first, second = scenario.nodes
    exits, notifies, both = (sides[method] for method in METHODS)
    wait_for_name(exits[0], first, second, name=Atom(METHODS[0]))
    scenario.wait_until(lambda: not is_alive(second, exits[1]), 5, what="the other process exited")
    assert is_alive(first, exits[0])
    wait_for_name(notifies[0], first, second, name=Atom(METHODS[1]))
    scenario.wait_until(
        lambda: messages_of(second, notifies[1]) == [(CONFLICT, Atom(METHODS[1]))], 5, what="the other process notified"
    )
    assert messages_of(first, notifies[0]) == []
    wait_for_name(None, first, second, name=Atom(METHODS[2]))
    scenario.wait_until(lambda: messages_of(first, both[0]) == [(CONFLICT, Atom(METHODS[2]), both[1])], 5)
    scenario.wait_until(lambda: messages_of(second, both[1]) == [(CONFLICT, Atom(METHODS[2]), both[0])], 5)
    wait_for_name(alone, first, second, name=Atom("alone"))
    scenario.report_row.outcome = "the name is kept, reported or lost, as the method decides"


@pytest.mark.scenario(ticktime=4)
@pairs
def test_names_and_locks_wait_until_an_unreachable_node_is_dropped(scenario, kinds):
    """Request a name and a lock just after a partition; the other side holds the lock; net tick time 4 s."""
    ready(scenario)
    first, second = scenario.nodes
    hold_lock(first)
    scenario.wait_until(lambda: not take_lock(second, retries=0), 5, what="a lock that is held")
    cut(scenario)

    assert register(second, spawn(second), name=Atom("wanted"), timeout=30)
    assert take_lock(second, retries=None)

    wait_until_lost(scenario)
    assert whereis(first, Atom("wanted")) is None
    scenario.switch.heal()
    scenario.wait_for_recovery()
    wait_for_name(whereis(second, Atom("wanted")), first, second, name=Atom("wanted"))
    scenario.report_row.outcome = "granted once the other side is dropped; all nodes know the name after the heal"


@pairs
def test_lock_is_free_when_the_node_of_its_holder_is_killed(scenario, kinds):
    """Kill the node that holds a global lock."""
    ready(scenario)
    first, second = scenario.nodes
    hold_lock(first)
    scenario.wait_until(lambda: not take_lock(second, retries=0), 5, what="a lock that is held")

    scenario.mark_fault()
    first.kill()

    assert take_lock(second, retries=None)
    scenario.wait_until(lambda: scenario.nodedowns(1, 0), 5)
    scenario.report_row.outcome = "the lock is free"


def hold_lock(node) -> None:
    """Start a process on the node that holds the lock until it ends."""
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


def take_lock(node, *, retries: int | None) -> bool:
    """Take the lock in the evaluating process. Wait for it with ``retries=None``."""
    if is_beam(node):
        tries = "infinity" if retries is None else str(retries)
        return bool(node.eval(f"global:set_lock({{r, self()}}, [node() | nodes()], {tries})", timeout=30))
    return bool(node.eval(f"await node.global_.set_lock((Atom('r'), me.pid), retries={retries}, me=me)", timeout=30))
