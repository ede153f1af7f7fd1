"""Which results a receiver counts."""

from erlmesh.core.sharding.receipt_book import WINDOW, ReceiptBook
from erlmesh.terms import Atom

NODE, HEIR = Atom("a@h"), Atom("b@h")
SOURCE = (Atom("s@h"), 7, b"ticks")


def counted(book, *numbers, node=NODE, key=b"x"):
    return [number for number in numbers if book.is_new(node, SOURCE, key, number)]


def test_each_number_counts_once_in_any_order():
    book = ReceiptBook()

    assert counted(book, 3, 9, 3, 5, 9, 1) == [3, 9, 5, 1]
    assert book.duplicates == 2


def test_it_does_not_matter_who_has_sent_a_result():
    book = ReceiptBook()
    counted(book, 1, 2)

    assert counted(book, 1, 2, 3, node=HEIR) == [3]


def test_numbers_before_the_window_count_as_known():
    book = ReceiptBook()

    assert counted(book, WINDOW + 5, 5, 6, 1 << 62, WINDOW + 6) == [WINDOW + 5, 6, 1 << 62]


def test_a_number_of_any_size_takes_little_memory():
    book = ReceiptBook()
    for number in (1, 10**6, 1 << 40, (1 << 63) - 1):
        counted(book, number)

    assert book._seen[SOURCE, b"x"].bits.bit_length() <= WINDOW


def test_a_node_that_sends_many_keys_makes_itself_forgotten():
    book = ReceiptBook(limit=3)
    counted(book, 1, node=HEIR, key=b"kept")

    for index in range(10):
        counted(book, 1, key=b"%d" % index)

    assert len(book) == 4
    assert book.forgotten == 7
    assert counted(book, 1, node=HEIR, key=b"kept") == []


def test_a_key_that_moves_to_another_node_is_no_longer_counted_for_the_first():
    book = ReceiptBook(limit=2)
    for key in (b"x", b"y"):
        counted(book, 1, key=key)
        counted(book, 2, key=key, node=HEIR)

    assert counted(book, 1, key=b"z") == [1]
    assert len(book) == 3
    assert book.forgotten == 0
