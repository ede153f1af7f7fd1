"""The native watchdog thread decides as the pure one, for any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh import native
from erlmesh.core import loop_watchdog, socket_looks

pytestmark = pytest.mark.skipif(native.module is None, reason="needs the native part")

STEPS = st.floats(0.0, 20.0, allow_nan=False)
SOCKETS = st.dictionaries(st.integers(1, 4), st.integers(0, 2), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["sample", "acknowledge", "blocked_for"]), STEPS)))
def test_both_find_the_same_blocks(history):
    pure, other = loop_watchdog.LoopWatchdog(), native.module.LoopWatchdog(loop_watchdog.REPORT_AFTER)
    now = 100.0
    for call, step in history:
        now += step
        if call == "sample":
            sample = pure.sample(now, cpu_time=0.0)
            assert other.sample(now) == (sample.request_ack, sample.blocked_for, sample.report)
        elif call == "acknowledge":
            assert other.acknowledge(now) == pure.acknowledge(now)
        else:
            assert other.blocked_for(now) == pure.blocked_for(now)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.02, 0.5, 1.5]), SOCKETS, st.integers(0, 3))))
def test_both_serve_the_same_sockets_at_the_same_time(history):
    pure, other = socket_looks.SocketLooks(), native.module.SocketLooks()
    now = 100.0
    for responds, step, with_data, total_progress in history:
        now += step
        if responds:
            pure.loop_responded()
            other.loop_responded()
        to_serve = pure.look(now, with_data, total_progress)
        other.look(now, list(with_data.items()), total_progress)

        assert (other.is_looking, other.is_serving) == (pure.is_looking, pure.is_serving)
        assert to_serve == (list(with_data) if other.is_serving else [])


@given(STEPS, STEPS, STEPS)
def test_both_send_the_same_ticks(idle_for, net_ticktime, blocked_for):
    arguments = idle_for, net_ticktime, blocked_for

    assert native.module.is_tick_due(*arguments) == loop_watchdog.is_tick_due(*arguments)
    assert native.module.sample_interval(net_ticktime) == loop_watchdog.sample_interval(net_ticktime)
