"""Maps, and exact keys, which distinguish terms as Erlang does."""

import pickle
from enum import IntEnum
from itertools import combinations

import pytest
from hypothesis import given

from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, exact_key
from terms_strategy import terms

A = Atom("a@127.0.0.1")
PID = Pid(A, 1, 0, 1)


class Colour(IntEnum):
    RED = 1


DIFFERENT = [
    1, 1.0, True, 0, 0.0, -0.0, False, -1, 2**61 - 1, 2**61, 2**4000, Atom("1"), b"1", b"", Atom(""), [], (), Map(),
    [1], [1.0], [True], (1,), (1.0,), (True,), ((1,),), ([1],), [(1,)], [[1]], [1, []], ImproperList((1,), 1),
    ImproperList((1, 1), 1), ImproperList((1.0,), 1), ImproperList((1,), 1.0), Map({1: 1}), Map({1.0: 1}),
    Map({1: 1.0}), Map({True: 1}), Map({1: Map()}),
    Map([([1], 1)]), Map([((1,), 1)]), BitString(b"\x80", 1), BitString(b"\x80", 2), b"\x80", PID, Pid(A, 1, 0, 2),
    Pid(A, 1, 1, 0), Port(A, 1, 1),
    Ref(A, 1, (1,)), Ref(A, 1, (1, 1)), Export(A, A, 1), Fun(1, bytes(16), 0, A, 0, 0, PID, ()), Fun(1, bytes(16),
    0, A, 0, 0, PID, (1,)),
    Fun(1, bytes(16), 0, A, 0, 0, PID, (1.0,)), (PID, 1), (PID, 1.0),
    [PID, 1], [Port(A, 1, 1)], [Ref(A, 1, (1,))], [Export(A, A, 1)], [BitString(b"\x80", 1)],
    [2**61], [b"1"], [Atom("1")], [b"1", b"2"], [b"12"], [Atom("1"), Atom("2")],
    Fun(1, bytes(16), 1, A, 0, 0, PID, ()), Fun(1, bytes(16), 0, A, 0, 1, PID, ()),
    Fun(1, bytes(16), 0, Atom("1"), 0, 0, PID, ()),
]  # fmt: skip

SAME = [
    (True, Atom("true")),
    (False, Atom("false")),
    ("é", "é".encode()),
    (bytearray(b"x"), b"x"),
    (memoryview(b"x"), b"x"),
    (Colour.RED, 1),
    (Fun(1, bytes(16), 0, A, 0, 0, PID, (1,)), Fun(2, b"x" * 16, 0, A, 3, 0, Pid(A, 2, 0, 1), (1,))),
    ({"a": 1}, Map({b"a": 1})),
    ({1: [True], 2: ()}, Map([(2, ()), (1, [Atom("true")])])),
    ((True, "a"), (Atom("true"), b"a")),
    (([True], "a"), ([Atom("true")], b"a")),
    ({Atom("a"): {Atom("b"): 1}}, Map({Atom("a"): Map({Atom("b"): 1})})),
]


def test_terms_that_differ_in_erlang_have_different_keys():
    for one, other in combinations(DIFFERENT, 2):
        assert exact_key(one) != exact_key(other), (one, other)
        assert exact_key((one, [one])) != exact_key((other, [other])), (one, other)
        assert len(Map([(one, 1), (other, 2)])) == 2


@pytest.mark.parametrize(("one", "other"), SAME)
def test_terms_that_are_equal_in_erlang_have_equal_keys(one, other):
    assert exact_key(one) == exact_key(other)
    assert hash(exact_key(one)) == hash(exact_key(other))
    assert exact_key([one, (one,)]) == exact_key([other, (other,)])
    assert len(Map([(one, 1), (other, 2)])) == 1


@pytest.mark.parametrize("term", [Atom("a"), b"x", PID, Ref(A, 1, (1,)), (Atom("a"), b"x", PID)])
def test_a_simple_term_is_its_own_key(term):
    assert exact_key(term) == term


def test_a_key_is_never_equal_to_another_term():
    for term in DIFFERENT:
        assert exact_key(exact_key(term) if type(exact_key(term)) is not tuple else b"") is not None
    assert exact_key(1.0) != (1.0,)


def test_integers_that_python_hashes_alike_do_not_collide():
    modulus = 2**61 - 1

    assert len({hash(exact_key(number * modulus)) for number in range(2, 100)}) > 90


@pytest.mark.parametrize("value", [None, object(), [None], {1: object()}, {1, 2}])
def test_a_value_that_is_not_a_term_has_no_key(value):
    with pytest.raises(TypeError, match="not an Erlang term"):
        exact_key(value)


def test_a_value_that_contains_itself_has_no_key():
    endless, pairs = [1], {}
    endless.append((endless,))
    pairs["key"] = ImproperList((1, pairs), 2)

    for value in (endless, (endless,), [Map([(1, endless)])]):
        with pytest.raises(TypeError, match=r"^a list that contains itself is not an Erlang term$"):
            exact_key(value)
    with pytest.raises(TypeError, match=r"^a dict that contains itself is not an Erlang term$"):
        exact_key(pairs)


def test_a_list_that_occurs_several_times_has_a_key():
    part = [1, 2]

    assert exact_key([part, (part, {1: part}), part]) == exact_key([[1, 2], ([1, 2], {1: [1, 2]}), [1, 2]])


@given(terms)
def test_every_term_has_a_stable_key(term):
    assert exact_key(term) == exact_key(term)
    assert exact_key([term]) == exact_key([term])


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_map_has_the_same_keys(protocol):
    m = Map([(1, "int"), (1.0, "float"), ("text", 2), ([1], "list")])

    read = pickle.loads(pickle.dumps(m, protocol))

    assert read == m
    assert [read[1], read[1.0], read[b"text"], read[[1]]] == ["int", "float", 2, "list"]


def test_a_map_distinguishes_keys_as_erlang_does():
    m = Map([(1, "int"), (1.0, "float"), (True, "true"), ([1], "list"), (Map({1: 2}), "map")])

    assert [m[1], m[1.0], m[True], m[[1]], m[{1: 2}]] == ["int", "float", "true", "list", "map"]
    assert m[Atom("true")] == "true"
    assert list(m) == [1, 1.0, True, [1], Map({1: 2})]
    assert [type(key) for key in m] == [int, float, bool, list, Map]
    assert len(m) == 5
    assert list(m.values()) == ["int", "float", "true", "list", "map"]
    assert list(m.items())[3] == ([1], "list")


def test_a_map_keeps_insertion_order_and_the_last_value_of_a_key():
    m = Map([(2, "a"), (1, "b"), (2, "c")])

    assert list(m.items()) == [(2, "c"), (1, "b")]


def test_a_missing_key_raises_key_error_even_if_it_is_not_a_term():
    m = Map({1: 2})

    with pytest.raises(KeyError):
        m[2]
    with pytest.raises(KeyError):
        m[None]
    assert m.get(1.0) is None
    assert None not in m
    assert 1.0 not in m
    assert 1 in m


def test_maps_are_equal_if_their_pairs_are_the_same_terms_in_any_order():
    one = Map([(1, [True]), ("k", 2)])

    assert one == one  # noqa: PLR0124
    assert one == Map([(b"k", 2), (1, [Atom("true")])])
    assert one == {"k": 2, 1: [True]}
    assert one != {"k": 2, 1: [1]}
    assert one != {"k": 2}
    assert one != {"k": 2, 1: None}
    assert one != 5
    assert hash(one) == hash(Map([(b"k", 2), (1, [Atom("true")])]))
    assert Map({1: 1}) != Map({1: 1.0})


def test_from_distinct_returns_none_for_duplicate_keys():
    assert Map.from_distinct([1, 1.0], [2, 3]) == Map([(1, 2), (1.0, 3)])
    assert Map.from_distinct([1, 1], [2, 3]) is None
    assert Map.from_distinct([True, Atom("true")], [2, 3]) is None


@pytest.mark.slow
def test_very_deep_terms_have_keys_and_hashes():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    m = Map([(deep, 1)])

    assert exact_key(deep) == exact_key(deep)
    assert m[deep] == 1
    assert hash(m) == hash(Map([(deep, 1)]))


def test_the_digest_of_a_map_inside_a_key_is_cached():
    deep = Map()
    for _ in range(20_000):
        deep = Map([((deep,), 1), (1, 2)])

    assert len(deep) == 2
