"""The end of a scenario: heal all faults, compare the views of all nodes, and check for leaks."""

from __future__ import annotations

import asyncio
from collections import Counter

from erlmesh.terms import Pid, exact_key
from simulation.final_checks import run_final_checks
from simulation.introspection import connected_since, leaked_resources, links_of, monitor_count, monitored_by
from simulation.invariants import check_invariants
from simulation.model import KILL, NAMES, ClusterModel, NodeRun
from simulation.quiescence import reconnect_all, wait_for_quiescence

__all__ = ["check_no_leaks", "compare_views", "recover"]


async def recover(model: ClusterModel) -> None:
    """Heal the network, resume and restart all nodes, and wait until the cluster is quiescent."""
    model.note("recovery")
    model.cluster.heal()
    for node_run in model.node_runs.values():
        if model.cluster.is_paused(node_run.node):
            model.cluster.resume(node_run.node)
    while model.stopped_nodes:
        await model.start_node(model.stopped_nodes.pop())
    await asyncio.sleep(2 * model.net_ticktime)  # messages sent during the faults have arrived by then
    reconnect_all(model)
    await wait_for_quiescence(model)


async def compare_views(model: ClusterModel, *, final_checks: int) -> None:
    """Check that all nodes agree with the model, run final checks, and check that idle time ends no connection."""
    _compare_state(model)
    await run_final_checks(model, final_checks)
    since = _connection_times(model)
    await asyncio.sleep(3600.0 if model.net_ticktime > 30 else 10 * model.net_ticktime)
    check_invariants(model)
    if _connection_times(model) != since:
        model.record_violation("a connection ended during idle time")
    _compare_state(model)
    check_invariants(model)


def _connection_times(model: ClusterModel) -> dict[tuple[str, str], float | None]:
    return {
        (node_run.node.name, peer): connected_since(node_run.node, peer)
        for node_run in model.node_runs.values()
        for peer in node_run.node.nodes()
    }


def _compare_state(model: ClusterModel) -> None:
    """Check that global names, pg and links are the same on all nodes.

    pg2 may differ, as in OTP: two nodes exchange their groups when they connect, and do not forward what they learn
    later. A node that connected before its peer learned of a group, and never connected to the creator, does not know
    the group. The final checks test pg2 exactly.
    """
    node_runs = list(model.node_runs.values())
    truth: dict[tuple[str, object], Counter[Pid]] = {}
    for node_run in node_runs:
        for key, members in node_run.memberships.items():
            living = Counter(
                {pid: count for pid, count in members.items() if count and node_run.node.internals.is_alive(pid)}
            )
            truth.setdefault(key, Counter()).update(living)
    for node_run in node_runs:
        for name, scope in node_run.scopes.items():
            view = {exact_key(group): Counter(scope.get_members(group)) for group in scope.which_groups()}
            wanted = {key: members for (scope_name, key), members in truth.items() if scope_name == name and members}
            if view != wanted:
                model.record_violation(f"{node_run.node.name} {name}: {view} instead of {wanted}")
    _compare_names(model, node_runs)
    _compare_links(model)


def _compare_names(model: ClusterModel, node_runs: list[NodeRun]) -> None:
    for name in NAMES:
        views = {node_run.node.name: node_run.node.global_.whereis(name) for node_run in node_runs}
        if len(set(views.values())) > 1:
            model.record_violation(f"the global name {name} is {views}")
        for pid in set(views.values()) - {None}:
            if pid is not None and not model.is_alive(pid):
                model.record_violation(f"the global name {name} is {pid!r}, which is dead")
    for node_run in node_runs:
        for group in node_run.node.pg2.which_groups():
            for pid in node_run.node.pg2.get_members(group):
                if not model.is_alive(pid):
                    model.record_violation(f"{node_run.node.name} pg2 {group!r}: {pid!r} is dead")


def _compare_links(model: ClusterModel) -> None:
    processes = [process for node_run in model.node_runs.values() for process in node_run.alive_processes()]
    for process in processes:
        present = links_of(process.node, process.pid)
        for other in present:
            if not model.is_alive(other):
                model.record_violation(f"{process.pid!r} is linked to {other!r}, which is dead")
            elif other in model.all_processes and process.pid not in links_of(model.all_processes[other].node, other):
                model.record_violation(f"{process.pid!r} is linked to {other!r}, but not the other way round")
        for other in process.links:
            partner = model.all_processes.get(other)
            unlinked = other in process.unlinked or (partner is not None and process.pid in partner.unlinked)
            if other not in present and not unlinked:
                model.record_violation(f"{process.pid!r} got no exit signal for its link to {other!r}")
        there = Counter(pid for pid in monitored_by(process.node, process.pid) if pid in model.all_processes)
        known = Counter({other.pid: [*other.monitors.values()].count(process.pid) for other in processes})
        if there != +known:
            model.record_violation(f"{process.pid!r} is monitored by {there} instead of {+known}")
        for target in process.monitors.values():
            if isinstance(target, Pid) and not model.is_alive(target):
                model.record_violation(f"{process.pid!r} got no DOWN for {target!r}")


async def check_no_leaks(model: ClusterModel) -> None:
    """Kill half of the processes, then the others, and check each time. At the end no trace of them may remain."""
    processes = [process for node_run in model.node_runs.values() for process in node_run.alive_processes()]
    model.random.shuffle(processes)
    for part in (processes[: len(processes) // 2], processes):
        for process in part:
            with model.cluster.machine(process.node):
                process.node.exit(process.pid, KILL)
        await asyncio.sleep(20.0)
        _compare_state(model)
        check_invariants(model)
    for node_run in model.node_runs.values():
        for scope in node_run.scopes.values():
            if scope.which_groups():
                model.record_violation(f"{node_run.node.name}: groups without live members: {scope.which_groups()}")
        if any(node_run.node.pg2.get_members(group) for group in node_run.node.pg2.which_groups()):
            model.record_violation(f"{node_run.node.name}: pg2 groups with dead members")
        if node_run.node.global_.registered():
            model.record_violation(
                f"{node_run.node.name}: names of dead processes: {node_run.node.global_.registered()}"
            )
        others = [other for other in model.node_runs.values() if other is not node_run]
        leaked = {resource: count for resource, count in leaked_resources(node_run.node).items() if count}
        needed = node_run.service_monitors + 2 * sum(
            name in other.scopes for other in others for name in node_run.scopes
        )
        if monitor_count(node_run.node) != needed:
            leaked["monitors"] = monitor_count(node_run.node) - needed
        if unexpected := [pid for pid in node_run.node.internals.processes() if pid not in node_run.service_pids]:
            leaked["processes"] = len(unexpected)
        if leaked:
            model.record_violation(f"{node_run.node.name}: leaked: {leaked}")
    check_invariants(model)
