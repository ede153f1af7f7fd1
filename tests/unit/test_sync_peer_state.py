"""When a synchronous node connects to a peer, without clocks and sockets."""

from random import Random

import pytest

from erlmesh.sync.peer_state import LONGEST_PAUSE, PeerState

LINK = object()


@pytest.fixture
def state():
    return PeerState(Random(1))


def fail(state, now):
    assert state.start_or_wait() is None
    state.attempt_ended(None, OSError("refused"), now)


def test_the_first_caller_connects_and_the_others_wait(state):
    assert state.start_or_wait() is None
    waiting = state.start_or_wait()

    assert not state.must_wait(0.0)
    assert waiting.gate is not None
    state.attempt_ended(LINK, OSError(), 0.0)
    assert (waiting.gate, waiting.remaining, state.link) == (None, 0, LINK)


def test_after_a_failure_callers_get_the_error_until_the_pause_is_over(state):
    fail(state, 10.0)

    assert state.must_wait(10.0)
    assert 0 < state.delay(10.0) <= 0.1
    assert not state.must_wait(10.2)


def test_while_another_attempt_runs_after_a_failure_callers_get_the_error(state):
    fail(state, 10.0)
    assert state.start_or_wait() is None

    assert state.must_wait(20.0)


def test_the_pauses_grow_up_to_a_limit(state):
    pauses = []
    for attempt in range(12):
        fail(state, attempt * 100.0)
        pauses.append(state.delay(attempt * 100.0))

    assert max(pauses) <= LONGEST_PAUSE
    assert pauses[-1] > 10 * pauses[0]


def test_a_loss_is_followed_by_an_attempt_at_once(state):
    state.start_or_wait()
    state.attempt_ended(LINK, OSError(), 0.0)

    state.connection_lost("connection_closed", 100.0)

    assert state.delay(100.0) == 0
    assert not state.must_wait(100.0)
    assert "connection_closed" in str(state.error)
    assert state.was_connected


def test_a_peer_that_closes_at_once_is_not_dialled_without_a_pause(state):
    for now in range(8):
        state.start_or_wait()
        state.attempt_ended(LINK, OSError(), now * 10.0)
        state.connection_lost("connection_closed", now * 10.0 + 0.01)

    assert state.delay(70.01) > 1
