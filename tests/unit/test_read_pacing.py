"""When the reads of a stream are made fewer, by sizes and times only."""

import pytest

from erlmesh.core.read_pacing import MAX_DELAY, MAX_READ, MIN_READ, STREAM_READS, STREAM_TIME, ReadPacing


def pauses(reads):
    """Return what each read gives. A read is its size, the number of signals sent so far, and its time."""
    pacing = ReadPacing()
    return [pacing.after_read(*read) for read in reads]


def stream(count, size=MIN_READ, interval=STREAM_TIME / STREAM_READS / 2, sent=0):
    return [(size, sent, index * interval) for index in range(count)]


def test_a_pause_follows_each_read_of_a_stream_from_its_eighth_read_on():
    assert pauses(stream(12)) == [False] * (STREAM_READS - 1) + [True] * 5


def test_longer_reads_continue_a_stream_but_do_not_start_one():
    assert pauses([*stream(STREAM_READS), (MAX_READ * 4, 0, 1.0)])[-1]
    assert not any(pauses(stream(20, size=MAX_READ)))


@pytest.mark.parametrize("size", [1, MIN_READ - 1])
def test_short_reads_are_no_stream(size):
    assert not any(pauses(stream(20, size=size)))


def test_a_short_read_ends_a_stream():
    reads = [*stream(STREAM_READS), (MIN_READ - 1, 0, 1.0), (MIN_READ, 0, 1.0)]

    assert pauses(reads)[-3:] == [True, False, False]


def test_reads_with_time_between_them_are_no_stream():
    assert not any(pauses(stream(40, interval=MAX_DELAY)))


def test_reads_after_a_slow_start_become_a_stream():
    slow, fast = stream(3, interval=1.0), [(size, sent, 10.0 + at) for size, sent, at in stream(STREAM_READS)]

    assert pauses([*slow, *fast])[-1]


def test_reads_that_are_answered_are_no_stream():
    assert not any(pauses([(MIN_READ, index, index * 1e-5) for index in range(1, 40)]))


def test_an_answer_ends_a_stream():
    reads = [*stream(STREAM_READS), (MIN_READ, 1, 1.0), (MIN_READ, 1, 1.0)]

    assert pauses(reads)[-3:] == [True, False, False]
