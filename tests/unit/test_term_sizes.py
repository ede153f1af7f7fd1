"""The estimate of the bytes that a term occupies."""

import pytest

from erlmesh.terms import Atom, ImproperList, Map
from erlmesh.terms.sizes import PART, term_size

LONG = bytes(1_000)


@pytest.mark.parametrize(
    ("term", "size"),
    [
        (b"", PART),
        (LONG, PART + 1_000),
        ("€", PART + 1),
        (memoryview(LONG), PART + 1_000),
        (Atom("a"), PART),
        (1 << 8_000, PART + 1_000),
        ((1, LONG), 3 * PART + 1_000),
        ([LONG, [LONG]], 4 * PART + 2_000),
        ({"k": LONG}, 3 * PART + 1_001),
        (Map({b"k": LONG}), 3 * PART + 1_001),
        (ImproperList((LONG,), LONG), 3 * PART + 2_000),
        (object(), PART),
    ],
    ids=lambda value: type(value).__name__,
)
def test_binaries_count_with_all_their_bytes(term, size):
    assert term_size(term) == size


def test_a_term_of_any_depth_is_measured():
    term = LONG
    for _ in range(100_000):
        term = [term]

    assert term_size(term) == 100_001 * PART + 1_000
