"""States in shards under faults."""

import pytest

from erlmesh.testing.loop import run
from simulation.sharding.state_directed import DIRECTED
from simulation.sharding.state_scenario import random_history


@pytest.mark.parametrize("seed", range(4))
def test_no_acknowledged_message_is_lost_in_a_random_history(seed):
    run(lambda: random_history(seed))


@pytest.mark.parametrize("history", DIRECTED, ids=lambda history: history.__name__)
def test_directed_history(history):
    run(history)
