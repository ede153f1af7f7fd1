"""With whom we have parted although he lives on."""

from erlmesh.core.disconnect_history import MAX_DISCONNECTS, SHUTDOWN_GRACE, DisconnectHistory

A = "a@h"


def test_who_closed_and_is_found_in_the_same_life_is_left_alone():
    book = DisconnectHistory()
    book.record_peer_close(A, 7, 0.0)

    assert not book.is_suppressed(A)
    assert book.refusal_reason(A, 7, SHUTDOWN_GRACE)
    assert book.is_suppressed(A)


def test_another_life_has_not_hung_up():
    book = DisconnectHistory()
    book.record_peer_close(A, 7, 0.0)

    assert not book.refusal_reason(A, 8, SHUTDOWN_GRACE)
    assert not book.refusal_reason("b@h", 7, SHUTDOWN_GRACE)
    assert not book.is_suppressed(A)


def test_until_somebody_wants_it():
    book = DisconnectHistory()
    book.record_peer_close(A, 7, 0.0)
    book.refusal_reason(A, 7, SHUTDOWN_GRACE)

    book.discard(A)

    assert not book.refusal_reason(A, 7, SHUTDOWN_GRACE)
    assert not book.is_suppressed(A)


def test_the_book_is_bounded():
    book = DisconnectHistory()
    for number in range(MAX_DISCONNECTS + 1):
        book.record_peer_close(f"n{number}@h", 1, 0.0)

    assert not book.refusal_reason("n0@h", 1, 1.0)
    assert book.refusal_reason("n1@h", 1, 1.0)


def test_who_is_met_while_it_shuts_down_is_not_taken_for_one_that_why_not():
    book = DisconnectHistory()
    book.record_peer_close(A, 7, 0.0)

    assert book.refusal_reason(A, 7, 1.0)
    assert not book.is_suppressed(A)


def test_who_was_left_for_others_is_not_met_in_that_life():
    book = DisconnectHistory()
    book.record_overlap_disconnect(A, 7, 0.0)

    assert "other nodes" in book.refusal_reason(A, 7, SHUTDOWN_GRACE)
    assert book.refusal_reason(A, 8, SHUTDOWN_GRACE) is None
    assert not book.is_suppressed(A)


def test_it_is_found_once_an_attempt():
    book = DisconnectHistory()
    book.record_overlap_disconnect(A, 7, 0.0)
    assert not book.pop_found(A)

    book.refusal_reason(A, 7, 1.0)

    assert book.pop_found(A)
    assert not book.pop_found(A)


def test_it_may_return_and_who_hung_up_may_not():
    book = DisconnectHistory()
    book.record_overlap_disconnect(A, 7, 0.0)
    book.record_peer_close("b@h", 7, 0.0)

    for name in (A, "b@h", "c@h"):
        book.clear_deferral(name)

    assert book.refusal_reason(A, 7, 1.0) is None
    assert book.refusal_reason("b@h", 7, 1.0)


def test_the_last_that_happened_counts():
    book = DisconnectHistory()
    book.record_peer_close(A, 7, 0.0)
    book.record_overlap_disconnect(A, 7, 0.0)

    book.clear_deferral(A)

    assert book.refusal_reason(A, 7, SHUTDOWN_GRACE) is None
