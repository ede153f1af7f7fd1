"""Test vectors: bytes that OTP 25 wrote, and bytes that it accepted or refused."""

import json
from pathlib import Path

import pytest

from erlmesh.errors import DecodeError
from erlmesh.etf import decode, encode
from erlmesh.formatting import format_erlang
from erlmesh.terms import Atom, BitString, Map, Pid, Port, Ref, exact_key

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "otp25.json").read_text())
CUT = {"string_65535_head", "list_65536_head"}  # the vectors have only the start of these terms
OLD = {"float_old_mv0", "compressed", "compressed9"}  # formats that we decode but never encode
AB, VEC = Atom("a@b"), Atom("vec@127.0.0.1")


def parametrized(group):
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
    """Return whether OTP used tag 100 for an atom, its default in OTP 25. The vectors use byte "d" for nothing else."""
    return b"d" in data


@pytest.mark.parametrize("vector", [p for p in parametrized("etf_encoded_by_otp25") if p.id not in CUT])
def test_a_term_from_otp_round_trips(vector):
    data = bytes.fromhex(vector["hex"])

    term = decode(data)
    again = encode(term)

    assert exact_key(decode(again)) == exact_key(term)
    if vector["name"] not in OLD and not has_latin1_atoms(data):
        assert again == data


@pytest.mark.parametrize("vector", parametrized("etf_minor_version_2"))
def test_reencodes_the_same_bytes_as_otp_with_modern_tags(vector):
    data = bytes.fromhex(vector["hex"])

    assert encode(decode(data)) == data


@pytest.mark.parametrize("name", sorted(CUT))
def test_a_cut_vector_is_refused_at_its_end(name):
    data = hex_of(name)

    with pytest.raises(DecodeError, match="ends inside") as caught:
        decode(data)
    assert caught.value.offset == len(data)


def meaning(vector):
    """Return the term as OTP printed it; None if OTP refused the data. The vector's text has this outcome."""
    outcome = vector["meaning"].removeprefix("DECODE -> ")
    return None if outcome.startswith("EXC badarg") else outcome.removeprefix("ok ").rpartition(" (")[0]


@pytest.mark.parametrize("vector", [p for p in parametrized("etf_decoded_by_otp25") if meaning(p.values[0]) is None])
def test_data_that_otp_refused_is_refused(vector):
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize(
    "vector", [p for p in parametrized("etf_decoded_by_otp25") if meaning(p.values[0]) is not None]
)
def test_data_that_otp_accepted_gives_the_same_term(vector):
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
def test_selected_vectors_give_these_python_values(name, term):
    assert exact_key(decode(hex_of(name))) == exact_key(term)
