"""Detects that a cluster is complete and has no operation in progress, and helps it to get there."""

from __future__ import annotations

import asyncio
from typing import Final

from simulation.invariants import check_invariants
from simulation.model import ClusterModel, NodeRun

__all__ = ["describe_state", "is_quiescent", "reconnect_all", "wait_for_quiescence"]

RECOVERY_TIMEOUT: Final = 600.0
"""Virtual seconds after which a healed cluster must be quiescent."""


async def wait_for_quiescence(model: ClusterModel, *, times: int = 3) -> None:
    """Wait until ``times`` checks in a row, one tick time apart, find the cluster quiescent.

    Raises InvariantViolation after ``RECOVERY_TIMEOUT``.
    """
    started = model.cluster.now()
    quiescent_rounds = 0
    while quiescent_rounds < times:  # a half-open connection is detected within 1.25 tick times
        await asyncio.sleep(model.net_ticktime)
        check_invariants(model)
        quiescent_rounds = quiescent_rounds + 1 if is_quiescent(model) else 0
        if not model.reconnect:
            reconnect_all(model)
        if model.cluster.now() - started > RECOVERY_TIMEOUT + 10 * model.net_ticktime:
            model.record_violation(f"not quiescent after {model.cluster.now() - started:g} s: {describe_state(model)}")
            check_invariants(model)


def is_quiescent(model: ClusterModel) -> bool:
    """True if all nodes are connected and synchronized by global, and no background operation is pending."""
    return (
        model.cluster.is_complete()
        and not model.pending
        and all(_is_synced(model, node_run) for node_run in model.node_runs.values())
    )


def _is_synced(model: ClusterModel, node_run: NodeRun) -> bool:
    statistics = node_run.node.global_.statistics()
    others = len(model.node_runs) - 1
    return len(statistics.known) == others and len(statistics.synced) == others and not statistics.in_session


def describe_state(model: ClusterModel) -> str:
    nodes = {
        node_run.node.name: (node_run.node.nodes(), node_run.node.global_.statistics())
        for node_run in model.node_runs.values()
    }
    return f"{nodes} {list(model.pending.values())}"


def reconnect_all(model: ClusterModel) -> None:
    """Connect the nodes as a user or discovery does: once with reconnection enabled, else each missing connection."""
    if model.reconnect:
        first, *others = model.node_runs.values()
        for node_run in others:
            with model.cluster.machine(node_run.node):
                node_run.node.internals.keep_connecting(first.node.name)
        return
    for one in model.node_runs.values():
        for other in model.node_runs.values():
            if one.node.name < other.node.name and other.node.name not in one.node.nodes():
                model.connect(one, other)
