"""A copied message shares no mutable part with the original."""

import pytest
from hypothesis import given

from erlmesh.etf import encode_term
from erlmesh.terms import Atom, ImproperList, Map, Pid
from erlmesh.terms.copying import copy_term
from terms_strategy import terms

A = Atom("a")
PID = Pid(Atom("a@h"), 64, 0, 1)


def mutable_parts(term):
    """Yield the id of every list, dict and bytearray in the term."""
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
        yield from mutable_parts(part)


@given(terms)
def test_a_copy_encodes_as_the_same_term(term):
    assert encode_term(copy_term(term)) == encode_term(term)


@given(terms)
def test_a_copy_shares_no_mutable_part(term):
    assert not set(mutable_parts(copy_term(term))) & set(mutable_parts(term))


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
def test_mutable_parts_are_copied_at_any_place(term):
    copy = copy_term(term)

    assert copy == term
    assert list(mutable_parts(term))
    assert not set(mutable_parts(copy)) & set(mutable_parts(term))


@pytest.mark.parametrize("term", [1, A, b"x", "x", PID, (), (A, 1, b"x"), 2**100, 1.5], ids=repr)
def test_an_immutable_term_is_the_same_object(term):
    assert copy_term(term) is term


def test_an_object_that_is_not_a_term_is_shared():
    thing = object()

    assert copy_term(thing) is thing
    assert copy_term([thing])[0] is thing


def test_a_too_deep_or_cyclic_term_is_shared():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    ring = []
    ring.append(ring)

    assert copy_term(deep) is deep
    assert copy_term(ring) is ring

    while deep:  # otherwise freeing it would recurse as deep
        deep = deep.pop()
