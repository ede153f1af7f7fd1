"""The elements of a message are counted before it is decoded."""

import time
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.errors import DecodeError
from erlmesh.etf import encode_term
from erlmesh.etf.decode import decode_term
from erlmesh.etf.element_count import (
    ATOM_SURCHARGE,
    ELEMENTS_OF_PAIR,
    KEY_SURCHARGE,
    LONG_KEY_SURCHARGE,
    MAP_SURCHARGE,
    RARE_SURCHARGE,
    SHORT_KEY,
    SLICE_BYTES,
    first_beyond,
    first_beyond_in_slices,
)
from erlmesh.proto.channel import ELEMENT_LIMIT
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref
from terms_strategy import terms

A = Atom("a@127.0.0.1")
PID = Pid(A, 1, 2, 3)


def announced(data, offset=0):
    """The least limit that lets the data pass."""
    limit = -1
    while True:
        limit += 1
        if first_beyond(data, offset, limit) is None:
            return limit


@pytest.mark.parametrize(
    ("term", "count"),
    [
        (1, 0),
        ([], 0),
        ((), 0),
        ((1, 2), 2),
        ([[]], 2),  # the element and the tail
        ([1, 1000, 2.0, A, b"x" * 999, 1 << 70, -(1 << 3000)], 8 + ATOM_SURCHARGE + RARE_SURCHARGE),
        (ImproperList((A,), A), 2 + 2 * ATOM_SURCHARGE),
        ({1: 2}, ELEMENTS_OF_PAIR + MAP_SURCHARGE),
        (Map([([1.0], 2)]), 2 + KEY_SURCHARGE + ELEMENTS_OF_PAIR + MAP_SURCHARGE),
        (tuple([PID] * 300), 300 * (1 + ATOM_SURCHARGE)),
        (
            (PID, Port(A, 1, 2), Port(A, 1 << 40, 2), Ref(A, 1, (1,)), Ref(A, 1, (1, 2, 3, 4, 5)), A),
            6 + 2 * RARE_SURCHARGE + 4 * ATOM_SURCHARGE,
        ),
        ((Export(A, A, 2), BitString(b"\x80", 1), True), 3 + 2 * RARE_SURCHARGE + 3 * ATOM_SURCHARGE),
        ((Fun(1, bytes(16), 0, A, 0, 5, PID, (A, [])), 1), 2 + 4 + 2 + RARE_SURCHARGE + 3 * ATOM_SURCHARGE),
        ([0] * 160, 10),  # a list of bytes
        ([0] * 161, 11),
    ],
    ids=lambda value: str(value)[:30],
)
def test_each_part_of_a_term_is_an_element(term, count):
    assert announced(encode_term(term) + encode_term(b"")) == count
    assert announced(b"\x83" + encode_term(term) + b"\x83" + encode_term((1, 2))) == count + 2


def test_old_identifiers_are_passed_over():
    node = b"d\x00\x03a@h"
    old = [b"g" + node + bytes(9), b"f" + node + bytes(5), b"e" + node + bytes(5), b"r\x00\x02" + node + bytes(9)]
    old += [b"s\x01a", b"c" + b"0" * 31, b"o\x00\x00\x00\x02\x00\x01\x01", b"i\x00\x00\x00\x01j"]

    assert announced(b"".join(old) + b"h\x07") == 8 + 6 * RARE_SURCHARGE + ATOM_SURCHARGE


def test_a_long_run_of_leaves_is_counted_like_a_short_one():
    run = [7, 70_000, 1.5, [], (1,)]
    atoms = {A: 0}
    tail = [Ref(A, 1, (1, 2, 3)), PID, [1, 2.5]]
    short, long = (encode_term([*run * times, *tail], atoms) for times in (2, 100))

    assert announced(long) - announced(short) == 98 * (len(run) + 1)  # also the element of the tuple


@pytest.mark.parametrize("data", [b"", b"l\x00", b"m\x00\x00\x00\xff", b"Z\x00", b"P", b"h\x02\xff", b"p\x00", b"XPPP"])
def test_invalid_data_is_left_to_the_decoder(data):
    assert first_beyond(data, 0, 2) is None

    with pytest.raises(DecodeError):
        decode_term(data, 0)


def test_a_false_count_is_refused_without_a_look_at_the_rest():
    assert first_beyond(b"h\x01l\xff\xff\xff\xff", 0, 100) == 2


@given(terms, st.integers(0, 3))
def test_the_count_ends_with_the_data(term, extra):
    data = encode_term(term)
    count = announced(data)

    assert announced(data + encode_term((1,) * extra)) == count + extra


def test_atoms_that_are_spelt_out_cost_more_than_references_to_the_cache():
    atoms = [Atom(f"a{number}") for number in range(100)]

    assert announced(encode_term(atoms)) == 101 + 100 * ATOM_SURCHARGE
    assert announced(encode_term(atoms, {atom: number for number, atom in enumerate(atoms)})) == 101


PAIR = MAP_SURCHARGE + ELEMENTS_OF_PAIR


@pytest.mark.parametrize(
    ("term", "count"),
    [
        (((1,), Map([(1, (2,))])), 2 + 1 + PAIR + 1),
        (((1,), Map([((2,), 1)]), (3,)), 3 + 1 + PAIR + 1 + KEY_SURCHARGE + 1),
        (Map([(((),), ())]), PAIR + 1 + 2 * KEY_SURCHARGE),
        (Map([(1, (2,)), ((3,), 4), (5, [])]), PAIR + 2 * ELEMENTS_OF_PAIR + 1 + 1 + KEY_SURCHARGE),
        (Map([(Map([(1, (2,))]), (3,))]), 2 * PAIR + 1 + 2 * KEY_SURCHARGE + 1),  # a value within a key is in the key
        (Map([(Map(), Map())]), PAIR + 2 * MAP_SURCHARGE + KEY_SURCHARGE),
        (Map([(ImproperList((1,), (2,)), 3)]), PAIR + 2 + 1 + 2 * KEY_SURCHARGE),
        (
            Map([(PID, (3,)), (Export(A, A, 2), (4,))]),
            PAIR + ELEMENTS_OF_PAIR + 2 + 3 * ATOM_SURCHARGE + RARE_SURCHARGE,
        ),
        (
            Map([(Fun(1, bytes(16), 0, A, 0, 5, PID, ((1,),)), (3,))]),
            PAIR + RARE_SURCHARGE + 4 + 1 + 1 + 2 * KEY_SURCHARGE + 1 + 2 * ATOM_SURCHARGE,
        ),
        ([Map([(b"a", (1,))]), Map([(b"b", (1,))])], 3 + 2 * (PAIR + 1)),
        (Map([(tuple([0] * 300), 1)]), PAIR + 300 + KEY_SURCHARGE + (300 - SHORT_KEY) * LONG_KEY_SURCHARGE),
    ],
    ids=range(11),
)
def test_only_the_containers_in_keys_count_for_more(term, count):
    assert announced(encode_term(term) + encode_term((1,))) == count + 1
    assert announced(b"\x83" + encode_term(term) + b"\x83" + encode_term((1,))) == count + 1


def cpu_seconds(data):
    """The CPU time to decode the data, the shorter one of two."""
    seconds = []
    for _ in range(2):
        start = time.thread_time()
        _, end = decode_term(data, 0)
        seconds.append(time.thread_time() - start)
        assert end == len(data)
    return min(seconds)


def of_length(count):
    return count.to_bytes(4, "big")


ONE = of_length(1)
NESTED_KEYS = {
    "maps": lambda times: (b"t" + ONE) * times + b"j" + b"j" * times,
    "tuples": lambda times: (b"t" + ONE + b"h\x01") * times + b"j" + b"j" * times,
    "lists": lambda times: (b"t" + ONE + b"l" + ONE) * times + b"j" + b"jj" * times,
    "second keys": lambda times: (b"t" + of_length(2) + b"jh\x00h\x01") * times + b"j" + b"j" * times,
    "lists in a list of maps": lambda times: (
        b"l" + of_length(times) + (b"t" + ONE + b"l" + ONE + b"jjj") * times + b"j"
    ),
}


@pytest.mark.parametrize("kind", NESTED_KEYS)
def test_containers_in_keys_count_for_the_time_that_they_take(kind):
    """The bound is generous: a key costs about three times as much for each element as a flat list."""
    elements = 60_000
    each = -(-announced_quickly(NESTED_KEYS[kind](100)) // 100)
    data = NESTED_KEYS[kind](elements // each)
    flat = b"l" + of_length(elements) + b"j" * (elements + 1)

    assert elements * 0.8 < announced_quickly(data) < elements * 1.1
    assert cpu_seconds(data) < 12 * cpu_seconds(flat)


def announced_quickly(data):
    """The least limit that lets the data pass."""
    return bisect_left(range(8 * len(data)), True, key=lambda limit: first_beyond(data, 0, limit) is None)


def test_a_hundred_thousand_ordinary_maps_of_two_pairs_pass():
    pairs = b"R\x01m" + of_length(3) + b"abc" + b"R\x02a\x07"
    data = b"l" + of_length(100_000) + (b"t" + of_length(2) + pairs) * 100_000 + b"j"

    assert first_beyond(data, 0, ELEMENT_LIMIT) is None


@pytest.mark.parametrize("kind", NESTED_KEYS)
def test_a_long_message_is_counted_in_slices(kind):
    data = NESTED_KEYS[kind](30_000) + bytes(SLICE_BYTES)
    slices = first_beyond_in_slices(data, 0, 1 << 30)

    assert len([*slices]) >= len(data) // (2 * SLICE_BYTES)


def test_a_run_of_leaves_is_counted_in_slices():
    data = b"l" + of_length(1_000_000) + b"j" * 1_000_001
    slices = first_beyond_in_slices(data, 0, 1 << 30)

    assert len([*slices]) >= len(data) // (2 * SLICE_BYTES)
