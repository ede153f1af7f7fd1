"""The input that the coverage-guided fuzzer has found, and its seeds, break no promise of any target.

Each file of ``tests/fuzz/corpus`` reaches code that the others do not reach. Input that once failed is there, too.
"""

from pathlib import Path

import pytest

from fuzz.guided_names import NAMES
from fuzz.seeds import SEEDS, mutate_actions
from fuzz.targets import TARGETS
from fuzz.targets.services import parse

CORPUS = Path(__file__).parents[1] / "fuzz/corpus"


@pytest.mark.slow
@pytest.mark.parametrize("target", NAMES)
def test_known_input_breaks_no_promise(target):
    files = sorted((CORPUS / target).iterdir())
    assert files
    for data in [*SEEDS[target](), *(file.read_bytes() for file in files)]:
        try:
            TARGETS[target](data)
        except BaseException as error:
            error.add_note(f"{target}: {data!r}")
            raise


def test_every_target_has_a_name_and_seeds():
    assert set(NAMES) == set(TARGETS) == set(SEEDS)


def test_changed_actions_are_actions():
    data = SEEDS["services"]()[0]
    for seed in range(200):
        data = mutate_actions(data, 2_000, seed)
        assert len(data) <= 2_000
    assert parse(data)
