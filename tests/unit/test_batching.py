"""When a batch is due and who is in it. Times are numbers."""

import pytest

from erlmesh.core.batching import FOREVER, BatchBook


def make(gone=(), **options):
    defaults = {"batch_size": 3, "wait": 1.0, "limit": 5, "slots": 1, "time_limit": 10.0}
    return BatchBook(lambda request: request not in gone, **{**defaults, **options})


def take(book, now):
    return [entry.request for entry in book.next_batch(now)]


def test_a_full_batch_is_due_at_once():
    book = make()

    assert [book.add(name, 0.0) for name in "abcd"] == [True] * 4
    assert take(book, 0.0) == ["a", "b", "c"]
    assert book.waiting == 1


def test_a_batch_that_is_not_full_is_due_when_its_oldest_request_has_waited():
    book = make()
    book.add("a", 0.5)
    book.add("b", 1.4)

    assert book.next_deadline() == 1.5
    assert take(book, 1.49) == []
    assert take(book, 1.5) == ["a", "b"]


def test_a_batch_waits_for_a_free_slot():
    book = make(wait=0.0, slots=2)
    for name in "ab":
        book.add(name, 0.0)
        batch = book.next_batch(0.0)
    book.add("c", 0.0)

    assert take(book, 0.0) == []
    assert book.next_deadline() == 10.0  # the time limit alone
    assert book.finished(batch) == ["b"]
    assert take(book, 0.0) == ["c"]


def test_requests_whose_callers_are_gone_are_dropped_before_the_batch():
    gone = set()
    book = make(gone)
    for name in "abcde":
        book.add(name, 0.0)
    gone |= {"a", "c"}

    assert take(book, 0.0) == ["b", "d", "e"]
    assert book.statistics.dropped == 2


def test_a_request_above_the_limit_is_refused_unless_the_oldest_is_gone():
    gone = set()
    book = make(gone, batch_size=9)
    for name in "abcde":
        book.add(name, 0.0)

    assert not book.add("f", 0.0)
    gone.add("a")
    assert book.add("g", 0.0)
    assert (book.statistics.overloaded, book.statistics.dropped, book.statistics.requests) == (1, 1, 6)


def test_waiting_and_running_requests_expire():
    book = make(batch_size=2, wait=5.0)
    for name, when in (("a", 0.0), ("b", 1.0), ("c", 2.0)):
        book.add(name, when)
    batch = book.next_batch(2.0)

    assert book.next_deadline() == 10.0
    assert book.expire(10.0) == ["a"]
    assert book.expire(12.0) == ["b", "c"]
    assert book.finished(batch) == [None, None]
    assert book.idle
    assert book.next_deadline() == FOREVER


def test_a_closing_book_waits_for_nothing():
    book = make()
    book.add("a", 0.0)
    book.closing = True

    assert take(book, 0.0) == ["a"]


def test_all_open_requests_are_taken_at_the_end():
    book = make(batch_size=1)
    book.add("a", 0.0)
    batch = book.next_batch(0.0)
    book.add("b", 0.0)

    assert book.take_all() == ["a", "b"]
    assert book.finished(batch) == [None]


def test_the_statistics_count_batches_and_waits():
    book = make(slots=2)
    for name, when in (("a", 0.0), ("b", 0.5), ("c", 0.75), ("d", 1.0)):
        book.add(name, when)
        book.next_batch(when)
    book.next_batch(2.0)

    seen = book.statistics
    assert (seen.batches, seen.batched, seen.largest_batch) == (2, 4, 3)
    assert (seen.waited, seen.longest_wait) == (0.75 + 0.25 + 1.0, 1.0)


@pytest.mark.parametrize("wrong", ["batch_size", "limit", "slots"])
def test_limits_are_positive(wrong):
    with pytest.raises(ValueError, match="1 or more"):
        make(**{wrong: 0})


@pytest.mark.parametrize("wrong", [{"wait": -1.0}, {"time_limit": 0.0}], ids=["wait", "time_limit"])
def test_times_are_not_negative(wrong):
    with pytest.raises(ValueError, match="seconds"):
        make(**wrong)


def test_the_bytes_that_wait_are_bounded_and_counted_until_the_batch():
    gone = set()
    book = make(gone, limit=100, byte_limit=100, batch_size=2, slots=1)

    assert book.add("larger than the limit", 0.0, 500)
    assert not book.add("b", 0.0, 1)
    gone.add("larger than the limit")
    assert [book.add(name, 0.0, 40) for name in "cde"] == [True, True, False]
    assert (book.waiting_bytes, book.statistics.overloaded) == (80, 2)
    assert take(book, 1.0) == ["c", "d"]
    assert book.waiting_bytes == 0
    assert book.add("f", 1.0, 100)
    assert book.expire(50.0) == ["c", "d", "f"]
    assert book.waiting_bytes == 0
    book.add("g", 50.0, 100)
    book.take_all()
    assert book.waiting_bytes == 0
