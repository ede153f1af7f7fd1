"""With whom we have parted although he lives on."""

from erlmesh.kernel.hung_up import LINGERING, MOST, HungUp

A = "a@h"


def test_who_closed_and_is_found_in_the_same_life_is_left_alone():
    book = HungUp()
    book.closed(A, 7, 0.0)

    assert not book.is_left_alone(A)
    assert book.why_not(A, 7, LINGERING)
    assert book.is_left_alone(A)


def test_another_life_has_not_hung_up():
    book = HungUp()
    book.closed(A, 7, 0.0)

    assert not book.why_not(A, 8, LINGERING)
    assert not book.why_not("b@h", 7, LINGERING)
    assert not book.is_left_alone(A)


def test_until_somebody_wants_it():
    book = HungUp()
    book.closed(A, 7, 0.0)
    book.why_not(A, 7, LINGERING)

    book.forget(A)

    assert not book.why_not(A, 7, LINGERING)
    assert not book.is_left_alone(A)


def test_the_book_is_bounded():
    book = HungUp()
    for number in range(MOST + 1):
        book.closed(f"n{number}@h", 1, 0.0)

    assert not book.why_not("n0@h", 1, 1.0)
    assert book.why_not("n1@h", 1, 1.0)


def test_who_is_met_while_it_shuts_down_is_not_taken_for_one_that_why_not():
    book = HungUp()
    book.closed(A, 7, 0.0)

    assert book.why_not(A, 7, 1.0)
    assert not book.is_left_alone(A)


def test_who_was_left_for_others_is_not_met_in_that_life():
    book = HungUp()
    book.left(A, 7, 0.0)

    assert "other nodes" in book.why_not(A, 7, LINGERING)
    assert book.why_not(A, 8, LINGERING) is None
    assert not book.is_left_alone(A)


def test_it_is_found_once_an_attempt():
    book = HungUp()
    book.left(A, 7, 0.0)
    assert not book.was_found(A)

    book.why_not(A, 7, 1.0)

    assert book.was_found(A)
    assert not book.was_found(A)


def test_it_may_return_and_who_hung_up_may_not():
    book = HungUp()
    book.left(A, 7, 0.0)
    book.closed("b@h", 7, 0.0)

    for name in (A, "b@h", "c@h"):
        book.may_return(name)

    assert book.why_not(A, 7, 1.0) is None
    assert book.why_not("b@h", 7, 1.0)


def test_the_last_that_happened_counts():
    book = HungUp()
    book.closed(A, 7, 0.0)
    book.left(A, 7, 0.0)

    book.may_return(A)

    assert book.why_not(A, 7, LINGERING) is None
