"""Which thread reads the sockets of a synchronous node."""

import pytest

from erlmesh.sync.reader import Reader
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
