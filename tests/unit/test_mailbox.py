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
