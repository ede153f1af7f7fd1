"""The encoder writes every term as OTP does with modern tags, and refuses other values with a reason."""

import gc
from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

import pytest
from hypothesis import given

from erlmesh import etf, native
from erlmesh.errors import EncodeError
from erlmesh.etf import decode, decode_term, encode, encode_term
from erlmesh.etf.encode import _write_deep
from erlmesh.etf.encode import encode as pure_encode
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, atoms, exact_key
from terms_strategy import nodes, terms

AB = Atom("a@b")
NODE = b"w\x03a@b"


class Colour(IntEnum):
    RED = 1


class Text(StrEnum):
    HI = "hi"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class NotATerm:
    x: int = 1


@pytest.mark.parametrize(
    ("term", "data"),
    [
        (True, b"w\x04true"),
        (Atom("true"), b"w\x04true"),
        (False, b"w\x05false"),
        (Atom(""), b"w\x00"),
        (Atom("å" * 127), b"w\xfe" + "å".encode() * 127),
        (Atom("å" * 128), b"v\x01\x00" + "å".encode() * 128),
        (0, b"a\x00"),
        (255, b"a\xff"),
        (256, b"b\x00\x00\x01\x00"),
        (-1, b"b\xff\xff\xff\xff"),
        (2**31, b"n\x04\x00\x00\x00\x00\x80"),
        (-(2**31) - 1, b"n\x04\x01\x01\x00\x00\x80"),
        (2**2040, b"o\x00\x00\x01\x00\x00" + bytes(255) + b"\x01"),
        (Colour.RED, b"a\x01"),
        (1.0, b"F\x3f\xf0" + bytes(6)),
        ("é", b"m\x00\x00\x00\x02\xc3\xa9"),
        (Text.HI, b"m\x00\x00\x00\x02hi"),
        (bytearray(b"x"), b"m\x00\x00\x00\x01x"),
        (memoryview(b"xyz")[::2], b"m\x00\x00\x00\x02xz"),
        (BitString(b"\xa0", 3), b"M\x00\x00\x00\x01\x03\xa0"),
        ((), b"h\x00"),
        ((1,) * 256, b"i\x00\x00\x01\x00" + b"a\x01" * 256),
        (Point(1, 2), b"h\x02a\x01a\x02"),
        ([], b"j"),
        ([1, 2], b"k\x00\x02\x01\x02"),
        ([Colour.RED, 2], b"k\x00\x02\x01\x02"),
        ([1, 256], b"l\x00\x00\x00\x02a\x01b\x00\x00\x01\x00j"),
        ([1, -1], b"l\x00\x00\x00\x02a\x01b\xff\xff\xff\xffj"),
        ([1, True], b"l\x00\x00\x00\x02a\x01w\x04truej"),
        ([True], b"l\x00\x00\x00\x01w\x04truej"),
        ([1, b"a"], b"l\x00\x00\x00\x02a\x01m\x00\x00\x00\x01aj"),
        ([7] * 65535, b"k\xff\xff" + b"\x07" * 65535),
        ([7] * 65536, b"l\x00\x01\x00\x00" + b"a\x07" * 65536 + b"j"),
        (ImproperList((1, 2), b""), b"l\x00\x00\x00\x02a\x01a\x02m\x00\x00\x00\x00"),
        ({"a": 1}, b"t\x00\x00\x00\x01m\x00\x00\x00\x01aa\x01"),
        (OrderedDict(a=1), b"t\x00\x00\x00\x01m\x00\x00\x00\x01aa\x01"),
        (Map([(1, 2), (1.0, 3)]), b"t\x00\x00\x00\x02a\x01a\x02F\x3f\xf0" + bytes(6) + b"a\x03"),
        ({1: 2, "a": 3}, b"t\x00\x00\x00\x02a\x01a\x02m\x00\x00\x00\x01aa\x03"),
        ({}, b"t\x00\x00\x00\x00"),
        (Pid(AB, 1, 2, 3), b"X" + NODE + bytes([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3])),
        (Port(AB, 2**28 - 1, 1), b"Y" + NODE + b"\x0f\xff\xff\xff\x00\x00\x00\x01"),
        (Port(AB, 2**28, 1), b"x" + NODE + b"\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x01"),
        (Ref(AB, 1, (2, 3)), b"Z\x00\x02" + NODE + bytes([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3])),
        (Export(Atom("m"), Atom("f"), 2), b"qw\x01mw\x01fa\x02"),
        (
            Fun(1, bytes(range(16)), 2, Atom("m"), 3, 400, Pid(AB, 0, 0, 0), (5,)),
            b"p\x00\x00\x00\x3b\x01" + bytes(range(16))
            + b"\0\0\0\x02\0\0\0\x01w\x01ma\x03b\0\0\x01\x90X" + NODE + bytes(12) + b"a\x05",
        ),
    ],
)  # fmt: skip
def test_encodes_a_term_as_otp_does(term, data):
    assert encode_term(term) == data
    assert encode(term) == b"\x83" + data
    pieces = []
    _write_deep(term, pieces, {})
    assert b"".join(pieces) == data


@given(terms)
def test_deep_encoding_gives_the_same_bytes(term):
    pieces = []
    _write_deep(term, pieces, {})

    assert b"".join(pieces) == encode_term(term)


def test_known_atoms_become_references_and_others_are_written_in_full():
    atoms = {Atom("ping"): 0, Atom("true"): 7, AB: 255}

    assert encode_term((Atom("ping"), True, Atom("pong")), atoms) == b"h\x03R\x00R\x07w\x04pong"
    assert encode_term(Pid(AB, 1, 2, 3), atoms) == b"XR\xff" + bytes([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3])
    assert encode_term(Pid(Atom("c@d"), 1, 2, 3), atoms)[:3] == b"Xw\x03"


@given(terms)
def test_round_trip_with_every_atom_cached(term):
    class Counting(dict):
        def get(self, atom, default=None):
            return self.setdefault(atom, len(self)) if len(self) < 255 or atom in self else default

    atoms = Counting()
    data = encode_term(term, atoms)

    assert exact_key(decode_term(data, 0, tuple(atoms))[0]) == exact_key(term)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, r"None.*Atom\('undefined'\).*Atom\('nil'\)"),
        ([1, None], "None"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (object(), "builtins.object is not an Erlang term"),
        ({1, 2}, "builtins.set"),
        (NotATerm(), "NotATerm is not an Erlang term"),
        (1j, "complex"),
        ("\ud800", "UTF-8"),
        ({"a": 1, b"a": 2}, "same term"),
        ({True: 1, Atom("true"): 2}, "same term"),
        (Port(AB, 2**64, 0), "out of range"),
        (Export(AB, AB, 256), "0 to 255"),
        (Export(AB, AB, -1), "0 to 255"),
        (Fun(256, bytes(16), 0, AB, 0, 0, Pid(AB, 0, 0, 0)), "out of range"),
    ],
)
def test_a_value_that_is_not_a_term_is_refused_with_the_reason(value, reason):
    with pytest.raises(EncodeError, match=reason):
        encode(value)
    with pytest.raises(EncodeError, match=reason):
        encode([{"deep": (value,)}])


def test_a_term_that_contains_itself_is_refused():
    loop = [1]
    loop.append((loop,))
    twice = {}
    twice["self"] = [twice]

    with pytest.raises(EncodeError, match="contains itself"):
        encode(loop)
    with pytest.raises(EncodeError, match="contains itself"):
        encode(twice)


def test_a_shared_object_is_allowed_at_any_depth():
    part = [b"x"]
    term = (part, part)
    for _ in range(5000):
        term = (term, part)

    assert decode(encode(term))[1] == part


def test_backend_names_the_implementation():
    assert etf.backend == ("native" if native.module else "python")


@given(nodes)
def test_a_pid_with_a_cached_node_round_trips(node):
    pid = Pid(node, 1, 2, 3)

    assert decode_term(encode_term(pid, {node: 0}), 0, (node,))[0] == pid


@pytest.mark.parametrize("wrap", [lambda term: [term], lambda term: (term, 1), lambda term: ImproperList((term,), 1)])
def test_a_deep_term_is_encoded_as_a_shallow_one_is(wrap):
    shallow, deep = [], []
    for _ in range(20):
        shallow = wrap(shallow)
    for _ in range(20_000):
        deep = wrap(deep)
    data = encode(deep)

    assert data == pure_encode(deep)
    assert len(data) - len(encode([])) == 1000 * (len(encode(shallow)) - len(encode([])))


def test_an_atom_is_written_with_its_own_name_also_at_the_address_of_a_freed_one():
    for number in range(3000):
        name = f"atom {number}"

        assert encode([Atom(name)]) == b"\x83l\x00\x00\x00\x01w" + bytes([len(name)]) + name.encode() + b"j"
        atoms._recent.clear()


def test_the_native_part_keeps_a_bounded_number_of_atoms_that_it_has_written():
    for number in range(5000):
        encode(Atom(f"written {number}"))
    atoms._recent.clear()
    gc.collect()

    assert sum(name.startswith("written ") for name in atoms._atoms) <= 512


@pytest.mark.parametrize("make", [dict, Map])
@pytest.mark.parametrize("key", [Atom("key"), 7, b"key", "key", 1.5, Pid(AB, 1, 2, 3), (1, 2)])
@pytest.mark.parametrize("value", [Atom("a value"), 2**40, b"value", "value", 2.5, [1, "two"], (Atom("key"), [300])])
def test_a_map_is_written_in_its_order_whatever_its_parts_are(make, key, value):
    parts = b"".join(encode(part)[1:] for part in (key, value, 9, value))

    assert encode(make({key: value, 9: value})) == b"\x83t\x00\x00\x00\x02" + parts


class Emptying:
    """References of a header. A look-up empties a dict that is being written."""

    def __init__(self, emptied):
        self.emptied = emptied

    def get(self, _atom):
        self.emptied.clear()


@pytest.mark.skipif(native.module is None, reason="the pure encoder raises RuntimeError, as each loop over a dict does")
def test_a_value_stays_alive_when_a_look_up_empties_its_dict():
    emptied = {Atom("key"): b"a value".upper()}

    assert encode_term(emptied, Emptying(emptied)) == b"t\x00\x00\x00\x01w\x03keym\x00\x00\x00\x07A VALUE"
