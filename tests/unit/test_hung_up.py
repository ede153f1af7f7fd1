"""Who has hung up on us and meant it."""

from erlmesh.kernel.hung_up import LINGERING, MOST, HungUp

A = "a@h"


def test_who_closed_and_is_found_in_the_same_life_is_left_alone():
    book = HungUp()
    book.closed(A, 7, 0.0)

    assert not book.is_left_alone(A)
    assert book.lives_on(A, 7, LINGERING)
    assert book.is_left_alone(A)


def test_another_life_has_not_hung_up():
    book = HungUp()
    book.closed(A, 7, 0.0)

    assert not book.lives_on(A, 8, LINGERING)
    assert not book.lives_on("b@h", 7, LINGERING)
    assert not book.is_left_alone(A)


def test_until_somebody_wants_it():
    book = HungUp()
    book.closed(A, 7, 0.0)
    book.lives_on(A, 7, LINGERING)

    book.forget(A)

    assert not book.lives_on(A, 7, LINGERING)
    assert not book.is_left_alone(A)


def test_the_book_is_bounded():
    book = HungUp()
    for number in range(MOST + 1):
        book.closed(f"n{number}@h", 1, 0.0)

    assert not book.lives_on("n0@h", 1, 1.0)
    assert book.lives_on("n1@h", 1, 1.0)


def test_who_is_met_while_it_shuts_down_is_not_taken_for_one_that_lives_on():
    book = HungUp()
    book.closed(A, 7, 0.0)

    assert book.lives_on(A, 7, 1.0)
    assert not book.is_left_alone(A)
