"""What a message shares with what its sender holds: nothing that can change."""

import pytest
from hypothesis import given

from erlmesh.etf import encode_term
from erlmesh.terms import Atom, ImproperList, Map, Pid
from erlmesh.terms.copying import copy_term
from terms_strategy import terms

A = Atom("a")
PID = Pid(Atom("a@h"), 64, 0, 1)


def changeable(term):
    """Every list, dict and bytearray in the term, by identity."""
    if isinstance(term, (list, dict, bytearray)):
        yield id(term)
    if isinstance(term, (tuple, list)):
        parts = term
    elif isinstance(term, ImproperList):
        parts = (*term.elements, term.tail)
    elif isinstance(term, (dict, Map)):
        parts = [part for pair in term.items() for part in pair]
    else:
        parts = ()
    for part in parts:
        yield from changeable(part)


@given(terms)
def test_a_copy_is_the_same_term(term):
    assert encode_term(copy_term(term)) == encode_term(term)


@given(terms)
def test_a_copy_shares_nothing_that_can_change(term):
    assert not set(changeable(copy_term(term))) & set(changeable(term))


@pytest.mark.parametrize(
    "term",
    [
        [1, [2]],
        {A: [1]},
        bytearray(b"x"),
        (A, (PID, [1])),
        (A, bytearray(b"x")),
        [{A: {A: []}}],
        ImproperList(([1],), A),
        ImproperList((A,), ([1], 2)),
        Map({A: [1], b"b": {A: 1}}),
        Map([([1], [2])]),
    ],
    ids=repr,
)
def test_wherever_it_is_it_is_copied(term):
    copy = copy_term(term)

    assert copy == term
    assert list(changeable(term))
    assert not set(changeable(copy)) & set(changeable(term))


@pytest.mark.parametrize("term", [1, A, b"x", "x", PID, (), (A, 1, b"x"), 2**100, 1.5], ids=repr)
def test_what_cannot_change_is_the_same_object(term):
    assert copy_term(term) is term


def test_what_is_no_term_is_the_same_object_in_its_place():
    thing = object()

    assert copy_term(thing) is thing
    assert copy_term([thing])[0] is thing


def test_a_term_nested_without_end_is_no_endless_work():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    ring = []
    ring.append(ring)

    assert copy_term(deep) is deep
    assert copy_term(ring) is ring

    while deep:  # or its end would be one long recursion, too
        deep = deep.pop()
