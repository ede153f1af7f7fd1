"""Which numbers an inbox takes, and what it answers."""

import pytest

from erlmesh.core.sharding.inbox_book import InboxBook
from erlmesh.core.sharding.messages import ACK, GO, REFUSED, WAIT
from erlmesh.terms import Atom, Pid

NODE = Atom("s@h")
SENDER = Pid(NODE, 1, 0, 1)
SOURCE = (NODE, 7, b"ticks")
OTHER = (Atom("t@h"), 7, b"ticks")


def put(book, *numbers, key=b"x", source=SOURCE):
    """The numbers that are taken, of these."""
    taken = []
    for number in numbers:
        entry = book.put(source, key, number, SENDER)
        if entry is not None:
            taken.append(number)
    return taken


def take(book, *numbers, key=b"x", source=SOURCE):
    """Put and settle. Return the numbers that were taken."""
    taken = []
    for number in numbers:
        entry = book.put(source, key, number, SENDER)
        if entry is not None:
            book.settle(entry, number)
            taken.append(number)
    return taken


def answers(book):
    return [(tag, number) for _, tag, _, _, number, _ in book.take_answers()]


@pytest.fixture
def book():
    return InboxBook()


def test_contiguous_numbers_are_taken_and_acknowledged_together(book):
    assert take(book, 1, 2, 3) == [1, 2, 3]
    assert answers(book) == [(ACK, 3)]
    assert answers(book) == []


def test_nothing_is_acknowledged_before_it_is_settled(book):
    put(book, 1, 2)

    assert not book.has_answers()


def test_settled_out_of_order_only_a_row_is_acknowledged(book):
    entry = book.put(SOURCE, b"x", 1, SENDER)
    put(book, 2, 3)

    book.settle(entry, 3)
    assert answers(book) == []
    book.settle(entry, 1)
    assert answers(book) == [(ACK, 1)]
    book.settle(entry, 2)
    assert answers(book) == [(ACK, 3)]


def test_a_duplicate_is_not_taken_and_is_acknowledged_again(book):
    take(book, 1, 2)
    answers(book)

    assert take(book, 1, 2) == []
    assert answers(book) == [(ACK, 2)]
    assert book.duplicates == 2


def test_the_first_number_of_a_source_may_be_any(book):
    assert take(book, 41, 42) == [41, 42]
    assert answers(book) == [(ACK, 42)]


def test_a_gap_is_answered_once_and_taken_when_the_source_begins_again(book):
    take(book, 1, 2)
    answers(book)

    assert take(book, 5, 6, 7) == []
    assert answers(book) == [(WAIT, 2), (GO, 2), (ACK, 2)]
    assert take(book, 3, 4, 5) == [3, 4, 5]
    assert answers(book) == [(ACK, 5)]


def test_a_source_that_has_forgotten_the_missing_numbers_begins_with_later_ones(book):
    take(book, 1, 2)
    take(book, 5, 6)
    answers(book)

    assert take(book, 5, 6, 7) == [5, 6, 7]
    assert answers(book) == [(ACK, 7)]


def test_after_a_change_of_the_group_wait_and_go_are_said_again(book):
    """Another holder has taken 5 to 7 meanwhile, and the source goes on with 8. It looks like a part of the run."""
    take(book, 1, 2)
    take(book, 5, 6, 7)
    answers(book)

    book.group_changed()
    assert answers(book) == [(WAIT, 2), (GO, 2), (ACK, 2)]
    assert take(book, 8, 9) == []
    assert answers(book) == [(WAIT, 2), (GO, 2), (ACK, 2)]
    assert take(book, 8, 9, 10) == [8, 9, 10]
    book.group_changed()
    assert answers(book) == [(ACK, 10)]


def test_late_settlements_of_numbers_before_a_new_begin_are_not_acknowledged(book):
    entry = book.put(SOURCE, b"x", 1, SENDER)
    put(book, 5)
    put(book, 5)
    answers(book)

    book.settle(entry, 1)
    assert answers(book) == []
    book.settle(entry, 5)
    assert answers(book) == [(ACK, 5)]


def test_an_inbox_that_does_not_act_says_wait_once_per_run():
    book = InboxBook(acts=False)

    assert put(book, 1, 2, 3) == []
    assert answers(book) == [(WAIT, 0)]
    assert put(book, 1, 2) == []  # another run
    assert answers(book) == [(WAIT, 0)]


def test_an_inbox_that_begins_to_act_says_go_to_all_that_wait():
    book = InboxBook(acts=False)
    put(book, 1, 2)
    put(book, 8, key=b"y")
    answers(book)

    book.begin()

    assert answers(book) == [(GO, 0), (GO, 0)]
    assert put(book, 3) == []  # It was on its way.
    assert take(book, 1, 2, 3) == [1, 2, 3]


def test_an_inbox_that_takes_over_continues_after_the_last_number_of_the_state():
    book = InboxBook(acts=False)
    book.merge([(SOURCE, b"x", 4)], settled=False)
    put(book, 3, 4, 5, 6)
    book.begin()
    assert answers(book) == [(WAIT, 4), (GO, 4)]

    assert take(book, 5, 6) == [5, 6]


def test_go_is_followed_by_the_acknowledgement_of_what_is_not_sent_again():
    book = InboxBook(acts=False)
    book.merge([(SOURCE, b"x", 4)], settled=True)
    put(book, 4)
    book.begin()

    assert answers(book) == [(WAIT, 4), (GO, 4), (ACK, 4)]
    assert take(book, 5) == [5]  # It follows a run without a new number.


def test_a_refusal_is_sent_before_the_acknowledgement_that_includes_it(book):
    entry = book.put(SOURCE, b"x", 1, SENDER)
    put(book, 2)

    book.refuse(entry, 1, b"no")
    book.settle(entry, 2)

    assert book.take_answers() == [
        (SENDER, REFUSED, SOURCE, b"x", 1, b"no"),
        (SENDER, ACK, SOURCE, b"x", 2, None),
    ]


def test_sources_and_keys_have_numbers_of_their_own(book):
    assert take(book, 1) == take(book, 1, key=b"y") == take(book, 1, source=OTHER) == [1]


def test_a_node_with_too_many_open_messages_waits_until_half_of_them_are_settled():
    book = InboxBook(open_limit=4)
    entry = book.put(SOURCE, b"x", 1, SENDER)
    put(book, 2, 3, 4)

    assert put(book, 5, 6) == []
    assert answers(book) == [(WAIT, 4)]
    assert take(book, 1, source=OTHER) == [1]
    answers(book)
    book.settle(entry, 1)
    assert answers(book) == [(ACK, 1)]
    book.settle(entry, 2)
    assert answers(book) == [(GO, 4), (ACK, 2)]
    assert put(book, 5, 6) == [5, 6]


def test_a_node_has_a_limited_number_of_entries_and_forgets_those_that_are_not_used():
    book = InboxBook(entry_limit=3)
    for key in (b"x", b"y", b"z"):
        take(book, 1, key=key)
    take(book, 1, source=OTHER)

    take(book, 1, key=b"new")
    assert len(book) == 4
    assert book.forgotten == 1
    take(book, 1, key=b"y")
    take(book, 2, key=b"z")
    take(book, 1, key=b"newer")

    assert take(book, 2, key=b"y") == [2]
    assert len(book) == 4


def test_a_lost_source_is_forgotten_after_some_time_unless_it_comes_back(book):
    take(book, 1)
    take(book, 1, source=OTHER)
    book.node_down(NODE, 100.0)
    book.node_down(OTHER[0], 100.0)
    book.node_up(OTHER[0])

    book.forget(159.0, after=60.0)
    assert len(book) == 2
    book.forget(160.0, after=60.0)
    assert book.dump() == [(OTHER, b"x", 1)]


def test_a_lost_source_with_open_messages_is_not_forgotten(book):
    entry = book.put(SOURCE, b"x", 1, SENDER)
    book.node_down(NODE, 0.0)

    book.forget(100.0, after=1.0)
    assert len(book) == 1
    book.settle(entry, 1)
    book.forget(100.0, after=1.0)
    assert len(book) == 0


def test_the_run_of_a_lost_source_ends(book):
    take(book, 1)
    take(book, 5)
    answers(book)

    book.node_down(NODE, 0.0)
    book.node_up(NODE)

    assert take(book, 2, 3) == [2, 3]


def test_numbers_are_dumped_and_merged_to_the_greater_one(book):
    take(book, 1, 2)
    take(book, 1, key=b"y")
    other = InboxBook()
    take(other, 1)
    take(other, 1, 2, key=b"y")

    other.merge(book.dump(), settled=True)

    assert sorted(other.dump()) == [(SOURCE, b"x", 2), (SOURCE, b"y", 2)]
    assert take(other, 2) == []
    assert (ACK, 2) in answers(other)


def test_merged_numbers_that_are_not_settled_are_acknowledged_later():
    book = InboxBook()
    book.merge([(SOURCE, b"x", 2)], settled=False)

    assert take(book, 1, 2) == []
    assert answers(book) == []
    book.settle_all()
    assert answers(book) == [(ACK, 2)]


@pytest.mark.parametrize(
    "number",
    [
        1,
        (SOURCE, b"x"),
        (SOURCE, "x", 1),
        (SOURCE, b"x", 0),
        (SOURCE, b"x", True),
        ((NODE, 7), b"x", 1),
        (SOURCE, b"x" * 2000, 1),
    ],
)
def test_numbers_of_another_form_are_refused(book, number):
    with pytest.raises(ValueError, match=r"a last number is \(source, key, number\)"):
        book.merge([number], settled=True)
