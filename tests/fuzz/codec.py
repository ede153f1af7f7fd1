"""The native codec and keys do what the pure ones do: the same value, bytes, error and offset."""

from __future__ import annotations

import importlib
import random

from erlmesh import native
from erlmesh.errors import DecodeError
from erlmesh.terms import Atom, Fun, ImproperList, Map, maps
from fuzz.random_terms import RandomTerms, mutated

# The modules: `erlmesh.etf` has functions with the same names.
PURE_ENCODE = importlib.import_module("erlmesh.etf.encode")
PURE_DECODE = importlib.import_module("erlmesh.etf.decode")
HEADER = tuple(Atom(name) for name in ("ok", "a@127.0.0.1", "true", "false", "€", "name_7"))
DEEP = 300
"""Deeper terms are compared by their bytes only: Python's comparison is recursive."""


def outcome(function, *arguments, **keywords):
    """Return what a function returns, or its error in comparable form."""
    try:
        return "returned", function(*arguments, **keywords)
    except DecodeError as error:
        return "raised", DecodeError, error.message, error.offset
    except RecursionError:
        return "raised", RecursionError
    except Exception as error:  # an error of any class must be the same in both builds
        return "raised", type(error), str(error)


def shape(term, depth=DEEP):
    """Return a term as nested tuples that are equal only if the terms have the same types, values and order."""
    kind = type(term)
    if depth == 0:
        return "deep", PURE_ENCODE.encode(term)
    depth -= 1
    if kind is tuple or kind is list:
        return kind, [shape(item, depth) for item in term]
    if kind is ImproperList:
        return kind, [shape(item, depth) for item in term.elements], shape(term.tail, depth)
    if kind is Map:
        pairs = [(shape(key, depth), shape(value, depth)) for key, value in term.items()]
        assert list(term._values) == [maps.pure_exact_key(key) for key in term]
        assert term._digest is None or type(term._digest) is bytes
        return kind, pairs
    if kind is Fun:
        return kind, [shape(getattr(term, name), depth) for name in Fun.__match_args__]
    if kind is float:
        return kind, term.hex()
    return kind, term if kind in (int, bool, Atom, bytes) else repr(term), term


def assert_same_decoding(data, offset, atoms):
    pure = outcome(PURE_DECODE.decode_term, data, offset, atoms)
    fast = outcome(native.module.decode_term, data, offset, atoms)
    if pure[0] == fast[0] == "returned":
        assert shape(pure[1][0]) == shape(fast[1][0]), (data, offset, atoms)
        assert pure[1][1] == fast[1][1], (data, offset, atoms)
        assert outcome(repr, pure[1][0]) == outcome(repr, fast[1][0]), data
    else:
        assert pure == fast, (data, offset, atoms)


def assert_same_in_slices(rng, data, offset, atoms):
    """Decode with pauses. The native reader returns NotImplemented for what it leaves to the pure one."""
    whole = outcome(PURE_DECODE.decode_term, data, offset, atoms)
    reader = native.module.TermReader(data, offset, tuple(atoms))
    while (found := reader.read(rng.choice((1, 2, 50)))) is None:
        pass
    found = outcome(native.module.decode_term, data, offset, atoms) if found is NotImplemented else ("returned", found)
    if whole[0] == found[0] == "returned":
        assert shape(whole[1][0]) == shape(found[1][0]), (data, offset, atoms)
        assert whole[1][1] == found[1][1], (data, offset, atoms)
    else:
        assert whole == found, (data, offset, atoms)


def assert_same_encoding(term, atoms):
    pure = outcome(PURE_ENCODE.encode_term, term, atoms)
    fast = outcome(native.module.encode_term, term, atoms)
    assert pure == fast, term
    pieces = [b"before"]
    into = outcome(native.module.encode_into, term, pieces, atoms or {})
    if pure[0] == "returned":
        assert b"".join(pieces) == b"before" + pure[1], term
    else:
        assert into == pure, term
    if not atoms:
        assert outcome(PURE_ENCODE.encode, term) == outcome(native.module.encode, term), term
    return pure[1] if pure[0] == "returned" else None


def run_case(seed):
    """Compare the two builds on one input."""
    rng = random.Random(seed)
    terms = RandomTerms(rng, odd=rng.random() < 0.3)
    term = terms.deep_term() if rng.random() < 0.1 else terms.term(rng.choice((0, 2, 4, 6)))
    atoms = {atom: index for index, atom in enumerate(HEADER) if rng.random() < 0.6} if rng.random() < 0.5 else None
    data = assert_same_encoding(term, atoms)
    if data is None:
        return
    _assert_same_key(term)
    header = HEADER if rng.random() < 0.9 else list(HEADER[: rng.randrange(len(HEADER))])
    before = rng.randbytes(rng.randrange(3))
    assert_same_decoding(before + data, len(before), header)
    assert_same_in_slices(rng, before + data, len(before), header)
    for _ in range(4):
        wrong = mutated(rng, data)
        assert_same_decoding(wrong, 0, header)
        assert_same_in_slices(rng, wrong, 0, header)
    standalone = b"\x83" + (mutated(rng, data) if rng.random() < 0.5 else data)
    pure, fast = outcome(PURE_DECODE.decode, standalone), outcome(native.module.decode, standalone)
    assert pure[0] == fast[0], standalone
    assert shape(pure[1]) == shape(fast[1]) if pure[0] == "returned" else pure == fast, standalone


def _assert_same_key(term):
    pure, fast = outcome(maps.pure_exact_key, term), outcome(native.module.exact_key, term)
    assert pure == fast, term
    if pure[0] == "returned":
        assert hash(pure[1]) == hash(fast[1]), term
        assert (pure[1] is term) <= (fast[1] is term), term


TERMS = 60
"""Terms of each leak case."""


def _leak_cases():
    """Return functions that must leave no memory and no references behind."""
    terms = [RandomTerms(random.Random(seed), odd=seed % 3 == 0).term(6) for seed in range(TERMS)]
    encoded = [data for data in (outcome(PURE_ENCODE.encode_term, term) for term in terms) if data[0] == "returned"]
    faulty = [mutated(random.Random(seed), data[1]) for seed, data in enumerate(encoded * 5)]

    def encode():
        for term in terms:
            outcome(native.module.encode_term, term, {HEADER[0]: 0})
            outcome(native.module.encode, term)

    def decode():
        for _, data in encoded:
            native.module.decode_term(data, 0, HEADER)

    def decode_faulty():
        for data in faulty:
            outcome(native.module.decode_term, data, 0, HEADER)

    def keys():
        for _, data in encoded:
            native.module.exact_key(native.module.decode_term(data, 0, HEADER)[0])

    return {"encode": encode, "decode": decode, "decode faulty bytes": decode_faulty, "exact_key": keys}


LEAK_CASES = _leak_cases() if native.module is not None else {}
