import pytest

from erlmesh.proto.flags import HIDDEN, MANDATORY_25, OFFERED, REQUIRED, Flags


def test_we_offer_exactly_what_otp_25_offers():
    assert OFFERED == 0x0000000D07DF7FBD


def test_hidden_is_the_same_node_unpublished():
    assert HIDDEN == 0x0000000D07DF7FBC


def test_the_digest_stands_for_the_eleven_mandatory_flags():
    expanded = Flags(0x4000001).expanded()

    assert expanded & MANDATORY_25 == MANDATORY_25
    assert len(MANDATORY_25) == 11
    assert expanded.missing(REQUIRED) == []


def test_without_the_digest_nothing_is_assumed():
    assert Flags(1).expanded() == 1


def test_the_missing_flags_are_named():
    assert (OFFERED & ~Flags.UTF8_ATOMS & ~Flags.BIG_CREATION).missing(REQUIRED) == ["UTF8_ATOMS", "BIG_CREATION"]


def test_bits_of_the_future_are_kept_and_mean_nothing():
    assert Flags(OFFERED | 1 << 60).missing(REQUIRED) == []


@pytest.mark.parametrize("flag", list(Flags))
def test_every_name_is_one_bit(flag):
    assert flag.bit_count() == 1
