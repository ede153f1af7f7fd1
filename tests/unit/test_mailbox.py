"""A queue with selective receive. All tests run with the class in Python and with the native one."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh import native
from erlmesh.runtime.mailbox import EMPTY, PureMailbox

NATIVE = pytest.mark.skipif(native.module is None, reason=native.description)


@pytest.fixture(params=["pure", pytest.param("native", marks=NATIVE)], scope="module")
def filled(request):
    """Make a mailbox of one build with these messages."""
    make = PureMailbox if request.param == "pure" else native.module.Mailbox
    return lambda *messages: fill(make(), messages)


def fill(mailbox, messages):
    for message in messages:
        mailbox.put(message)
    return mailbox


def test_messages_are_taken_in_order_of_arrival(filled):
    mailbox = filled(1, 2, 3)

    assert [mailbox.take() for _ in range(4)] == [1, 2, 3, EMPTY]


def test_first_matching_message_is_taken_and_others_keep_their_order(filled):
    mailbox = filled(1, 3, 4, 5, 6)

    assert mailbox.take(lambda n: n % 2 == 0) == 4
    assert [mailbox.take() for _ in range(len(mailbox))] == [1, 3, 5, 6]


def test_no_match_takes_nothing(filled):
    mailbox = filled(1, 3)

    assert mailbox.take(lambda n: n % 2 == 0) is EMPTY
    assert len(mailbox) == 2


def test_skipped_messages_are_not_matched_again(filled):
    mailbox, seen = filled(1, 2, 3), []

    mailbox.take(lambda n: bool(seen.append(n)), 2)

    assert seen == [3]


def test_false_message_is_not_a_missing_message(filled):
    mailbox = filled(0, [], False)

    assert [mailbox.take(lambda _: True) for _ in range(4)] == [0, [], False, EMPTY]
    assert repr(EMPTY) == "EMPTY"


def test_waiting_process_is_woken_once(filled):
    class RecordingWait:
        def done(self):
            return False

        def set_result(self, result):
            woken.append((result, len(mailbox)))

    mailbox, woken = filled(), []
    mailbox.waiting = RecordingWait()

    mailbox.put(1)
    mailbox.put(2)

    assert woken == [(None, 1)]
    assert mailbox.waiting is None


@given(st.lists(st.integers(0, 5)), st.integers(0, 5))
def test_taking_one_kind_keeps_the_order_of_others(filled, messages, kind):
    mailbox = filled(*messages)
    taken = []
    while (message := mailbox.take(lambda n: n == kind)) is not EMPTY:
        taken.append(message)

    assert taken == [n for n in messages if n == kind]
    assert list(mailbox) == [n for n in messages if n != kind]


def test_messages_are_removed_from_the_left(filled):
    mailbox = filled(1, 2)

    assert mailbox
    assert [mailbox.popleft(), mailbox.popleft()] == [1, 2]
    assert not mailbox
    with pytest.raises(IndexError):
        mailbox.popleft()


def test_a_match_that_raises_takes_nothing(filled):
    mailbox = filled(1, 2)

    with pytest.raises(ZeroDivisionError):
        mailbox.take(lambda n: 1 / 0)

    assert list(mailbox) == [1, 2]


def test_a_match_may_use_the_mailbox(filled):
    mailbox = filled(1, 2)

    def match(message):
        mailbox.put(message + 10)
        return message == 2

    assert mailbox.take(match) == 2
    assert list(mailbox) == [1, 11, 12]


def test_a_message_that_refers_to_the_mailbox_is_freed_with_it(filled):
    class Message:
        pass

    message = Message()
    message.mailbox = filled(message)
    del message
    gc.collect()

    assert not [found for found in gc.get_objects() if type(found) is Message]


# Notices


def grown_of(make_mailbox):
    """Return a mailbox and the counts of its notices."""
    counts = []
    mailbox = make_mailbox(lambda box, count: counts.append((box is mailbox, count)))
    return mailbox, counts


@pytest.fixture(params=["pure", pytest.param("native", marks=NATIVE)], scope="module")
def make_mailbox(request):
    return PureMailbox if request.param == "pure" else native.module.Mailbox


def test_the_owner_is_told_at_each_power_of_ten_from_10000_on(make_mailbox):
    mailbox, counts = grown_of(make_mailbox)
    fill(mailbox, range(100_001))

    assert counts == [(True, 10_000), (True, 100_000)]


def test_a_mailbox_that_shrinks_and_grows_again_gives_no_second_notice(make_mailbox):
    mailbox, counts = grown_of(make_mailbox)
    fill(mailbox, range(10_001))
    for _ in range(5_000):
        mailbox.take()
    fill(mailbox, range(5_000))

    assert len(counts) == 1


def test_after_the_process_has_emptied_the_mailbox_and_waits_the_notices_start_again(make_mailbox):
    mailbox, counts = grown_of(make_mailbox)
    fill(mailbox, range(10_000))
    while mailbox:
        mailbox.take()
    mailbox.waiting = Woken()
    fill(mailbox, range(10_000))

    assert len(counts) == 2


def test_a_process_that_waits_for_another_message_is_noticed(make_mailbox):
    mailbox, counts = grown_of(make_mailbox)
    for number in range(10_000):
        mailbox.waiting = Woken()
        mailbox.put(number)

    assert len(counts) == 1


class Woken:
    """A wait that need not be ended."""

    def set_result(self, result):
        pass


@pytest.mark.parametrize(("limit", "noticed"), [(1, [2, 10_000]), (500, [501, 10_000]), (20_000, [10_000, 20_001])])
def test_the_owner_is_told_of_more_messages_than_the_limit(make_mailbox, limit, noticed):
    mailbox, counts = grown_of(make_mailbox)
    mailbox.limit = limit
    fill(mailbox, range(20_001))

    assert [count for _, count in counts] == noticed
    assert mailbox.limit == limit


def test_a_limit_can_be_removed(make_mailbox):
    mailbox, counts = grown_of(make_mailbox)
    mailbox.limit = 3
    mailbox.limit = None
    fill(mailbox, range(9_999))

    assert counts == []
    assert mailbox.limit is None


@NATIVE
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_in_a_notice_does_not_lose_the_message():
    mailbox = native.module.Mailbox(lambda _mailbox, _count: 1 / 0)
    fill(mailbox, range(10_000))

    assert len(mailbox) == 10_000


def test_newest_message_is_taken_only_if_it_matches(filled):
    mailbox = filled(1, 2)

    assert mailbox.take_newest(lambda n: n == 1) is EMPTY
    assert mailbox.take_newest(lambda n: n == 2) == 2
    assert [mailbox.take(), mailbox.take_newest(lambda _: True)] == [1, EMPTY]


def test_message_above_the_limit_for_calls_is_reported(filled):
    mailbox = filled()
    assert mailbox.call_limit is None

    mailbox.call_limit = 2

    assert [mailbox.put(number) for number in range(4)] == [False, False, True, True]
    mailbox.call_limit = None
    assert mailbox.put(5) is False
    assert len(mailbox) == 5
