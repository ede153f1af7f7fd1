"""phash2 of random terms, beside the one of real OTP."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from erlmesh.core.phash2 import phash2
from terms_strategy import floats, integers, leaves, ports, terms

pytestmark = [pytest.mark.timeout(120), pytest.mark.otps(25, 27, 29)]


SOME = [leaves, terms, st.binary(max_size=60), st.lists(st.integers(-3, 300), max_size=14), integers, floats, ports]


def _collected(strategy, count=300):
    found = []

    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(strategy)
    def collect(term):
        found.append(term)

    collect()
    return found


def _has_hash(term):
    try:
        phash2(term)
    except TypeError:  # a fun
        return False
    return True


def test_phash2_is_that_of_otp(beam, otp):
    node = beam("plato", otp=otp)
    values = [term for strategy in SOME for term in _collected(strategy) if _has_hash(term)]

    theirs = node.eval("[{erlang:phash2(T), erlang:phash2(T, 1000003)} || T <- Ts]", Ts=values)

    assert [
        term for term, both in zip(values, theirs, strict=True) if (phash2(term), phash2(term, 1000003)) != both
    ] == []
    assert len(values) > 1000
