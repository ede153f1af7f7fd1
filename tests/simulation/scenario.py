"""A random scenario: it starts a cluster, runs weighted random actions, checks invariants, and recovers at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from erlmesh.testing.loop import run
from simulation import nemesis, process_actions, recovery, service_actions
from simulation.invariants import check_invariants
from simulation.model import ClusterModel

__all__ = ["Scenario", "run_scenario"]

ACTIONS: Final[list[tuple[int, Callable[[ClusterModel], Any]]]] = [
    (6, process_actions.spawn), (8, process_actions.join), (4, process_actions.leave), (3, process_actions.kill),
    (3, process_actions.stop),
    (5, process_actions.send), (4, process_actions.link), (2, process_actions.unlink), (4, process_actions.monitor),
    (2, process_actions.demonitor),
    (4, nemesis.ping), (2, nemesis.connect_both_ways), (1, nemesis.disconnect), (1, nemesis.disconnect_and_reconnect),
    (2, nemesis.start_late_scope), (1, nemesis.resubscribe),
    (3, service_actions.change_pg2_group), (3, service_actions.change_global_name), (3, service_actions.take_lock),
    (2, nemesis.pause), (3, nemesis.resume), (1, nemesis.kill), (1, nemesis.power_failure), (1, nemesis.stop),
    (3, nemesis.restart),
    (2, nemesis.cut), (2, nemesis.cut_one_way), (1, nemesis.partition), (4, nemesis.heal), (2, nemesis.reset),
    (2, nemesis.half_open),
]  # fmt: skip
"""The actions with their weights. Their order and number determine the history of a seed."""


class Scenario:
    """One scenario. Call :meth:`run` once, on a :class:`~erlmesh.testing.loop.SimulatedLoop`.

    ``actions`` and ``final_checks`` are the numbers of actions and of final checks.
    """

    def __init__(self, seed: int, *, nodes: int | None = None, actions: int = 40, final_checks: int = 3) -> None:
        self.model = ClusterModel(seed, nodes)
        self.actions = actions
        self.final_checks = final_checks
        self.virtual_seconds = 0.0
        """Duration of the scenario, set when it ends."""

    async def run(self) -> str:
        """Run the scenario. Returns the fingerprint of its history, or raises InvariantViolation."""
        model = self.model
        try:
            async with model.collecting_errors(), model.cluster:
                await self._start_cluster()
                for _ in range(self.actions):
                    await self._run_action()
                    await self._advance_time()
                    check_invariants(model)
                await recovery.recover(model)
                await recovery.compare_views(model, final_checks=self.final_checks)
                await recovery.check_no_leaks(model)
                return model.cluster.digest()
        finally:
            self.virtual_seconds = model.cluster.now()

    async def _start_cluster(self) -> None:
        model = self.model
        for index in range(model.node_count):
            await model.start_node(chr(ord("a") + index))
        for node_run in list(model.node_runs.values())[1:]:
            if model.random.random() < 0.8:
                model.connect(node_run, model.random.choice(list(model.node_runs.values())))

    async def _run_action(self) -> None:
        (chosen,) = self.model.random.choices([action for _, action in ACTIONS], [weight for weight, _ in ACTIONS])
        result = chosen(self.model)
        if asyncio.iscoroutine(result):
            await result

    async def _advance_time(self) -> None:
        rng, tick = self.model.random, self.model.net_ticktime
        kind = rng.random()
        if kind < 0.25:
            return
        longest = 0.01 if kind < 0.5 else 0.3 if kind < 0.75 else 3.0 if kind < 0.92 else tick * 1.5
        await asyncio.sleep(rng.uniform(0.0, longest))


def run_scenario(seed: int, **options: Any) -> str:
    """Run one scenario in a new loop. Returns the fingerprint of its history. Raises InvariantViolation."""
    return run(Scenario(seed, **options).run)
