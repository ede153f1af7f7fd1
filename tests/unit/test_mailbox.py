"""A queue with selective receive."""

from hypothesis import given
from hypothesis import strategies as st

from erlmesh.runtime.mailbox import EMPTY, Mailbox


def filled(*messages):
    mailbox = Mailbox()
    for message in messages:
        mailbox.put(message)
    return mailbox


def test_messages_come_in_the_order_they_arrived():
    mailbox = filled(1, 2, 3)

    assert [mailbox.take() for _ in range(4)] == [1, 2, 3, EMPTY]


def test_the_first_message_that_matches_is_taken_and_the_others_stay_in_order():
    mailbox = filled(1, 3, 4, 5, 6)

    assert mailbox.take(lambda n: n % 2 == 0) == 4
    assert [mailbox.take() for _ in range(len(mailbox))] == [1, 3, 5, 6]


def test_without_a_match_nothing_is_taken():
    mailbox = filled(1, 3)

    assert mailbox.take(lambda n: n % 2 == 0) is EMPTY
    assert len(mailbox) == 2


def test_messages_known_not_to_match_are_not_looked_at_again():
    mailbox, seen = filled(1, 2, 3), []

    mailbox.take(lambda n: bool(seen.append(n)), 2)

    assert seen == [3]


def test_a_false_message_is_no_missing_one():
    mailbox = filled(0, [], False)

    assert [mailbox.take(lambda _: True) for _ in range(4)] == [0, [], False, EMPTY]
    assert repr(EMPTY) == "EMPTY"


def test_the_owner_is_woken_once():
    mailbox, woken = Mailbox(), []
    mailbox.wake = lambda: woken.append(len(mailbox))

    mailbox.put(1)
    mailbox.put(2)

    assert woken == [1]


@given(st.lists(st.integers(0, 5)), st.integers(0, 5))
def test_taking_one_kind_leaves_all_the_others_in_order(messages, kind):
    mailbox = filled(*messages)
    taken = []
    while (message := mailbox.take(lambda n: n == kind)) is not EMPTY:
        taken.append(message)

    assert taken == [n for n in messages if n == kind]
    assert list(mailbox.messages) == [n for n in messages if n != kind]
