"""A queue with selective receive."""

from hypothesis import given
from hypothesis import strategies as st

from erlmesh.runtime.mailbox import EMPTY, Mailbox


def filled(*messages):
    mailbox = Mailbox()
    for message in messages:
        mailbox.put(message)
    return mailbox


def test_messages_are_taken_in_order_of_arrival():
    mailbox = filled(1, 2, 3)

    assert [mailbox.take() for _ in range(4)] == [1, 2, 3, EMPTY]


def test_first_matching_message_is_taken_and_others_keep_their_order():
    mailbox = filled(1, 3, 4, 5, 6)

    assert mailbox.take(lambda n: n % 2 == 0) == 4
    assert [mailbox.take() for _ in range(len(mailbox))] == [1, 3, 5, 6]


def test_no_match_takes_nothing():
    mailbox = filled(1, 3)

    assert mailbox.take(lambda n: n % 2 == 0) is EMPTY
    assert len(mailbox) == 2


def test_skipped_messages_are_not_matched_again():
    mailbox, seen = filled(1, 2, 3), []

    mailbox.take(lambda n: bool(seen.append(n)), 2)

    assert seen == [3]


def test_false_message_is_not_a_missing_message():
    mailbox = filled(0, [], False)

    assert [mailbox.take(lambda _: True) for _ in range(4)] == [0, [], False, EMPTY]
    assert repr(EMPTY) == "EMPTY"


def test_waiting_process_is_woken_once():
    class RecordingWait:
        def done(self):
            return False

        def set_result(self, result):
            woken.append((result, len(mailbox)))

    mailbox, woken = Mailbox(), []
    mailbox.waiting = RecordingWait()

    mailbox.put(1)
    mailbox.put(2)

    assert woken == [(None, 1)]
    assert mailbox.waiting is None


@given(st.lists(st.integers(0, 5)), st.integers(0, 5))
def test_taking_one_kind_keeps_the_order_of_others(messages, kind):
    mailbox = filled(*messages)
    taken = []
    while (message := mailbox.take(lambda n: n == kind)) is not EMPTY:
        taken.append(message)

    assert taken == [n for n in messages if n == kind]
    assert list(mailbox.messages) == [n for n in messages if n != kind]
