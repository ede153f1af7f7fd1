"""Names for nodes that connect without one."""

import random

import pytest

from erlmesh.core.dynamic_names import dynamic_name


@pytest.mark.parametrize(
    ("bits", "name", "creation"),
    [([0, 0, 0], "0@h", 4), ([0, 36, 1], "10@h", 5), ([2**32 - 1] * 3, "3W5E11264SGSF@h", 7)],
)
def test_the_name_is_a_number_in_base_36(bits, name, creation):
    assert dynamic_name("h", iter(bits).__next__) == (name, creation)


def test_names_differ_and_creations_are_those_of_otp_23_and_later():
    bits = random.Random(1)
    names = [dynamic_name("h", lambda: bits.getrandbits(32)) for _ in range(1000)]

    assert len({name for name, _ in names}) == 1000
    assert all(4 <= creation < 1 << 32 for _, creation in names)
