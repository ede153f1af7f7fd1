"""A peer cannot choose keys that collide: their hashes have a secret of this process."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given

from erlmesh.etf import decode, encode
from erlmesh.terms import Atom, BitString, Export, Map, Pid, Port, Ref, exact_key
from terms_strategy import terms

NODE = Atom("a@127.0.0.1")
MODULUS = 1 << 64
PRIME_1, PRIME_2 = 11400714785074694791, 14029467366897019727  # of CPython's hash of a tuple (Objects/tupleobject.c)
UNSTEP = (pow(PRIME_1, -1, MODULUS), pow(PRIME_2, -1, MODULUS))


def pairs_of_one_hash(count):
    """Pairs of integers whose tuples have the same hash in every Python process, whatever precedes them in the tuple.

    The first number changes the highest bits of the sum that is then rotated, and the second number undoes it.
    """
    pairs = []
    for high in range(1 << 31):
        first = (high << 33) * UNSTEP[1] % MODULUS
        second = -high * PRIME_1 * UNSTEP[1] % MODULUS
        if first < 1 << 60 and second < 1 << 60:
            pairs.append((first, second))
            if len(pairs) == count:
                return pairs
    raise AssertionError("too few pairs")


PAIRS = pairs_of_one_hash(500)


def largest_class(keys):
    return Counter(map(hash, keys)).most_common(1)[0][1]


def test_python_hashes_these_tuples_alike():
    assert largest_class(PAIRS) > 200
    assert largest_class([(NODE, *pair) for pair in PAIRS]) > 200


@pytest.mark.parametrize(
    "form",
    [lambda pair: pair, lambda pair: (NODE, *pair), lambda pair: [pair], Map],
    ids=["a tuple", "a longer tuple", "a list", "a map"],
)
def test_keys_of_such_terms_do_not_collide(form):
    terms = [Map([pair]) if form is Map else form(pair) for pair in PAIRS]

    assert largest_class(map(exact_key, terms)) <= 2


def test_a_map_from_the_wire_has_no_colliding_keys():
    received = decode(encode(Map((pair, 1) for pair in PAIRS)))

    assert len(received) == len(PAIRS)
    assert largest_class(received._values) <= 2


def mean_probes(keys):
    """How many places of a dictionary CPython looks at for each key, on average (Objects/dictobject.c)."""
    mask = 2 * len(keys) - 1
    used, probes = set(), 0
    for key in keys:
        perturb = hash(key) % MODULUS
        place = perturb & mask
        probes += 1
        while place in used:
            perturb >>= 5
            place = (5 * place + perturb + 1) & mask
            probes += 1
        used.add(place)
    return probes / len(keys)


def chosen_integers(count):
    """Integers for which the lower half of the hash of a tuple is the same, if all other elements are."""
    products = (number * UNSTEP[1] % MODULUS for number in range(1 << 20))
    return [product for product in products if product < 1 << 60][:count]


@pytest.mark.parametrize("shift", [0, 12, 20, 30, 40, 47])
@pytest.mark.parametrize("sign", [1, -1])
def test_integers_with_equal_low_bits_need_few_probes(shift, sign):
    keys = [exact_key(sign * number << shift) for number in range(1 << 12)]

    assert mean_probes(keys) < 16


@pytest.mark.parametrize(
    "form", [lambda n: (NODE, n), lambda n: (n, NODE), lambda n: (n,)], ids=["last", "first", "alone"]
)
def test_tuples_with_one_chosen_integer_need_few_probes(form):
    numbers = chosen_integers(1 << 12)
    keys = [exact_key(form(number)) for number in numbers]

    assert len(set(map(hash, keys))) == len(keys)
    assert mean_probes(keys) < 16


def test_the_chosen_integers_are_the_worst_for_a_tuple():
    assert len({hash((NODE, number)) & 0x7FFFFFFF for number in chosen_integers(1 << 12)}) == 1


def test_the_measure_of_probes_finds_colliding_keys():
    assert mean_probes(PAIRS[:256]) > 50


@pytest.mark.parametrize("number", [1 << 60, -(1 << 60), 1 << 200])
def test_the_key_of_a_large_integer_has_a_secret(number):
    assert exact_key(number) == hex(number)
    assert exact_key((NODE, number, 1)) == (NODE, hex(number), 1)


def test_keys_lookups_and_digests_tell_integers_of_all_sizes_apart():
    """Some of the integers are their own keys, and some become a str."""
    numbers = [0, 1, -1, -2, (1 << 60) - 1, 1 << 60, -(1 << 60), 1 << 61, (1 << 61) - 1, 1 << 64]
    for form in (lambda n: n, lambda n: (NODE, n), lambda n: (n, n), lambda n: [n], lambda n: Map([(n, n)])):
        built = Map((form(number), number) for number in numbers)
        assert len(built) == len(numbers)
        assert [built[form(number)] for number in numbers] == numbers
        assert len({exact_key(Map([(form(number), 1)])) for number in numbers}) == len(numbers)
        assert list(decode(encode(built))) == list(built)


def test_ports_that_a_tuple_would_hash_alike_do_not_collide():
    assert largest_class([Port(NODE, *pair) for pair in PAIRS]) <= 2


def fields_of(bit):
    """Each field of a pid and of a reference in turn, with a number of which one bit is set."""
    number = 1 << bit
    yield from (Pid(NODE, number, 0, 0), Pid(NODE, 0, number, 0), Pid(NODE, 0, 0, number))
    yield Ref(NODE, number, (0, 0, 0, 0, 0))
    for position in range(5):
        words = [0] * 5
        words[position] = number
        yield Ref(NODE, 0, tuple(words))


def test_every_bit_of_an_identifier_counts():
    identifiers = [each for bit in range(32) for each in fields_of(bit)]

    assert len(set(map(hash, identifiers))) == len(identifiers)


@pytest.mark.parametrize("shift", range(0, 28, 4))
def test_identifiers_with_regular_numbers_are_scattered(shift):
    numbers = [number << shift for number in range(16)]
    pids = [Pid(NODE, a, b, c) for a in numbers for b in numbers for c in numbers]
    refs = [Ref(NODE, a, (b, 0, c)) for a in numbers for b in numbers for c in numbers]

    for identifiers in (pids, refs):
        assert largest_class(hash(each) & 0xFFF for each in identifiers) < 12


HASHES = """
from erlmesh.terms import Atom, Pid, Port, Ref
node = Atom("a@b")
print(*(hash(each) ^ hash(node) for each in (Pid(node, 1, 2, 3), Ref(node, 1, (2, 3)), Port(node, 1, 2))))
"""


def hashes_of_a_process(seed):
    # In the native build, each process has its own secret. So this shows the pure build.
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "ERLMESH_PURE": "1"}
    return subprocess.check_output([sys.executable, "-c", HASHES], env=environment, text=True).split()


@pytest.mark.slow
def test_the_hash_of_an_identifier_depends_on_the_secret_of_the_process():
    one, same, other = hashes_of_a_process(1), hashes_of_a_process(1), hashes_of_a_process(2)

    assert one == same
    assert not set(one) & set(other)


LEAVES = (str, bytes, Atom, Pid, Port, Ref, Export, BitString)


@pytest.mark.slow
@given(terms)
def test_no_part_of_a_key_has_a_hash_without_a_secret(term):
    key = exact_key(term)
    parts = key if type(key) is tuple else (key,)

    small = [part for part in parts if type(part) is int]
    assert len(small) <= 1
    assert all(abs(part) < 1 << 60 for part in small)
    for part in parts:
        if type(part) is int:
            continue
        # A float is the pair of a mark and bytes.
        assert type(part) in LEAVES or type(part) is object or [*map(type, part)] == [object, bytes]
