"""What an outbox keeps and sends. Holders are pids; messages are bytes."""

import pytest

from erlmesh.core.sharding.outbox_book import IDLE_LIMIT, OutboxBook
from erlmesh.terms import Atom, Pid

A, B = Pid(Atom("a@h"), 1, 0, 1), Pid(Atom("b@h"), 1, 0, 1)


class Desk:
    """A book whose keys all have one holder, and what it has sent."""

    def __init__(self, holder=A, credit=4):
        self.book = OutboxBook(credit)
        self.pid = holder

    def put(self, key, message):
        stream = self.book.find(key) or self.book.add_stream(key, None, b"")
        return self.book.put(stream, self.book.holder(self.pid), message)

    def move(self, pid):
        self.pid = pid
        return [holder.pid for holder in self.book.move(None, lambda _: pid)]

    def sends(self, pid=None):
        holder, sent = self.book.holder(pid or self.pid), []
        while (send := self.book.next_send(holder)) is not None:
            stream, number, message = send
            sent.append((stream.key, number, message))
        return sent


@pytest.fixture
def desk():
    return Desk()


def test_numbers_count_the_messages_of_each_key_from_1(desk):
    assert [desk.put(key, b"m") for key in (b"x", b"y", b"x", b"x", b"y")] == [1, 1, 2, 3, 2]


def test_messages_are_sent_once_in_the_order_of_their_numbers(desk):
    desk.put(b"x", b"one")
    desk.put(b"x", b"two")

    assert desk.sends() == [(b"x", 1, b"one"), (b"x", 2, b"two")]
    assert desk.sends() == []


def test_keys_take_turns():
    desk = Desk()
    for number in range(3):
        desk.put(b"x", b"x%d" % number)
    desk.put(b"y", b"y0")

    assert [message for _, _, message in desk.sends()] == [b"x0", b"y0", b"x1", b"x2"]


def test_no_more_than_the_credit_is_sent_over_all_keys():
    desk = Desk(credit=3)
    for key in b"abcde":
        desk.put(bytes([key]), b"m")

    assert len(desk.sends()) == 3
    assert desk.book.sent_to() == {A: 3}
    assert not desk.book.has_room(desk.book.holder(A))


def test_an_acknowledgement_includes_all_numbers_before_it(desk):
    for _ in range(3):
        desk.put(b"x", b"m")
    desk.sends()

    desk.book.acknowledged(b"x", 2)

    assert desk.book.waiting() == {A: 1}
    assert desk.book.kept == 1


def test_an_acknowledgement_returns_credit():
    desk = Desk(credit=2)
    for number in range(4):
        desk.put(b"x", b"%d" % number)
    assert len(desk.sends()) == 2

    holder = desk.book.acknowledged(b"x", 2)

    assert holder is desk.book.holder(A)
    assert [number for _, number, _ in desk.sends()] == [3, 4]


@pytest.mark.parametrize("number", [-1, 0, 4, 1 << 62])
def test_an_acknowledgement_of_a_number_that_was_never_given_changes_nothing(desk, number):
    for _ in range(3):
        desk.put(b"x", b"m")

    assert desk.book.acknowledged(b"x", number) is None
    assert desk.book.acknowledged(b"unknown", 1) is None
    assert desk.book.kept == 3


def test_a_refusal_forgets_one_message_and_returns_its_credit():
    desk = Desk(credit=2)
    for number in (1, 2, 3):
        desk.put(b"x", b"%d" % number)
    desk.sends()

    holder, message = desk.book.refused(b"x", 2)

    assert (holder.pid, message) == (A, b"2")
    assert desk.sends() == [(b"x", 3, b"3")]
    assert desk.book.sent_to() == {A: 2}
    desk.book.acknowledged(b"x", 3)
    assert desk.book.kept == 0
    assert desk.book.sent_to() == {}


def test_a_refused_message_is_not_sent_again_and_not_refused_twice(desk):
    for number in (1, 2, 3):
        desk.put(b"x", b"%d" % number)
    desk.sends()
    desk.book.refused(b"x", 2)

    assert desk.book.refused(b"x", 2) is None
    desk.move(B)
    assert desk.sends() == [(b"x", 1, b"1"), (b"x", 3, b"3")]


def test_another_holder_gets_what_was_not_acknowledged_in_order(desk):
    for number in (1, 2, 3):
        desk.put(b"x", b"%d" % number)
    desk.sends()
    desk.book.acknowledged(b"x", 1)

    assert desk.move(B) == [B]

    assert desk.sends() == [(b"x", 2, b"2"), (b"x", 3, b"3")]
    assert desk.book.replays == 2
    assert desk.book.waiting() == {B: 2}


def test_a_holder_that_comes_back_gets_everything_again(desk):
    desk.put(b"x", b"1")
    desk.sends()

    desk.move(None)
    assert desk.book.waiting() == {None: 1}
    desk.move(A)

    assert desk.sends() == [(b"x", 1, b"1")]


def test_what_was_never_sent_is_no_replay(desk):
    desk.move(None)
    desk.put(b"x", b"1")
    desk.put(b"x", b"2")

    desk.move(A)

    assert len(desk.sends()) == 2
    assert desk.book.replays == 0


def test_a_holder_with_the_messages_of_a_lost_one_gets_no_more_than_its_credit():
    desk = Desk(credit=2)
    for key in (b"x", b"y"):
        desk.put(key, b"m")
        desk.put(key, b"m")

    desk.move(B)

    assert len(desk.sends()) == 2
    assert desk.book.waiting() == {B: 4}


def test_a_key_that_waits_gets_nothing_until_go(desk):
    for number in (1, 2, 3):
        desk.put(b"x", b"%d" % number)
    desk.sends()

    desk.book.wait(b"x", 1)
    desk.put(b"x", b"4")
    assert desk.sends() == []
    assert desk.book.sent_to() == {A: 1}

    desk.book.go(b"x", 1)
    assert [number for _, number, _ in desk.sends()] == [2, 3, 4]


def test_wait_returns_credit_to_other_keys():
    desk = Desk(credit=2)
    desk.put(b"x", b"1")
    desk.put(b"x", b"2")
    desk.sends()
    desk.put(b"y", b"1")

    desk.book.wait(b"x", 0)

    assert desk.sends() == [(b"y", 1, b"1")]


def test_go_continues_after_what_the_holder_has_got_elsewhere(desk):
    for number in (1, 2, 3):
        desk.put(b"x", b"%d" % number)
    desk.sends()
    desk.book.wait(b"x", 0)

    desk.book.go(b"x", 2)

    assert [number for _, number, _ in desk.sends()] == [3]
    assert desk.book.sent_to() == {A: 3}
    desk.book.acknowledged(b"x", 3)
    assert desk.book.sent_to() == {}


def test_go_of_a_holder_that_has_less_than_was_acknowledged_continues_with_what_is_kept(desk):
    for number in (1, 2, 3):
        desk.put(b"x", b"%d" % number)
    desk.sends()
    desk.book.acknowledged(b"x", 2)
    desk.book.wait(b"x", 0)

    desk.book.go(b"x", 0)

    assert [number for _, number, _ in desk.sends()] == [3]


def test_go_to_a_key_that_does_not_wait_sends_nothing(desk):
    desk.put(b"x", b"1")
    desk.sends()

    assert desk.book.go(b"x", 0) is None
    assert desk.sends() == []


def test_another_holder_ends_the_wait(desk):
    desk.put(b"x", b"1")
    desk.sends()
    desk.book.wait(b"x", 0)

    desk.move(B)

    assert desk.sends() == [(b"x", 1, b"1")]


def test_a_probe_is_the_first_message_of_what_stands_still(desk):
    desk.put(b"x", b"1")
    desk.put(b"x", b"2")
    desk.put(b"y", b"1")
    desk.sends()

    assert desk.book.probe() == []  # They are new.
    desk.book.acknowledged(b"y", 1)
    desk.put(b"y", b"2")

    assert [(stream.key, number, message) for stream, number, message in desk.book.probe()] == [(b"x", 1, b"1")]


def test_nothing_without_a_holder_is_probed(desk):
    desk.move(None)
    desk.put(b"x", b"1")

    assert [desk.book.probe(), desk.book.probe()] == [[], []]


def test_a_waiting_key_that_is_acknowledged_after_a_probe_goes_on(desk):
    desk.put(b"x", b"1")
    desk.put(b"x", b"2")
    desk.sends()
    desk.book.wait(b"x", 0)
    desk.book.probe()
    assert len(desk.book.probe()) == 1

    desk.book.acknowledged(b"x", 1)

    assert desk.sends() == [(b"x", 2, b"2")]


def test_only_the_node_of_the_holder_answers(desk):
    desk.put(b"x", b"1")

    assert desk.book.is_from_holder(b"x", A.node)
    assert not desk.book.is_from_holder(b"x", B.node)
    assert not desk.book.is_from_holder(b"y", A.node)
    desk.move(None)
    assert not desk.book.is_from_holder(b"x", A.node)


def test_only_the_keys_of_the_bucket_move():
    book = OutboxBook(4)
    for bucket in (1, 2):
        stream = book.add_stream(b"%d" % bucket, bucket, b"")
        book.put(stream, book.holder(A), b"m")

    book.move(1, lambda _: B)

    assert book.waiting() == {A: 1, B: 1}


def test_of_keys_that_are_not_used_only_the_next_number_is_kept():
    desk = Desk(credit=10)
    for number in range(3 * IDLE_LIMIT):
        desk.put(b"%d" % number, b"m")
        desk.sends()
        desk.book.acknowledged(b"%d" % number, 1)

    assert len(desk.book._streams) == IDLE_LIMIT
    assert desk.book.find(b"0") is None
    assert desk.put(b"0", b"m") == 2
    assert desk.put(b"1", b"m") == 2
    assert desk.sends() == [(b"0", 2, b"m"), (b"1", 2, b"m")]
    assert len(desk.book._streams) <= IDLE_LIMIT + 2
