"""Operations that involve all nodes: changes of pg2 groups and global names, and critical sections under a lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from erlmesh.node import Node, Process
from erlmesh.services.group_names import normalize_group_name
from erlmesh.terms import Term, exact_key
from simulation.introspection import connected_since
from simulation.model import NAMES, PG2_GROUPS, RESOURCES, ClusterModel, CriticalSection

__all__ = ["change_global_name", "change_pg2_group", "run_critical_section", "take_lock"]


def change_pg2_group(model: ClusterModel) -> None:
    process, group = model.random_process(), model.random.choice(PG2_GROUPS)
    if process is None:
        return
    node, change_pg2_group = process.node, process.node.pg2
    work: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "create": lambda: change_pg2_group.create(group),
        "join": lambda: change_pg2_group.join(group, process.pid),
        "leave": lambda: change_pg2_group.leave(group, process.pid),
        "delete": lambda: change_pg2_group.delete(group),
    }
    operation = model.random.choices(list(work), (3, 4, 2, 1))[0]
    if operation == "join":
        model.pg2_joins[exact_key(normalize_group_name(group)), process.pid] += 1
    model.run_in_background(node, f"pg2 {operation} {group}", work[operation])


def change_global_name(model: ClusterModel) -> None:
    process, global_name = model.random_process(), model.random.choice(NAMES)
    if process is None:
        return
    names = process.node.global_
    if model.random.random() < 0.7:
        model.run_in_background(
            process.node, f"register {global_name}", lambda: names.register(global_name, process.pid)
        )
    else:
        model.run_in_background(process.node, f"unregister {global_name}", lambda: names.unregister(global_name))


def take_lock(model: ClusterModel) -> None:
    node_run, resource = model.random_node_run(), model.random.choice(RESOURCES)
    if node_run is not None:
        seconds = model.random.choice((0.0, 0.1, 2.0))
        model.run_in_background(
            node_run.node, f"lock {resource}", lambda: run_critical_section(model, node_run.node, resource, seconds)
        )


async def run_critical_section(model: ClusterModel, node: Node, resource: Term, seconds: float) -> None:
    """Run a critical section in a new process. Records a violation if two of them overlap."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    section = CriticalSection(resource, node, model.cluster.now())

    async def body(me: Process) -> None:
        try:
            async with node.global_.trans((resource, me.pid), me=me):
                _enter_section(model, section)
                await me.sleep(seconds)
                _leave_section(model, section)
        finally:
            _leave_section(model, section)
            if not done.done():
                done.set_result(None)

    node.spawn(body)
    await done


def _enter_section(model: ClusterModel, section: CriticalSection) -> None:
    for other in model.critical_sections:
        if other.resource == section.resource and _are_exclusive(section, other):
            model.record_violation(f"{section.node.name} and {other.node.name} both hold {section.resource}")
    model.critical_sections.append(section)


def _leave_section(model: ClusterModel, section: CriticalSection) -> None:
    model.critical_sections = [holding for holding in model.critical_sections if holding is not section]


def _are_exclusive(one: CriticalSection, other: CriticalSection) -> bool:
    """True if both nodes were connected since the earlier request, so that the lock must exclude one of them."""
    if one.node is other.node:
        return True
    here, there = connected_since(one.node, other.node.name), connected_since(other.node, one.node.name)
    if here is None or there is None or abs(here - there) > 1.0:
        return False
    return max(here, there) < min(one.requested_at, other.requested_at)
