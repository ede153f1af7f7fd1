"""When a loop counts as held, what is told of it and how often, and who must hear us: on numbers."""

import pytest

from erlmesh.core.loop_watchdog import LoopWatchdog, is_tick_due, sample_interval

BUSY = 1000.0
"""Processor time that grows faster than any clock here."""


def looks(vigil, *times, computed=0.0):
    return [vigil.sample(float(now), computed) for now in times]


def test_a_loop_that_answers_is_asked_at_each_look_and_nothing_is_told():
    vigil = LoopWatchdog()
    for second in range(100):
        (look,) = looks(vigil, second)
        assert (look.request_ack, look.blocked_for, look.report, look.gil_held_for) == (True, 0.0, False, 0.0)

        assert vigil.acknowledge(second + 0.1) == 0.0


def test_a_loop_that_does_not_answer_is_asked_once_and_is_held_since_then():
    vigil = LoopWatchdog()

    seen = looks(vigil, 10, 11, 11.5, 30)

    assert [look.request_ack for look in seen] == [True, False, False, False]
    assert [look.blocked_for for look in seen] == [0.0, 1.0, 1.5, 20.0]


def test_it_is_told_after_two_seconds_and_then_less_and_less_often():
    vigil = LoopWatchdog()

    seen = looks(vigil, *range(400))

    assert [now for now, look in enumerate(seen) if look.report] == [2, 10, 50, 250]


def test_its_end_is_told_if_its_beginning_was():
    vigil = LoopWatchdog()
    looks(vigil, 0, 1)
    assert vigil.acknowledge(1.9) == 0.0

    looks(vigil, 2, 3, 4)
    assert vigil.acknowledge(4.5) == 2.5

    looks(vigil, 5, 6)
    assert vigil.acknowledge(6.5) == 0.0
    assert [look.report for look in looks(vigil, 7, 8, 9)] == [False, False, True]


def test_an_answer_nobody_waits_for_is_nothing():
    assert LoopWatchdog().acknowledge(1e9) == 0.0


def test_who_could_not_even_look_while_the_process_computed_says_so():
    vigil = LoopWatchdog()
    vigil.sample(0.0, 0.0)

    assert vigil.sample(1.2, 1.2).gil_held_for == 0.0
    assert vigil.sample(11.2, 11.0).gil_held_for == 10.0
    assert vigil.sample(12.2, 12.0).gil_held_for == 0.0


def test_a_process_that_was_stopped_computed_nothing():
    vigil = LoopWatchdog()
    vigil.sample(0.0, 5.0)

    assert vigil.sample(3600.0, 5.1).gil_held_for == 0.0


@pytest.mark.parametrize(("ticktime", "period"), [(60, 1.0), (8, 1.0), (4, 0.5), (1, 0.125)])
def test_looks_are_a_second_apart_or_less_for_short_tick_times(ticktime, period):
    assert sample_interval(ticktime) == period


@pytest.mark.parametrize("ticktime", [1, 2, 4, 8, 15, 60])
@pytest.mark.parametrize("late", [0.0, 0.3, 0.7, 0.999])
def test_no_peer_waits_for_a_word_longer_than_half_a_tick_time(ticktime, late):
    """The loop stands still from 0 on, right after it has spoken; the first look comes at any time thereafter."""
    period = sample_interval(ticktime)
    spoken, longest = 0.0, 0.0
    for number in range(1000):
        now = (number + late) * period
        if is_tick_due(now - spoken, ticktime, 0.0):
            longest, spoken = max(longest, now - spoken), now

    assert 0 < longest <= ticktime / 2


def test_a_loop_that_turns_speaks_for_itself():
    assert not is_tick_due(60 / 4 + 1, 60, 0.0)
    assert not is_tick_due(8 / 4 + 0.9, 8, 0.0)


def test_while_a_loop_is_held_every_peer_hears_us_at_every_look_for_its_tick_time_may_be_short():
    assert is_tick_due(1.0, 60, 1.0)
    assert not is_tick_due(0.1, 60, 1.0)
