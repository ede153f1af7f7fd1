"""Bytes that OTP 25 wrote, and bytes it read or refused."""

import json
from pathlib import Path

import pytest

from erlmesh.errors import DecodeError
from erlmesh.etf import decode, encode
from erlmesh.formatting import format_erlang
from erlmesh.terms import Atom, BitString, Map, Pid, Port, Ref, exact_key

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "otp25.json").read_text())
CUT = {"string_65535_head", "list_65536_head"}  # only the beginning was kept
OLD = {"float_old_mv0", "compressed", "compressed9"}  # written in a way that we only read
AB, VEC = Atom("a@b"), Atom("vec@127.0.0.1")


def named(group):
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[group]]


def hex_of(name):
    (found,) = {
        v["hex"]
        for group in ("etf_encoded_by_otp25", "etf_decoded_by_otp25")
        for v in VECTORS[group]
        if v["name"] == name
    }
    return bytes.fromhex(found)


def has_latin1_atoms(data):
    """OTP 25 still writes atoms with tag 100 unless told otherwise; nothing else in the vectors has this byte."""
    return b"d" in data


@pytest.mark.parametrize("vector", [p for p in named("etf_encoded_by_otp25") if p.id not in CUT])
def test_what_otp_wrote_is_read_and_written_again(vector):
    data = bytes.fromhex(vector["hex"])

    term = decode(data)
    again = encode(term)

    assert exact_key(decode(again)) == exact_key(term)
    if vector["name"] not in OLD and not has_latin1_atoms(data):
        assert again == data


@pytest.mark.parametrize("vector", named("etf_minor_version_2"))
def test_what_otp_writes_with_modern_tags_is_written_the_same(vector):
    data = bytes.fromhex(vector["hex"])

    assert encode(decode(data)) == data


@pytest.mark.parametrize("name", sorted(CUT))
def test_a_cut_vector_ends_early(name):
    data = hex_of(name)

    with pytest.raises(DecodeError, match="ends inside") as caught:
        decode(data)
    assert caught.value.offset == len(data)


def meaning(vector):
    """What the vector's text says OTP did: None if it refused, else the term as OTP printed it."""
    outcome = vector["meaning"].removeprefix("DECODE -> ")
    return None if outcome.startswith("EXC badarg") else outcome.removeprefix("ok ").rpartition(" (")[0]


@pytest.mark.parametrize("vector", [p for p in named("etf_decoded_by_otp25") if meaning(p.values[0]) is None])
def test_what_otp_refused_is_refused(vector):
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", [p for p in named("etf_decoded_by_otp25") if meaning(p.values[0]) is not None])
def test_what_otp_accepted_is_the_same_term_here(vector):
    term = decode(bytes.fromhex(vector["hex"]))

    prefix = format_erlang(Pid(AB, 0, 0, 0)).removeprefix("<").partition(".")[0]
    assert format_erlang(term) == meaning(vector).replace("<9093.", f"<{prefix}.")


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("int_min", -(2**31)),
        ("big_neg_2p31_1", -(2**31) - 1),
        ("big_neg_256bytes", -(2**2047)),
        ("float_denorm", 5e-324),
        ("atom_true", True),
        ("atom_latin1", Atom("åäö")),
        ("tuple_nested", (Atom("a"), (Atom("b"), [Atom("c"), 1]), b"\x01")),
        ("string_abc", [97, 98, 99]),
        ("list_neg", [-1]),
        ("bits_15", BitString(b"\xff\xfe", 7)),
        ("map_nested", Map([(1, {}), (1.0, Atom("x")), ("k", [1])])),
        ("pid_self", Pid(VEC, 9, 0, 0x6B02B227)),
        ("ref", Ref(VEC, 0x6B02B227, (0x0000710A, 0x08400002, 0xB9B6BA3F))),
        ("port", Port(VEC, 0, 0x6B02B227)),
        ("dec_pid_ext", Pid(AB, 0x55, 0, 1)),
        ("dec_new_ref_ext", Ref(AB, 2, (1, 2, 3))),
        ("dec_reference_ext", Ref(AB, 1, (5,))),
        ("dec_port_ext", Port(AB, 5, 1)),
        ("compressed", [Atom("a")] * 100),
        ("compressed9", bytes(200)),
    ],
)
def test_some_terms_in_python(name, term):
    assert exact_key(decode(hex_of(name))) == exact_key(term)
