"""Capability flags of the handshake."""

import pytest

from erlmesh.proto.flags import HIDDEN, MANDATORY_25, OFFERED, REQUIRED, Flags


def test_offered_flags_equal_those_of_otp_25():
    assert OFFERED == 0x0000000D07DF7FBD


def test_hidden_flags_differ_only_in_published():
    assert HIDDEN == 0x0000000D07DF7FBC


def test_the_digest_expands_to_the_eleven_mandatory_flags():
    expanded = Flags(0x4000001).expanded()

    assert expanded & MANDATORY_25 == MANDATORY_25
    assert len(MANDATORY_25) == 11
    assert expanded.missing(REQUIRED) == []


def test_flags_without_the_digest_are_not_expanded():
    assert Flags(1).expanded() == 1


def test_missing_returns_the_names_of_flags():
    assert (OFFERED & ~Flags.UTF8_ATOMS & ~Flags.BIG_CREATION).missing(REQUIRED) == ["UTF8_ATOMS", "BIG_CREATION"]


def test_unknown_bits_are_kept_and_ignored():
    assert Flags(OFFERED | 1 << 60).missing(REQUIRED) == []


@pytest.mark.parametrize("flag", list(Flags))
def test_every_name_is_one_bit(flag):
    assert flag.bit_count() == 1
