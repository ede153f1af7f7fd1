"""A multiset, small or large, holds the same values as a list."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.services.multiset import (
    EMPTY,
    added,
    as_tuple,
    counts,
    listed,
    removed,
    removed_each,
    shareable,
    size,
)

values = st.integers(0, 14)
actions = st.lists(st.tuples(st.booleans(), st.lists(values, min_size=1, max_size=12)), max_size=40)


@given(actions)
def test_multiset_equals_a_list_model(actions):
    bag, model = EMPTY, Counter()

    for puts, some in actions:
        if puts:
            bag = added(bag, some)
            model.update(some)
            continue
        for value in some:
            rest = removed(bag, value)
            assert (rest is None) == (model[value] == 0)
            if rest is not None:
                bag = rest
                model[value] -= 1

    assert Counter(listed(bag)) == +model == Counter(dict(counts(bag)))
    assert size(bag) == model.total()
    assert bool(bag) == bool(+model)


@given(st.lists(values, unique=True))
def test_newest_value_comes_first(some):
    bag = EMPTY

    for value in some:
        bag = added(bag, [value])

    assert listed(bag) == some[::-1]


def test_values_added_together_keep_their_order():
    assert listed(added(added(EMPTY, [9]), [1, 2])) == [1, 2, 9]
    assert listed(added(added(EMPTY, [99]), range(20))) == [*range(20), 99]


def test_values_added_to_an_empty_multiset_are_kept_as_a_tuple():
    values = tuple(range(1000))

    assert added(EMPTY, values) is values
    assert as_tuple(values) is shareable(values) is values


@pytest.mark.parametrize("size", [3, 20])
def test_change_of_a_multiset_does_not_change_a_shared_one(size):
    first = added(added(EMPTY, range(size)), [99])
    second = shareable(first)

    removed_each(first, [99, 0])

    assert listed(second) == [99, *range(size)]


def test_values_that_are_not_there_are_searched_in_a_dict():
    found, rest = removed_each(tuple(range(1000)), [5000])

    assert found == []
    assert isinstance(rest, dict)
    assert listed(rest) == list(range(1000))


def test_small_multiset_is_immutable():
    bag = added(EMPTY, [1, 2])

    added(bag, [3])
    removed(bag, 1)

    assert listed(bag) == [1, 2]


def test_value_added_again_to_a_large_multiset_is_the_newest():
    assert listed(added(added(EMPTY, range(20)), [7]))[:2] == [7, 7]


def test_large_multiset_becomes_empty():
    bag = added(EMPTY, range(20))

    for value in range(20):
        bag = removed(bag, value)

    assert not bag
    assert removed(bag, 1) is None
