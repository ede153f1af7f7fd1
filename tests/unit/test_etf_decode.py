"""The decoder turns any bytes into a term or a DecodeError, with bounded memory."""

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erlmesh.errors import DecodeError
from erlmesh.etf import decode, decode_leaves, decode_term, encode, encode_term
from erlmesh.etf.decode import _READERS, _read_deep
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, exact_key
from terms_strategy import terms

NODE = b"w\x03a@b"
FUN = b"p\0\0\0\0\x01" + bytes(16) + b"\0\0\0\0" + b"\0\0\0\x01" + b"w\x01m"
FUN_PID = b"X" + NODE + bytes(12)


def outcome(read, *arguments):
    """Return the result of a reader in comparable form: a key and an offset, or an error's message and offset."""
    try:
        term, end = read(*arguments)
    except DecodeError as error:
        return error.message, error.offset
    return exact_key(term), end


def error_offset(data):
    with pytest.raises(DecodeError) as caught:
        decode_term(data, 0)
    return caught.value.offset


@given(terms)
def test_encode_decode_round_trip(term):
    assert exact_key(decode(encode(term))) == exact_key(term)


@given(terms, st.binary(max_size=3), st.binary(max_size=3))
def test_decodes_a_term_at_an_offset(term, before, after):
    data = encode_term(term)

    read, end = decode_term(before + data + after, len(before))

    assert exact_key(read) == exact_key(term)
    assert end == len(before) + len(data)


@pytest.mark.parametrize("other", [-1000, 0, 255, 256, 1 << 31, -(1 << 31), 1 << 70, True, 0.5, Atom("a"), [1000], b""])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_list_of_integers_may_have_any_other_element(other, place):
    term = [1000, -1000, (1 << 31) - 1] * 2
    term.insert(place, other)

    assert exact_key(decode(encode((term, other)))) == exact_key((term, other))


INTEGERS = b"l\0\0\0\x03" + b"b\0\0\1\0" * 3


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (INTEGERS[:-1], 19),
        (INTEGERS, 20),
        (INTEGERS[:15] + b"j", 16),
        (INTEGERS[:4] + b"\x04" + INTEGERS[5:] + b"j", 21),
    ],
)
def test_an_incomplete_list_of_integers_is_refused(data, offset):
    assert error_offset(data) == offset


def test_a_list_of_integers_may_have_a_tail():
    assert decode_term(INTEGERS + b"a\7", 0) == (ImproperList((256, 256, 256), 7), 22)


@given(terms, st.data())
def test_a_truncated_term_is_refused_at_its_end(term, data):
    encoded = encode(term)
    cut = data.draw(st.integers(1, len(encoded) - 1))

    with pytest.raises(DecodeError, match="the data ends inside a term") as caught:
        decode(encoded[:cut])
    assert caught.value.offset == cut


@given(terms, st.data())
def test_a_corrupted_term_gives_a_term_or_a_decode_error(term, data):
    encoded = bytearray(encode_term(term))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))

    assert_shallow_equals_deep(bytes(encoded), (Atom("x"), Atom("true")))


@given(st.binary(max_size=40))
@example(b"R\x00")
@example(b"h\x02")
def test_any_bytes_give_a_term_or_a_decode_error(data):
    assert_shallow_equals_deep(data, (Atom("x"), Atom("false")))


@given(st.lists(st.sampled_from([*b"FPRMXYZacdefgjklmnopqrstvwx\0\1\2\3"]), max_size=40).map(bytes))
def test_any_tags_give_a_term_or_a_decode_error(data):
    assert_shallow_equals_deep(data, ())


def assert_shallow_equals_deep(data, atoms):
    """Both readers must give the same term or the same error."""
    assert outcome(decode_term, data, 0, atoms) == outcome(decode_deep, data, 0, atoms)


def decode_deep(data, offset, atoms):
    try:
        return _read_deep(data, offset, atoms)
    except (IndexError, struct.error):
        raise DecodeError("the data ends inside a term", len(data)) from None


@pytest.mark.parametrize("tag", range(256))
def test_every_tag_without_data_is_refused_except_nil(tag):
    data = bytes([tag])

    if tag == ord("j"):
        assert decode_term(data, 0) == ([], 1)
    else:
        with pytest.raises(DecodeError):
            decode_term(data, 0)


def test_cache_references_resolve_to_atoms_and_true_to_a_bool():
    atoms = (Atom("ping"), Atom("true"), Atom("false"))

    assert decode_term(b"h\x03R\x00R\x01R\x02", 0, atoms) == ((Atom("ping"), True, False), 8)


def test_the_node_of_a_pid_may_be_the_atom_true():
    pid, _ = decode_term(b"XR\x00" + bytes(12), 0, (Atom("true"),))

    assert pid == Pid(Atom("true"), 0, 0, 0)


@pytest.mark.parametrize("data", [b"R\x01", b"XR\x01" + bytes(12)])
def test_a_reference_beyond_the_header_is_refused(data):
    with pytest.raises(DecodeError, match="reference 1 in a frame that has only 1 atoms") as caught:
        decode_term(data, 0, (Atom("ping"),))
    assert caught.value.offset == data.index(b"R")


def test_a_repeated_pid_is_the_same_object():
    data = b"X" + NODE + struct.pack(">III", 1, 2, 3)

    first, second = decode_term(data, 0)[0], decode_term(data, 0)[0]

    assert first is second
    assert first == Pid(Atom("a@b"), 1, 2, 3)


def test_the_cache_of_pids_is_bounded():
    for number in range(2 * decode_leaves._RECENT_PIDS_LIMIT):
        decode_term(b"X" + NODE + struct.pack(">III", number, 0, 1), 0)

    assert len(decode_leaves._recent_pids) <= decode_leaves._RECENT_PIDS_LIMIT


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"F\x7f\xf0" + bytes(6), 0),
        (b"h\x01F\xff\xf8" + bytes(6), 2),
        (b"c" + b"nan".ljust(31, b"\0"), 0),
        (b"c" + b"1.5e999".ljust(31, b"\0"), 0),
        (b"c" + b" 1.5".ljust(31, b"\0"), 0),
        (b"c" + b"1_0.5".ljust(31, b"\0"), 0),
        (b"w\x01\xff", 0),
        (b"v\x00\x01\xff", 0),
        (b"v\x01\x00" + b"a" * 256, 0),
        (b"d\x01\x00" + b"a" * 256, 0),
        (b"w\x03\xed\xa0\x80", 0),
        (b"Xa\x01" + bytes(12), 1),
        (b"Z\x00\x06" + NODE + bytes(28), 0),
        (b"Z\x00\x00" + NODE + bytes(4), 0),
        (b"r\x00\x06" + NODE + bytes(25), 0),
        (b"M\0\0\0\x01\x09\xff", 0),
        (b"M\0\0\0\x01\x00\xff", 0),
        (b"M\0\0\0\x00\x03", 0),
        (b"qw\x01aw\x01bw\x01c", 7),
        (b"qw\x01aw\x01bb\x00\x00\x01\x00", 7),
        (b"t\0\0\0\x02a\x01a\x02a\x01a\x03", 0),
        (b"t\0\0\0\x02w\x04truea\x02s\x04truea\x03", 0),
        (b"u\0\0\0\x00", 0),
        (b"y\0\0\0\x00", 0),
        (b"P\0\0\0\x02" + zlib.compress(b"a\x01"), 0),
        (b"\x83a\x01", 0),
        (FUN + b"w\x01x", 33),
        (FUN + b"a\x00w\x01x", 35),
        (FUN + b"a\x00b\0\0\0\1a\x01", 40),
        (b"o" + struct.pack(">IB", 513 * 1024, 0) + bytes(513 * 1024), 0),
    ],
)
def test_an_error_has_the_offset_of_its_tag(data, offset):
    assert error_offset(data) == offset
    assert error_offset(data + bytes(40)) == offset
    assert outcome(decode_term, b"h\x01" + data, 0) == outcome(decode_deep, b"h\x01" + data, 0, ())


@pytest.mark.parametrize(
    ("data", "term"),
    [
        (b"c" + b"-1.5e+3".ljust(31, b"\0"), -1500.0),
        (b"c" + b"1.5".ljust(30, b"\0") + b"x", 1.5),
        (b"n\x01\x02\x05", -5),
        (b"n\x01\x01\x00", 0),
        (b"o\0\0\0\x01\x00\x05", 5),
        (b"b\x00\x00\x00\x05", 5),
        (b"s\x04true", True),
        (b"v\x00\x05false", False),
        (b"d\x00\x02\xe5\xe4", Atom("åä")),
        (b"M\0\0\0\x02\x03a\xff", BitString(b"a\xe0", 3)),
        (b"l\0\0\0\x01a\x01l\0\0\0\x01a\x02j", [1, 2]),
        (b"l\0\0\0\x01a\x01k\x00\x02ab", [1, 97, 98]),
        (b"l\0\0\0\x01a\x01l\0\0\0\x01a\x02a\x03", ImproperList((1, 2), 3)),
        (b"l\0\0\0\x00j", []),
        (b"i\0\0\0\x00", ()),
        (b"qw\x01aw\x01bb\x00\x00\x00\x03", Export(Atom("a"), Atom("b"), 3)),
        (
            FUN + b"a\x07b\xff\xff\xff\xff" + FUN_PID + b"j",
            Fun(1, bytes(16), 0, Atom("m"), 7, -1, Pid(Atom("a@b"), 0, 0, 0), ([],)),
        ),
        (
            FUN + b"a\x07a\x08g" + NODE + bytes(9) + b"j",
            Fun(1, bytes(16), 0, Atom("m"), 7, 8, Pid(Atom("a@b"), 0, 0, 0), ([],)),
        ),
        (b"h\x04a\x01a\x02a\x03a\x04", (1, 2, 3, 4)),
        (b"h\x03a\x01a\x02a\x03", (1, 2, 3)),
    ],
)
def test_unusual_encodings_are_accepted(data, term):
    read, end = decode_term(data, 0)

    assert exact_key(read) == exact_key(term)
    assert end == len(data)
    assert outcome(decode_term, data, 0) == outcome(decode_deep, data, 0, ())


def test_map_keys_that_differ_only_in_erlang_stay_distinct():
    m = decode(b"\x83t\0\0\0\x03a\x01a\x01F\x3f\xf0" + bytes(6) + b"a\x02w\x04truea\x03")

    assert m == Map([(1, 1), (1.0, 2), (True, 3)])


@pytest.mark.parametrize(
    ("data", "offset"),
    [(b"", 0), (b"\x84a\x01", 0), (b"a\x01", 0), (b"\x83", 1), (b"\x83P\0\0", 4), (b"\x83P\0\0\0\x02", 1)],
)
def test_an_invalid_standalone_term_is_refused(data, offset):
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.offset == offset


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_accepted_and_trailing_data_is_ignored(kind):
    assert decode(kind(b"\x83a\x01rest")) == 1


def compressed(inner, size=None):
    return b"\x83P" + struct.pack(">I", len(inner) if size is None else size) + zlib.compress(inner)


def test_a_compressed_term_is_decoded():
    assert decode(compressed(b"m\0\0\x10\x00" + bytes(4096))) == bytes(4096)
    assert decode(compressed(b"a\x01after") + b"after") == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (compressed(b"a\x01", 1), "1 bytes it claims"),
        (compressed(b"a\x01", 3), "3 bytes it claims"),
        (compressed(b"a\x01")[:-4], "2 bytes it claims"),
        (compressed(b""), "ends inside"),
        (compressed(b"a"), "ends inside"),
        (compressed(compressed(b"a\x01")[1:]), "tag 80 is not the tag of a term"),
        (compressed(b"\x83a\x01"), "tag 131 is not the tag of a term"),
        (b"\x83P\0\0\0\x02" + b"garbage", "does not inflate"),
        (compressed(bytes(1001)), "more than the 1000 allowed"),
    ],
)
def test_an_invalid_compressed_term_is_refused_at_its_tag(data, reason):
    with pytest.raises(DecodeError, match=reason) as caught:
        decode(data, max_length=1000)
    assert caught.value.offset == 1


def test_a_compressed_bomb_inflates_only_to_its_claimed_size():
    bomb = b"\x83P\0\0\0\x02" + zlib.compress(bytes(200_000_000), 9)

    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10_000_000


@pytest.mark.parametrize("tag", [b"i", b"l", b"t", b"m", b"M", b"o", b"k", b"p\0\0\0\x01\x01" + bytes(20)])
@pytest.mark.parametrize("depth", [0, 1, 5000])
def test_a_count_beyond_the_end_allocates_nothing(tag, depth):
    bomb = b"h\x01" * depth + tag + b"\xff" * 4 + (b"w\x01ma\x01a\x01" + FUN_PID if tag[0] == ord("p") else b"\x00")

    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode_term(bomb, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5_000_000


@pytest.mark.parametrize("tag", [b"i", b"l", b"t"])
@pytest.mark.parametrize("depth", [0, 5000])
def test_a_count_beyond_the_end_is_refused_before_its_elements_are_built(tag, depth):
    bomb = b"h\x01" * depth + tag + b"\x00\xff\xff\xff" + b"j" * 500_000

    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode_term(bomb, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5_000_000


def test_nested_large_counts_allocate_nothing():
    bomb = b"i\x00\x00\xff\xff" * 50_000

    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode_term(bomb, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 50_000_000


MANY = 100_000
FUN_START = FUN + b"a\x07a\x08" + FUN_PID
DEEP = {
    "tuple": b"h\x01" * 1_000_000 + b"h\x00",
    "pair": b"h\x02a\x01" * MANY + b"j",
    "list": b"l\0\0\0\x01" * MANY + b"j" * (MANY + 1),
    "tail": b"l\0\0\0\x01a\x01" * MANY + b"w\x01x",
    "deep tail": b"l\0\0\0\x01" * 2000 + b"l\0\0\0\x01a\x01" * MANY + b"j" * 2001,
    "map value": b"t\0\0\0\x01a\x01" * MANY + b"j",
    "map key": b"t\0\0\0\x01" * MANY + b"j" + b"a\x01" * MANY,
    "map keys": b"t\0\0\0\x02a\x05a\x01h\x01" * MANY + b"j" + b"a\x01" * MANY,
    "fun": FUN_START * MANY + b"j",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEEP)
def test_a_very_deep_term_round_trips(kind):
    data = DEEP[kind]

    term, end = decode_term(data, 0)

    assert end == len(data)
    match kind:
        case "tail":  # one list in many segments, not a deep term
            assert term == ImproperList((1,) * MANY, Atom("x"))
        case "deep tail":
            assert (
                encode_term(term)
                == b"l\0\0\0\x01" * 2000 + b"l" + struct.pack(">I", MANY) + b"a\x01" * MANY + b"j" * 2001
            )
        case "fun":  # the size fields in DEEP are zero
            written = encode_term(term)
            assert struct.unpack_from(">I", written, 1) == (len(written) - 1,)
            assert encode_term(term.free[0]) == written[len(FUN_START) :]
        case _:
            assert encode_term(term) == data


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEEP)
def test_a_truncated_deep_term_is_refused(kind):
    with pytest.raises(DecodeError, match="ends inside a term"):
        decode_term(DEEP[kind][:-1], 0)


def test_there_is_a_reader_for_every_tag():
    assert len(_READERS) == 256
