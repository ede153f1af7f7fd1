"""Acknowledged delivery under faults, and wrong versions of it that these histories find."""

import pytest

from erlmesh.testing.loop import run
from simulation.mutants.delivery import DELIVERY_MUTANTS
from simulation.sharding.delivery_scenario import DIRECTED, random_history

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_in_a_random_history(seed):
    run(lambda: random_history(seed))


def test_a_seed_gives_the_same_history_again():
    assert run(lambda: random_history(3)) == run(lambda: random_history(3))


@pytest.mark.parametrize("history", DIRECTED, ids=lambda history: history.__name__)
def test_directed_history(history):
    run(history)


@pytest.mark.parametrize(("mutant", "history"), DELIVERY_MUTANTS, ids=lambda each: getattr(each, "description", ""))
def test_a_history_finds_a_wrong_version(mutant, history):
    run(history)

    with mutant.applied(), pytest.raises(AssertionError):
        run(history)
