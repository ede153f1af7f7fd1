"""How fast an address may guess the cookie, on a virtual clock."""

import itertools

import pytest

from erlmesh.core.guess_limiter import FREE_FAILURES, LONGEST_WAIT, GuessLimiter


def guess(limiter, address, now, name="x@h"):
    """Return when the guess was checked; None if it was refused."""
    wait = limiter.wait_before_check(address, name, now)
    if wait is None:
        return None
    limiter.failed(address, name, now + wait)
    return now + wait


def test_the_delay_doubles_up_to_its_limit():
    limiter, checked = GuessLimiter(1.0), [0.0]
    for _ in range(12):
        checked.append(guess(limiter, "a", checked[-1]))

    pauses = [b - a for a, b in itertools.pairwise(checked)]

    assert pauses[:FREE_FAILURES] == [0.0] * FREE_FAILURES
    assert pauses[FREE_FAILURES : FREE_FAILURES + 5] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])
    assert pauses[-1] == pytest.approx(1.0)


def test_checks_that_would_wait_too_long_are_refused():
    limiter = GuessLimiter(1.0)
    for _ in range(FREE_FAILURES):
        guess(limiter, "a", 0.0)

    waits = [limiter.wait_before_check("a", "x@h", 0.0) for _ in range(100)]

    assert None in waits
    assert max(wait for wait in waits if wait is not None) <= LONGEST_WAIT


def test_another_address_is_not_delayed():
    limiter = GuessLimiter(1.0)
    for _ in range(20):
        guess(limiter, "a", 0.0)

    assert limiter.wait_before_check("b", "x@h", 0.0) == 0.0


def test_a_node_that_has_proved_the_cookie_is_not_delayed_by_others_at_its_address():
    limiter = GuessLimiter(1.0)
    limiter.proved("a", "good@h")
    for _ in range(20):
        guess(limiter, "a", 0.0)

    assert limiter.wait_before_check("a", "good@h", 0.0) == 0.0
    assert limiter.wait_before_check("a", "new@h", 0.0) != 0.0
    for _ in range(20):
        guess(limiter, "a", 0.0, "good@h")
    assert limiter.wait_before_check("a", "good@h", 0.0) != 0.0


def test_an_address_starts_anew_after_a_while():
    limiter = GuessLimiter(1.0)
    for _ in range(20):
        guess(limiter, "a", 0.0)

    assert limiter.wait_before_check("a", "x@h", 1000.0) == 0.0


def test_the_memory_is_bounded():
    limiter = GuessLimiter(1.0)
    for number in range(5000):
        limiter.failed(str(number), "x@h", 0.0)
        limiter.proved(str(number), "x@h")

    assert len(limiter._guesses) == len(limiter._proved) == 1024
