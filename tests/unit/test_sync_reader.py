"""Which thread reads the sockets of a synchronous node."""

import time

import pytest

from erlmesh.sync.reader import SIGNAL_CHECK, Reader
from erlmesh.sync.waiting import Waiter


@pytest.fixture
def reader():
    reader = Reader(lambda _link, _events: None)
    yield reader
    reader.close()


def test_the_first_waiter_reads_and_the_next_follow(reader):
    first, second = Waiter(), Waiter()
    reader.enter(first)
    reader.enter(second)

    assert first.gate is None
    assert second.gate is not None
    reader.leave(second)
    reader.leave(first)


def test_a_reader_that_leaves_wakes_a_follower_which_reads_on(reader):
    first, done, third = Waiter(), Waiter(), Waiter()
    for each in (first, done, third):
        reader.enter(each)
    done.finish_one()
    gate = third.gate

    reader.leave(first)

    assert gate.acquire(blocking=False)
    assert reader._reader is third
    assert third.gate is None
    reader.leave(done)
    reader.leave(third)
    assert reader._reader is None


def test_a_follower_whose_time_is_up_has_no_role_left(reader):
    first, second = Waiter(), Waiter()
    reader.enter(first)
    reader.enter(second)

    reader.wait(second, 0.0)
    reader.leave(second)
    reader.leave(first)

    assert reader._reader is None


def test_a_waiter_that_is_done_does_not_wait(reader):
    waiter = Waiter(0)

    reader.enter(waiter)
    reader.wait(waiter, None)

    assert reader._reader is None


def test_no_wait_is_longer_than_the_look_for_ctrl_c(reader, monkeypatch):
    """CPython misses a signal that arrives just before a thread blocks: it is seen when the wait returns."""
    waited = []

    class Gate:
        def acquire(self, timeout):
            waited.append(timeout)
            follower.remaining = 2 - len(waited)
            return False

    class Poll:
        def poll(self, timeout):
            waited.append(timeout / 1000)
            first.remaining = 4 - len(waited)
            return []

    first, follower = Waiter(), Waiter()
    with reader.lock:
        reader.enter(first)
        reader.enter(follower)
    follower.gate = Gate()
    reader.wait(follower, None)
    monkeypatch.setattr(reader, "_poll", Poll())
    reader.wait(first, time.monotonic() + 3600)

    assert waited == [SIGNAL_CHECK] * 4
