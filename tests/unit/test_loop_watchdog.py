"""When a loop counts as blocked, how often that is reported, and when peers need a tick."""

import pytest

from erlmesh.core.loop_watchdog import LoopWatchdog, is_tick_due, sample_interval

BUSY = 1000.0
"""CPU time that grows faster than any clock here."""


def take_samples(watchdog, *times, cpu_time=0.0):
    return [watchdog.sample(float(now), cpu_time) for now in times]


def test_a_responsive_loop_is_asked_at_each_sample_and_not_reported():
    watchdog = LoopWatchdog()
    for second in range(100):
        (sample,) = take_samples(watchdog, second)
        assert (sample.request_ack, sample.blocked_for, sample.report, sample.gil_held_for) == (True, 0.0, False, 0.0)

        assert watchdog.acknowledge(second + 0.1) == 0.0


def test_a_loop_that_does_not_acknowledge_is_asked_once_and_blocked_since_then():
    watchdog = LoopWatchdog()

    seen = take_samples(watchdog, 10, 11, 11.5, 30)

    assert [sample.request_ack for sample in seen] == [True, False, False, False]
    assert [sample.blocked_for for sample in seen] == [0.0, 1.0, 1.5, 20.0]


def test_a_blocked_loop_is_reported_after_two_seconds_and_then_less_often():
    watchdog = LoopWatchdog()

    seen = take_samples(watchdog, *range(400))

    assert [now for now, sample in enumerate(seen) if sample.report] == [2, 10, 50, 250]


def test_the_end_of_a_block_is_reported_if_the_block_was():
    watchdog = LoopWatchdog()
    take_samples(watchdog, 0, 1)
    assert watchdog.acknowledge(1.9) == 0.0

    take_samples(watchdog, 2, 3, 4)
    assert watchdog.acknowledge(4.5) == 2.5

    take_samples(watchdog, 5, 6)
    assert watchdog.acknowledge(6.5) == 0.0
    assert [sample.report for sample in take_samples(watchdog, 7, 8, 9)] == [False, False, True]


def test_an_unrequested_acknowledgement_is_ignored():
    assert LoopWatchdog().acknowledge(1e9) == 0.0


def test_a_late_sample_in_a_running_process_reports_the_gil():
    watchdog = LoopWatchdog()
    watchdog.sample(0.0, 0.0)

    assert watchdog.sample(1.2, 1.2).gil_held_for == 0.0
    assert watchdog.sample(11.2, 11.0).gil_held_for == 10.0
    assert watchdog.sample(12.2, 12.0).gil_held_for == 0.0


def test_a_late_sample_in_a_stopped_process_is_not_reported():
    watchdog = LoopWatchdog()
    watchdog.sample(0.0, 5.0)

    assert watchdog.sample(3600.0, 5.1).gil_held_for == 0.0


@pytest.mark.parametrize(("ticktime", "interval"), [(60, 1.0), (8, 1.0), (4, 0.5), (1, 0.125)])
def test_samples_are_a_second_apart_or_less_for_short_tick_times(ticktime, interval):
    assert sample_interval(ticktime) == interval


@pytest.mark.parametrize("ticktime", [1, 2, 4, 8, 15, 60])
@pytest.mark.parametrize("late", [0.0, 0.3, 0.7, 0.999])
def test_no_peer_waits_for_data_longer_than_half_a_tick_time(ticktime, late):
    """The loop is blocked from 0 on, right after it has sent a tick. The first sample comes at any time after that."""
    interval = sample_interval(ticktime)
    sent_at, longest = 0.0, 0.0
    for number in range(1000):
        now = (number + late) * interval
        if is_tick_due(now - sent_at, ticktime, 0.0):
            longest, sent_at = max(longest, now - sent_at), now

    assert 0 < longest <= ticktime / 2


def test_a_responsive_loop_sends_its_own_ticks():
    assert not is_tick_due(60 / 4 + 1, 60, 0.0)
    assert not is_tick_due(8 / 4 + 0.9, 8, 0.0)


def test_while_a_loop_is_blocked_every_peer_gets_a_tick_at_every_sample():
    assert is_tick_due(1.0, 60, 1.0)
    assert not is_tick_due(0.1, 60, 1.0)
