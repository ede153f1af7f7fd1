"""Faults: the nemesis connects and disconnects nodes, pauses, kills and restarts them, and breaks the network."""

from __future__ import annotations

from erlmesh.services.pg.server import Pg
from simulation.model import LATE, ClusterModel
from simulation.processes import GroupModel

__all__ = [
    "connect_both_ways",
    "cut",
    "cut_one_way",
    "disconnect",
    "disconnect_and_reconnect",
    "half_open",
    "heal",
    "kill",
    "partition",
    "pause",
    "ping",
    "power_failure",
    "reset",
    "restart",
    "resubscribe",
    "resume",
    "start_late_scope",
    "stop",
]


def start_late_scope(model: ClusterModel) -> None:
    node_runs = [node_run for node_run in model.unpaused() if "late" not in node_run.scopes]
    if node_runs:
        node_run = model.random.choice(node_runs)
        model.note(f"late scope {node_run.node.name}")
        with model.cluster.machine(node_run.node):
            model.open_scope(node_run, "late", Pg(node_run.node.internals, LATE))


def resubscribe(model: ClusterModel) -> None:
    node_run = model.random_node_run()
    if node_run is not None:
        group_model = model.random.choice(node_run.group_models)
        group_model.close()
        with model.cluster.machine(node_run.node):
            node_run.group_models.append(GroupModel(group_model.pg, model.note, f"{node_run.node.name} again"))


# Connections


def ping(model: ClusterModel) -> None:
    pair = model.random_pair()
    if pair is not None:
        one, other = pair
        model.run_in_background(one.node, "ping", lambda: one.node.ping(other.node.name))


def connect_both_ways(model: ClusterModel) -> None:
    pair = model.random_pair()
    if pair is not None:
        model.connect(*pair)
        if pair[1] in model.unpaused():
            model.connect(pair[1], pair[0])


def disconnect(model: ClusterModel) -> None:
    pair = model.random_pair()
    if pair is not None:
        model.note(f"{pair[0].node.name} disconnects {pair[1].node.name}")
        with model.cluster.machine(pair[0].node):
            pair[0].node.disconnect(pair[1].node.name)


def disconnect_and_reconnect(model: ClusterModel) -> None:
    disconnect(model)
    connect_both_ways(model)


# Machines


def pause(model: ClusterModel) -> None:
    if len(model.unpaused()) > 1:
        model.cluster.pause(model.random.choice(model.unpaused()).node)


def resume(model: ClusterModel) -> None:
    paused = [node_run for node_run in model.node_runs.values() if model.cluster.is_paused(node_run.node)]
    if paused:
        model.cluster.resume(model.random.choice(paused).node)


def kill(model: ClusterModel, *, silently: bool = False) -> None:
    if len(model.node_runs) > 1:
        name = model.random.choice(list(model.node_runs))
        model.cluster.kill(name, silently=silently)
        model.node_stopped(name)


def power_failure(model: ClusterModel) -> None:
    kill(model, silently=True)


async def stop(model: ClusterModel) -> None:
    node_run = model.random_node_run()
    if node_run is not None and len(model.node_runs) > 1:
        model.discard_critical_sections(node_run)
        await model.cluster.stop(node_run.node)
        model.node_stopped(node_run.node.name)


async def restart(model: ClusterModel) -> None:
    if model.stopped_nodes:
        name = model.stopped_nodes.pop(model.random.randrange(len(model.stopped_nodes)))
        others = list(model.node_runs)
        join = [model.random.choice(others)] if others and model.random.random() < 0.7 else []
        await model.start_node(name, join=join)


# Network


def cut(model: ClusterModel, *, both: bool = True) -> None:
    pair = model.random_pair()
    if pair is not None:
        model.cluster.cut(pair[0].node, pair[1].node, both=both)


def cut_one_way(model: ClusterModel) -> None:
    cut(model, both=False)


def partition(model: ClusterModel) -> None:
    names = list(model.node_runs)
    model.random.shuffle(names)
    split = model.random.randrange(len(names))
    model.cluster.partition(names[:split], names[split:])


def heal(model: ClusterModel) -> None:
    cuts = model.cluster.cuts()
    if cuts:
        if model.random.random() < 0.5:
            model.cluster.heal()
        else:
            model.cluster.heal(*model.random.choice(cuts))


def reset(model: ClusterModel) -> None:
    pair = model.random_pair()
    if pair is not None:
        model.cluster.reset(pair[0].node, pair[1].node)


def half_open(model: ClusterModel) -> None:
    pair = model.random_pair()
    if pair is not None:
        model.cluster.half_open(pair[0].node, pair[1].node)
