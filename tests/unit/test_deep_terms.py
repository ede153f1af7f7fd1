"""Terms of any depth and of every kind: both builds do the same, and the native one without the pure code."""

import gc
import importlib
import sys

import pytest

from erlmesh import native
from erlmesh.errors import EncodeError
from erlmesh.etf import decode_term, encode_term
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, exact_key, maps

PURE_DECODE = importlib.import_module("erlmesh.etf.decode")
PURE_ENCODE = importlib.import_module("erlmesh.etf.encode")
A = Atom("a@127.0.0.1")
PID = Pid(A, 1, 2, 3)
DEPTHS = (398, 399, 400, 401, 402, 20_000)


def fun(*free):
    return Fun(1, bytes(16), 0, A, 0, 5, PID, free)


NESTED = {
    "tuples": lambda inner: (inner, 1),
    "lists": lambda inner: [inner],
    "improper lists": lambda inner: ImproperList((inner,), 1),
    "tails of improper lists": lambda inner: ImproperList((1,), (inner,)),
    "values of maps": lambda inner: Map({A: inner}),
    "keys of maps": lambda inner: Map([(inner, 1)]),
    "funs": fun,
    "all kinds": lambda inner: (Map([([fun(inner)], ImproperList((1,), 1.5)), (1.0, PID)]),),
}
RARE = {
    "a port": Port(A, 1, 2),
    "a port with a long id": Port(A, 1 << 40, 2),
    "an export": Export(A, A, 255),
    "a bitstring": BitString(b"\xff\x80", 1),
    "a long integer": -(1 << 5000),
    "an integer of 65 bits": -(1 << 64),
    "the least integer of 64 bits": -(1 << 63),
    "a fun": fun((1, [A])),
    "a fun without variables": fun(),
}
NODE = b"d\x00\x03a@\xe9"
OLD_FORMS = {
    "pid": b"g" + NODE + bytes(9),
    "port": b"f" + NODE + bytes(4) + b"\x01",
    "reference": b"e" + NODE + bytes(4) + b"\x01",
    "reference with words": b"r\x00\x02" + NODE + b"\x01" + bytes(8),
    "Latin-1 atom": b"s\x01\xe9",
    "float": b"c" + b"1.50000000000000000000e+02".ljust(31, b"\x00"),
    "bitstring of whole bytes": b"M\x00\x00\x00\x01\x08a",
    "bitstring with unused bits": b"M\x00\x00\x00\x02\x03a\xff",
    "list in segments": b"l\x00\x00\x00\x01a\x01l\x00\x00\x00\x01a\x02k\x00\x02ab",
    "improper list in segments": b"l\x00\x00\x00\x01a\x01l\x00\x00\x00\x01a\x02a\x03",
    "list of length 0": b"l\x00\x00\x00\x00h\x00",
}


def nested(kind, depth):
    term = 7
    for _ in range(depth if kind != "all kinds" else depth // 4):
        term = NESTED[kind](term)
    return term


class PureCalls:
    """Records the functions of the pure codec and of the pure keys that run in its block."""

    FILES = (PURE_DECODE.__file__, PURE_ENCODE.__file__, maps.__file__)

    def __init__(self):
        self.names = []

    def __enter__(self):
        sys.setprofile(self._record)
        return self.names

    def __exit__(self, *_):
        sys.setprofile(None)

    def _record(self, frame, event, _):
        if event == "call" and frame.f_code.co_filename in self.FILES:
            self.names.append(frame.f_code.co_name)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", NESTED)
def test_deep_terms_are_the_same_in_both_builds(kind, depth):
    term = nested(kind, depth)
    data = PURE_ENCODE.encode_term(term)

    assert encode_term(term) == data
    decoded, end = decode_term(data, 0)
    assert end == len(data)
    assert PURE_ENCODE.encode_term(decoded) == data
    assert exact_key([decoded]) == maps.pure_exact_key([PURE_DECODE.decode_term(data, 0)[0]])
    del term, decoded
    gc.collect()  # to free a deep term does not overflow the stack


@pytest.mark.skipif(native.module is None, reason=f"nothing to compare: {native.description}")
@pytest.mark.parametrize("kind", NESTED)
def test_the_native_part_needs_no_pure_code_for_deep_terms(kind):
    data = encode_term(nested(kind, 1000))

    with PureCalls() as calls:
        term, _ = decode_term(data, 0)
        encode_term(term)
        exact_key(term)

    assert calls == []


@pytest.mark.skipif(native.module is None, reason=f"nothing to compare: {native.description}")
@pytest.mark.parametrize("kind", RARE)
def test_the_native_part_needs_no_pure_code_for_rare_terms(kind):
    data = PURE_ENCODE.encode_term((RARE[kind], [RARE[kind]]))

    with PureCalls() as calls:
        term, _ = decode_term(data, 0)
        written = encode_term(term)
        key = exact_key(term)

    assert calls == []
    assert term == (RARE[kind], [RARE[kind]])
    assert written == data
    assert key == maps.pure_exact_key(term)


@pytest.mark.parametrize("kind", OLD_FORMS)
def test_old_forms_of_terms_are_read_alike(kind):
    data = b"h\x02" + OLD_FORMS[kind] + b"a\x01"

    with PureCalls() as calls:
        term, end = decode_term(data, 0)

    assert (calls == []) is (native.module is not None)
    assert (term, end) == PURE_DECODE.decode_term(data, 0)


@pytest.mark.parametrize("count", [1, 399, 400, 5000])
def test_a_term_that_contains_itself_is_found_at_every_depth(count):
    inner = [1]
    outer = inner
    for _ in range(count):
        outer = [(outer,)]
    inner.append({"key": outer})

    with pytest.raises(EncodeError, match="contains itself"):
        encode_term(inner)
    with pytest.raises(TypeError, match="contains itself"):
        exact_key(inner)


def test_a_deep_message_has_the_references_of_its_header():
    term = nested("all kinds", 2000)
    atoms = {A: 5}

    data = encode_term(term, atoms)

    assert data == PURE_ENCODE.encode_term(term, atoms)
    assert b"R\x05" in data
    assert encode_term(decode_term(data, 0, [A] * 6)[0]) == encode_term(term)


def test_long_binaries_inside_of_funs_count_for_their_size():
    term = fun(fun(b"x" * 100_000), b"y" * 50_000, Ref(A, 1, (1, 2, 3)))

    assert encode_term(term) == PURE_ENCODE.encode_term(term)
