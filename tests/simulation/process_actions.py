"""Actions of processes: spawn, exit, join and leave groups, send, link and monitor."""

from __future__ import annotations

import asyncio
from collections import Counter

from erlmesh.terms import exact_key
from simulation.model import GROUPS, KILL, ClusterModel
from simulation.processes import STOP

__all__ = ["demonitor", "join", "kill", "leave", "link", "monitor", "send", "spawn", "stop", "unlink"]


def spawn(model: ClusterModel) -> None:
    node_run = model.random_node_run()
    if node_run is not None:
        process = model.spawn(node_run, as_handler=model.random.random() < 0.5)
        model.note(f"spawn {process.node.name} {process.pid.id}")


async def join(model: ClusterModel) -> None:
    process = model.random_process()
    if process is None:
        spawn(model)
        return
    if model.random.random() < 0.1:
        process = model.random.choice(
            model.node_runs[process.node.name].processes
        )  # it may be dead: join then has no effect
    node_run = model.node_runs[process.node.name]
    scope = model.random.choice(list(node_run.scopes))
    group = model.random.choice(GROUPS)
    pids = [process.pid] * model.random.choice((1, 1, 1, 2))
    model.note(f"join {scope} {group!r} {process.node.name} {process.pid.id} x{len(pids)}")
    members = node_run.memberships.setdefault((scope, exact_key(group)), Counter())
    members.update(pids)
    key = scope, exact_key(group), process.pid
    model.max_memberships[key] = max(model.max_memberships[key], members[process.pid])
    with model.cluster.machine(node_run.node):
        node_run.scopes[scope].join(group, pids)
    await asyncio.sleep(0)


def leave(model: ClusterModel) -> None:
    process = model.random_process()
    if process is None:
        return
    node_run = model.node_runs[process.node.name]
    scope = model.random.choice(list(node_run.scopes))
    group = model.random.choice(GROUPS)
    pids = [process.pid] * model.random.choice((1, 1, 2))
    model.note(f"leave {scope} {group!r} {process.node.name} {process.pid.id} x{len(pids)}")
    members = node_run.memberships.setdefault((scope, exact_key(group)), Counter())
    was_in = members[process.pid] > 0
    members[process.pid] = max(0, members[process.pid] - len(pids))
    with model.cluster.machine(node_run.node):
        if node_run.scopes[scope].leave(group, pids) is not was_in:
            model.record_violation(f"leave of {group!r} on {process.node.name} returned {not was_in}")


def kill(model: ClusterModel) -> None:
    process = model.random_process()
    if process is not None:
        model.note(f"kill {process.node.name} {process.pid.id}")
        with model.cluster.machine(process.node):
            process.node.exit(process.pid, KILL)


def stop(model: ClusterModel) -> None:
    process = model.random_process()
    if process is not None and process.me._handler is None:
        model.note(f"stop {process.node.name} {process.pid.id}")
        with model.cluster.machine(process.node):
            process.node.send(process.pid, STOP)


def send(model: ClusterModel) -> None:
    process, other = model.random_process(), model.random_pid()
    if process is not None and other is not None:
        with model.cluster.machine(process.node):
            for _ in range(model.random.choice((1, 3))):
                process.send_next(other)


def link(model: ClusterModel) -> None:
    process, other = model.random_process(), model.random_pid()
    if process is not None and other is not None:
        model.note(f"link {process.node.name} {process.pid.id} to {other.node.name} {other.id}")
        with model.cluster.machine(process.node):
            process.link(other)


def unlink(model: ClusterModel) -> None:
    process = model.random_process()
    if process is not None and process.links:
        other = model.random.choice(list(process.links))
        model.note(f"unlink {process.node.name} {process.pid.id} from {other.node.name} {other.id}")
        with model.cluster.machine(process.node):
            process.unlink(other)


def monitor(model: ClusterModel) -> None:
    process, other = model.random_process(), model.random_pid()
    if process is not None and other is not None:
        model.note(f"monitor {process.node.name} {process.pid.id}: {other.node.name} {other.id}")
        with model.cluster.machine(process.node):
            process.monitor(other)


def demonitor(model: ClusterModel) -> None:
    process = model.random_process()
    if process is not None:
        with model.cluster.machine(process.node):
            process.demonitor_random(model.random)
