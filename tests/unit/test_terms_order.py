"""Erlang's standard order of terms. Tests in tests/otp compare it with OTP."""

import random
from itertools import pairwise

import pytest

from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, sort_key

A, B = Atom("a@host"), Atom("b@host")
PID = Pid(A, 1, 0, 1)

ASCENDING = [
    -(2**70), -1, 0, 0.5, 1, 1.5, 2**53, 2.0**53 + 2, 2**70,
    Atom(""), Atom("a"), False, True, Atom("é"), Atom("😀"),
    Ref(A, 1, (9,)), Ref(A, 1, (1, 1, 1)), Ref(A, 1, (2, 1, 1)), Ref(A, 1, (1, 2, 1)), Ref(A, 1, (1, 1, 2)),
    Ref(A, 2, (0, 0, 0)), Ref(B, 1, (1, 1, 1)),
    Fun(1, bytes(16), 0, A, 9, 0, PID, ()), Fun(1, bytes(16), 0, A, 0, 1, PID, ()),
    Fun(1, bytes(16), 1, A, 0, 0, PID, (2,)), Fun(1, bytes(16), 1, A, 0, 0, PID, (1, 1)),
    Export(A, A, 1), Export(A, A, 2), Export(A, B, 0), Export(B, A, 0),
    Port(A, 2, 1), Port(A, 1, 2), Port(B, 1, 1),
    PID, Pid(A, 1, 0, 2), Pid(B, 1, 0, 1), Pid(A, 2, 0, 1), Pid(A, 1, 1, 1),
    (), (1,), (2,), (1, 1), ((1,), 1), ([], 1),
    Map(), Map({1: 5}), Map({1: 6}), Map({2: 0}), Map({1.0: 0}), Map({Atom("a"): 0}), Map({1: 0, 2: 0}),
    Map({1: 0, 2.0: 0}),
    [], ImproperList((1,), 2), [1], ImproperList((1, 1), Atom("x")), [1, 1], [1, 2], ImproperList((1,), b""), [2],
    b"", b"a", b"aa", BitString(b"aa\x80", 1), BitString(b"aa\x80", 2), b"aa\x80", b"ab",
]  # fmt: skip


def test_terms_sort_as_in_erlang():
    shuffled = ASCENDING.copy()
    random.Random(1).shuffle(shuffled)

    assert list(map(repr, sorted(shuffled, key=sort_key))) == list(map(repr, ASCENDING))


def test_all_keys_are_different():
    assert all(sort_key(smaller) < sort_key(greater) for smaller, greater in pairwise(ASCENDING))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.0, -0.0),
        ((1, [2.0]), (1.0, [2])),
        ("a", b"a"),
        (True, Atom("true")),
        ({1: 2}, Map({1: 2.0})),
        (bytearray(b"a"), memoryview(b"a")),
    ],
)
def test_terms_that_are_equal_by_value_have_equal_keys(one, other):
    assert sort_key(one) == sort_key(other)


@pytest.mark.parametrize("value", [None, object(), [None]])
def test_a_value_that_is_not_a_term_has_no_sort_key(value):
    with pytest.raises(TypeError, match="not an Erlang term"):
        sort_key(value)


def test_a_value_that_contains_itself_has_no_sort_key():
    endless, pairs = [1], {}
    endless.append((endless,))
    pairs["key"] = pairs

    with pytest.raises(TypeError, match=r"^a list that contains itself is not an Erlang term$"):
        sort_key(({1: endless},))
    with pytest.raises(TypeError, match=r"^a dict that contains itself is not an Erlang term$"):
        sort_key([pairs])


def test_a_list_that_occurs_several_times_has_a_sort_key():
    part = [1, 2]

    assert sort_key([part, (part, {1: part}), part]) == sort_key([[1, 2], ([1, 2], {1: [1, 2]}), [1, 2]])


@pytest.mark.slow
def test_a_very_deep_term_has_a_sort_key():
    deep = []
    for _ in range(200_000):
        deep = [deep]

    assert sort_key(deep) > sort_key([])
