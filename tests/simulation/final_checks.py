"""Exact checks of a quiescent cluster, in which the result on each node is known.

Each scenario ends with some of these checks, chosen at random. Each check leaves the cluster quiescent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from erlmesh.node import Node, Process
from erlmesh.terms import Atom, Pid, Term, exact_key
from simulation.introspection import connected_since
from simulation.invariants import check_invariants
from simulation.model import KILL, ClusterModel, NodeRun
from simulation.processes import TestProcess
from simulation.quiescence import describe_state, is_quiescent, reconnect_all, wait_for_quiescence
from simulation.service_actions import run_critical_section
from simulation.two_node_checks import isolated_pair

__all__ = ["FINAL_CHECKS", "run_final_checks"]

T = TypeVar("T")

SETTLE_TIME: Final = 1.0
"""Seconds after which a quiescent cluster has delivered all signals."""
OPERATION_TIMEOUT: Final = 120.0
"""Seconds that an operation on all nodes under a lock may take."""
KILLED: Final = Atom("killed")
NOPROC: Final = Atom("noproc")


async def run_final_checks(model: ClusterModel, count: int) -> None:
    """Run ``count`` random checks. Raises InvariantViolation."""
    for final_check in model.random.sample(FINAL_CHECKS, min(count, len(FINAL_CHECKS))):
        model.note(f"final check: {final_check.__name__}")
        await final_check(model)
        check_invariants(model)
        if not is_quiescent(model):
            await wait_for_quiescence(model)


async def signal_delivery(model: ClusterModel) -> None:
    """All processes receive all messages in order. Links and monitors report an exit, removed ones do not."""
    processes = [
        model.spawn(node_run, as_handler=index % 2 == 0) for index, node_run in enumerate(model.node_runs.values())
    ]
    for process in processes:
        with model.cluster.machine(process.node):
            for other in processes:
                for _ in range(3):
                    process.send_next(other.pid)
                if other is not process:
                    process.link(other.pid)
                    process.monitor(other.pid)
    await asyncio.sleep(SETTLE_TIME)
    for process in processes:
        if any(process.received.get(other.pid) != 3 for other in processes):
            model.record_violation(f"{process.pid!r} has not received all messages: {process.received}")
    *others, victim = processes
    demonitored = others[1:2]
    for process in demonitored:
        with model.cluster.machine(process.node):
            process.unlink(victim.pid)
            process.demonitor_all(victim.pid)
    await asyncio.sleep(SETTLE_TIME)
    _kill(model, others[0], victim)
    await asyncio.sleep(SETTLE_TIME)
    for process in others:
        observed = (process.exits.get(victim.pid), Counter(process.downs)[victim.pid, KILLED])
        if observed != ((None, 0) if process in demonitored else (KILLED, 1)):
            model.record_violation(f"for the exit of {victim.pid!r}, {process.pid!r} received {observed}")


async def registered_names(model: ClusterModel) -> None:
    """A process can be addressed and monitored by its registered name."""
    node_runs = list(model.node_runs.values())
    one, other = model.spawn(node_runs[0], as_handler=True), model.spawn(node_runs[-1], as_handler=False)
    name, place = Atom("guest"), other.node.internals.atom
    with model.cluster.machine(other.node):
        other.node.register(name, other.pid)
    with model.cluster.machine(one.node):
        one.monitor((name, place))
        one.me.send((name, place), (Atom("say"), one.pid, other.pid, 1))
        one.sent[other.pid] = 1
    await asyncio.sleep(SETTLE_TIME)
    if other.received.get(one.pid) != 1:
        model.record_violation(f"{other.pid!r} did not receive a message to its name")
    _kill(model, other, other)
    await asyncio.sleep(SETTLE_TIME)
    with model.cluster.machine(one.node):
        one.monitor((name, place))
    await asyncio.sleep(SETTLE_TIME)
    if one.downs != [((name, place), KILLED), ((name, place), NOPROC)]:
        model.record_violation(f"for the exit of {name} on {place} {one.pid!r} received {one.downs}")


async def stale_incarnation(model: ClusterModel) -> None:
    """A pid of an earlier incarnation matches no process, even if a new process has the same number."""
    first, last = next(iter(model.node_runs.values())), list(model.node_runs.values())[-1]
    stale = model.spawn(last, as_handler=False).pid
    observer = model.spawn(first, as_handler=True)
    with model.cluster.machine(first.node):
        observer.link(stale)
        observer.monitor(stale)
    await asyncio.sleep(SETTLE_TIME)
    model.cluster.kill(last.node)
    model.node_stopped(last.node.name)
    model.stopped_nodes.remove(last.node.name)
    await asyncio.sleep(SETTLE_TIME)
    await model.start_node(last.node.name, join=[] if model.reconnect else [first.node.name])
    await wait_for_quiescence(model, times=1)
    node_run = model.node_runs[last.node.name]
    reused = model.spawn(node_run, as_handler=False)
    while reused.pid.id < stale.id:
        reused = model.spawn(node_run, as_handler=False)
    observer.exits.clear()
    observer.downs.clear()
    with model.cluster.machine(first.node):
        observer.send_next(stale)
        observer.link(stale)
        observer.monitor(stale)
        observer.kill(stale)
        observer.send_next(reused.pid)
    await asyncio.sleep(SETTLE_TIME)
    if (observer.exits.get(stale), observer.downs) != (NOPROC, [(stale, NOPROC)]):
        model.record_violation(
            f"for the stale pid {stale!r}, {observer.pid!r} received {observer.exits}, {observer.downs}"
        )
    if not reused.alive or reused.received != {observer.pid: observer.sent[reused.pid]}:
        model.record_violation(f"{reused.pid!r} received signals for a stale pid: {reused.received}")


async def pg2_groups(model: ClusterModel) -> None:
    """A change is visible on all nodes when the call returns, and an exit a moment later."""
    one, other, name = *_two_processes(model), "exam"
    await _run_on(model, one, "pg2 create", lambda: one.node.pg2.create(name))
    _expect_pg2_members(model, name, [])
    for process, member in ((one, one), (other, other), (other, one), (one, other)):
        model.pg2_joins[exact_key(b"exam"), member.pid] += 1
        join = partial(process.node.pg2.join, name, member.pid)
        await _run_on(model, process, "pg2 join", join)
    _expect_pg2_members(model, name, [one.pid, one.pid, other.pid, other.pid])
    await _run_on(model, one, "pg2 leave", lambda: one.node.pg2.leave(name, other.pid))
    _expect_pg2_members(model, name, [one.pid, one.pid, other.pid])
    _kill(model, one, one)
    await asyncio.sleep(SETTLE_TIME)
    _expect_pg2_members(model, name, [other.pid])
    await _run_on(model, other, "pg2 delete", lambda: other.node.pg2.delete(name))
    _expect_pg2_members(model, name, None)


async def global_names(model: ClusterModel) -> None:
    """A name belongs to the same process on all nodes, and to none after that process exits."""
    one, other, name = *_two_processes(model), Atom("exam")
    here, there = one.node.global_, other.node.global_
    _expect(model, True, await _run_on(model, one, "register", lambda: here.register(name, one.pid)))
    _expect_name(model, name, one.pid)
    _expect(model, False, await _run_on(model, other, "register", lambda: there.register(name, other.pid)))
    await _run_on(model, other, "re-register", lambda: there.re_register(name, other.pid))
    _expect_name(model, name, other.pid)
    await _run_on(model, one, "unregister", lambda: here.unregister(name))
    _expect_name(model, name, None)
    _expect(model, True, await _run_on(model, other, "register", lambda: there.register(name, one.pid)))
    _kill(model, other, one)
    await asyncio.sleep(SETTLE_TIME)
    _expect_name(model, name, None)


async def locks(model: ClusterModel) -> None:
    """A lock is exclusive, each waiting process gets it in the end, and an exit releases it."""
    node_runs, resource = list(model.node_runs.values()), "exam"
    first, last = node_runs[0], node_runs[-1]
    mine, yours = (resource, "mine"), (resource, "yours")
    _expect(model, True, await _run_on(model, first, "lock", lambda: first.node.global_.set_lock(mine)))
    _expect(model, False, await _run_on(model, last, "lock", lambda: last.node.global_.set_lock(yours, retries=0)))
    await _run_on(model, first, "unlock", lambda: first.node.global_.del_lock(mine))
    _expect(model, True, await _run_on(model, last, "lock", lambda: last.node.global_.set_lock(yours, retries=0)))
    await _run_on(model, last, "unlock", lambda: last.node.global_.del_lock(yours))
    keeper = last.node.spawn(_lock_for_ever, last.node, resource)
    await asyncio.sleep(SETTLE_TIME)
    _expect(model, False, await _run_on(model, first, "lock", lambda: first.node.global_.set_lock(mine, retries=0)))
    last.node.exit(keeper, KILL)
    for node_run in node_runs:
        section = partial(run_critical_section, model, node_run.node, resource, 0.5)
        model.run_in_background(node_run.node, f"lock {resource}", section)
    await asyncio.sleep(OPERATION_TIMEOUT)
    if model.pending:
        model.record_violation(f"these operations never end: {list(model.pending.values())}")


async def _lock_for_ever(me: Process, node: Node, resource: Term) -> None:
    async with node.global_.trans((resource, me.pid), me=me):
        await me.receive()


async def partition_and_heal(model: ClusterModel) -> None:
    """Two halves of a partition are two clusters. After the heal their groups and names are merged."""
    node_runs = list(model.node_runs.values())
    cut = len(node_runs) // 2
    sides = node_runs[:cut], node_runs[cut:]
    one, other, name = *_two_processes(model), Atom("half")
    await _run_on(model, one, "pg2 create", lambda: one.node.pg2.create("half"))
    model.cluster.partition(*([node_run.node for node_run in side] for side in sides))
    await asyncio.sleep(1.5 * model.net_ticktime + OPERATION_TIMEOUT)
    for side in sides:
        names = {node_run.node.name for node_run in side}
        for node_run in side:
            if {node_run.node.name, *node_run.node.nodes()} != names:
                model.record_violation(f"{node_run.node.name} sees {node_run.node.nodes()} instead of its half {names}")
    for process in (one, other):
        model.pg2_joins[exact_key(b"half"), process.pid] += 1
        await _run_on(model, process, "pg2 join", partial(process.node.pg2.join, "half", process.pid))
        register = partial(process.node.global_.register, name, process.pid)
        _expect(model, True, await _run_on(model, process, "register", register))
    _expect_name(model, name, one.pid, sides[0])
    _expect_name(model, name, other.pid, sides[1])
    model.cluster.heal()
    reconnect_all(model)
    await wait_for_quiescence(model, times=1)
    kept, lost = (one, other) if one.node.global_.whereis(name) == one.pid else (other, one)
    _expect_name(model, name, kept.pid)
    if len(node_runs) == 2 and lost.alive:
        model.record_violation(f"{lost.pid!r} lost the name {name} and is still alive")
    # With more nodes a third one may have resolved the conflict. Like OTP, it kills the loser with an exit signal, and
    # that signal is lost if the third node is not connected with the loser's node at that moment.
    _expect_pg2_members(model, "half", [process.pid for process in (one, other) if process.alive])
    await _run_on(model, node_runs[0], "pg2 delete", lambda: node_runs[0].node.pg2.delete("half"))


async def simultaneous_connect(model: ClusterModel) -> None:
    """Two disconnected nodes that connect at the same time are connected soon. A reset connection comes back."""
    one, other = list(model.node_runs.values())[:2]
    for pause in (SETTLE_TIME, 0.7 * SETTLE_TIME, 0.4 * SETTLE_TIME):
        # A close while data is in flight to the closing node resets the connection. TCP may then drop the announcement
        # of the disconnect, so the peer reconnects. This does not happen three times in a row.
        await asyncio.sleep(pause)
        with model.cluster.machine(one.node):
            one.node.disconnect(other.node.name)
        await asyncio.sleep(2 * model.net_ticktime)
        if not (one.node.nodes() or one.node.reconnecting() or other.node.reconnecting()):
            break
    else:
        if len(model.node_runs) == 2:
            model.record_violation(
                f"{one.node.name} and {other.node.name} must stay disconnected: {describe_state(model)}"
            )
    for _ in range(3):
        model.connect(one, other)
        model.connect(other, one)
        await asyncio.sleep(0.1)
        if connected_since(one.node, other.node.name) is None or connected_since(other.node, one.node.name) is None:
            model.record_violation(
                f"{one.node.name} and {other.node.name} connect at once and fail: {describe_state(model)}"
            )
        model.cluster.reset(one.node, other.node)
        await asyncio.sleep(0.01)
    for _ in range(30):
        await asyncio.sleep(model.net_ticktime)
        if is_quiescent(model):
            break
        if not model.reconnect:
            reconnect_all(model)
    check_invariants(model)


async def wrong_cookie_and_late_joiner(model: ClusterModel) -> None:
    """A node with another cookie cannot connect. A new node joins the cluster, learns its state, and can leave."""
    first = next(iter(model.node_runs.values()))
    (wrong_cookie_node,) = await model.cluster.start("stranger", cookie="another", reconnect=False)
    _expect(
        model, False, await model.cluster.run_on(wrong_cookie_node, lambda: wrong_cookie_node.ping(first.node.name))
    )
    _expect(model, False, await _run_on(model, first, "ping", lambda: first.node.ping(wrong_cookie_node.name)))
    if wrong_cookie_node.nodes() or any(
        wrong_cookie_node.name in node_run.node.nodes() for node_run in model.node_runs.values()
    ):
        model.record_violation(f"a node with another cookie is connected: {describe_state(model)}")
    await model.cluster.stop(wrong_cookie_node)
    await model.start_node("newcomer", join=[first.node.name])
    await wait_for_quiescence(model, times=1)
    newcomer = list(model.node_runs.values())[-1]
    groups = {exact_key(group) for node_run in model.node_runs.values() for group in node_run.node.pg2.which_groups()}
    if groups != {exact_key(group) for group in newcomer.node.pg2.which_groups()}:
        model.record_violation(f"{newcomer.node.name} has other pg2 groups than its peers: {groups}")
    await model.cluster.stop(newcomer.node)
    model.node_stopped(newcomer.node.name)
    model.stopped_nodes.remove(newcomer.node.name)
    await asyncio.sleep(SETTLE_TIME)
    for node_run in model.node_runs.values():
        with model.cluster.machine(node_run.node):
            node_run.node.disconnect(newcomer.node.name)  # it does not come back, so stop reconnecting
        if newcomer.node.name in [*node_run.node.nodes(), *node_run.node.reconnecting()]:
            model.record_violation(f"{node_run.node.name} still has or reconnects to {newcomer.node.name}")


FINAL_CHECKS: Final[list[Callable[[ClusterModel], Awaitable[None]]]] = [
    signal_delivery,
    registered_names,
    stale_incarnation,
    pg2_groups,
    global_names,
    locks,
    partition_and_heal,
    simultaneous_connect,
    wrong_cookie_and_late_joiner,
    isolated_pair,
]


def _two_processes(model: ClusterModel) -> tuple[TestProcess, TestProcess]:
    node_runs = list(model.node_runs.values())
    return model.spawn(node_runs[0], as_handler=True), model.spawn(node_runs[-1], as_handler=True)


async def _run_on(
    model: ClusterModel, target: TestProcess | NodeRun, description: str, work: Callable[[], Awaitable[T]]
) -> T | None:
    try:
        async with asyncio.timeout(OPERATION_TIMEOUT):
            return await model.cluster.run_on(target.node, work)
    except TimeoutError:
        model.record_violation(f"{target.node.name}: {description} does not end")
        model.raise_violations()
        return None


def _kill(model: ClusterModel, killer: TestProcess, victim: TestProcess) -> None:
    with model.cluster.machine(killer.node):
        killer.kill(victim.pid)


def _expect(model: ClusterModel, wanted: Any, got: Any) -> None:
    if got is not wanted:
        model.record_violation(f"{got} instead of {wanted}")
        model.raise_violations()


def _expect_pg2_members(model: ClusterModel, group: str, pids: Sequence[Pid] | None) -> None:
    for node_run in model.node_runs.values():
        exists = group.encode() in node_run.node.pg2.which_groups()
        members = Counter(node_run.node.pg2.get_members(group)) if exists else None
        if members != (None if pids is None else Counter(pids)):
            model.record_violation(f"{node_run.node.name}: pg2 group {group} is {members} instead of {pids}")


def _expect_name(model: ClusterModel, name: Term, pid: Pid | None, node_runs: Sequence[NodeRun] | None = None) -> None:
    for node_run in model.node_runs.values() if node_runs is None else node_runs:
        if node_run.node.global_.whereis(name) != pid:
            model.record_violation(
                f"{node_run.node.name}: {name} is {node_run.node.global_.whereis(name)!r} instead of {pid!r}"
            )
