"""Whom to dial again, and when."""

import math
from random import Random

import pytest

from erlmesh.core.reconnect_policy import (
    GIVE_UP_AFTER,
    HEAD_START,
    INITIAL_BACKOFF,
    INITIAL_DEFERRAL,
    MAX_BACKOFF,
    MAX_DEFERRAL,
    MAX_PEERS,
    STABLE_AFTER,
    ReconnectPolicy,
)

A, B, C = "a@h", "b@h", "c@h"


@pytest.fixture
def book():
    return ReconnectPolicy(A, Random(1))


def pauses(book, count, name=B, now=0.0):
    """The pauses before the next ``count`` attempts, all of which fail."""
    found = []
    for _ in range(count):
        deadline = book.next_deadline()
        found.append(deadline - now)
        now = deadline
        assert book.due(now) == [name]
        book.attempt_failed(name, now)
    return found


def test_nobody_is_dialled_who_is_not_missed(book):
    book.connected(B, 1.0)

    assert book.next_deadline() == math.inf
    assert book.due(1e9) == []
    assert book.reconnecting() == []


def test_a_lost_peer_is_dialled_after_pauses_that_double_up_to_a_cap(book):
    book.connected(B, 0.0)
    book.disconnected(B, 0.0)

    found = pauses(book, 12)

    limits = [min(INITIAL_BACKOFF * 2**n, MAX_BACKOFF) for n in range(12)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(found, limits, strict=True))


def test_chance_keeps_nodes_out_of_step():
    books = [ReconnectPolicy(A, Random(seed)) for seed in (1, 2)]
    for book in books:
        book.disconnected(B, 0.0)

    assert books[0].next_deadline() != books[1].next_deadline()


def test_the_greater_name_gives_the_smaller_a_head_start():
    book = ReconnectPolicy(C, Random(1))
    book.disconnected(B, 0.0)

    assert HEAD_START + INITIAL_BACKOFF / 2 <= book.next_deadline() <= HEAD_START + INITIAL_BACKOFF


def test_a_peer_that_comes_and_goes_is_dialled_less_and_less(book):
    now = 0.0
    for _ in range(8):
        book.connected(B, now)
        now += 1.0
        book.disconnected(B, now)

    assert book.next_deadline() - now >= MAX_BACKOFF / 2


def test_after_a_stable_time_the_pauses_begin_anew(book):
    book.disconnected(B, 0.0)
    pauses(book, 8)
    book.connected(B, 100.0)
    book.disconnected(B, 100.0 + STABLE_AFTER)

    assert book.next_deadline() <= 100.0 + STABLE_AFTER + INITIAL_BACKOFF


def test_who_was_left_for_the_sake_of_others_is_dialled_soon_but_spared(book):
    book.disconnected(B, 0.0, overlap_disconnect=True)

    assert book.next_deadline() <= INITIAL_BACKOFF
    assert book.is_deferred(B, 0.0)
    assert book.is_deferred(B, INITIAL_DEFERRAL - 0.01)
    assert not book.is_deferred(B, INITIAL_DEFERRAL)


@pytest.mark.parametrize("ours", [A, C])
def test_it_is_dialled_as_soon_as_it_is_spared_no_longer(ours):
    book = ReconnectPolicy(ours, Random(1))
    book.disconnected(B, 0.0, overlap_disconnect=True)
    attempts = [found_once(book) for _ in range(7)]

    met = next(now for now in attempts if not book.is_deferred(B, now))

    assert INITIAL_DEFERRAL <= met <= INITIAL_DEFERRAL + HEAD_START + INITIAL_BACKOFF


def found_once(book):
    now = book.next_deadline()
    assert book.due(now) == [B]
    book.found_same_incarnation(B, now)
    return now


def test_it_is_spared_longer_when_that_was_in_vain_up_to_a_cap(book):
    now, spared = 0.0, []
    for _ in range(7):
        book.connected(B, now)
        book.disconnected(B, now + 8.0, overlap_disconnect=True)
        now += 8.0 + MAX_DEFERRAL
        spared.append(next(limit for limit in LIMITS if not book.is_deferred(B, now - MAX_DEFERRAL + limit)))

    assert spared == [*LIMITS, MAX_DEFERRAL]


LIMITS = [INITIAL_DEFERRAL * 2**n for n in range(5)] + [MAX_DEFERRAL]


def test_but_not_when_somebody_who_was_really_lost_is_back(book):
    book.disconnected(B, 0.0, overlap_disconnect=True)
    for _ in range(4):
        found_once(book)
    book.disconnected(C, 0.0)

    book.connected(C, 8.0)

    assert not book.is_deferred(B, 8.0)
    assert book.next_deadline() <= 8.0 + INITIAL_BACKOFF


def test_nor_when_it_could_not_be_reached(book):
    book.disconnected(B, 0.0, overlap_disconnect=True)
    now = book.next_deadline()
    book.due(now)
    book.attempt_failed(B, now)

    assert not book.is_deferred(B, now)
    assert book.next_deadline() - now <= MAX_BACKOFF


def test_nobody_else_is_spared(book):
    book.disconnected(B, 0.0)

    assert not book.is_deferred(B, 0.0)
    assert not book.is_deferred(C, 0.0)


def test_who_is_to_be_left_alone_is_not_dialled(book):
    book.disconnected(B, 0.0)
    book.suppress(B)

    assert book.next_deadline() == math.inf


def test_who_is_to_be_left_alone_when_it_goes_is_not_dialled_then(book):
    book.connected(B, 0.0)
    book.suppress(B)
    book.disconnected(B, 1.0)

    assert book.next_deadline() == math.inf


def test_it_is_known_who_is_left_alone(book):
    book.connected(B, 0.0)
    assert not book.is_suppressed(B)
    book.suppress(B)
    book.disconnected(B, 1.0)

    assert book.is_suppressed(B)
    assert not book.is_suppressed(C)
    book.connected(B, 2.0)
    assert not book.is_suppressed(B)


@pytest.mark.parametrize("again", ["request", "connected"])
def test_until_somebody_wants_it_again(book, again):
    book.connected(B, 0.0)
    book.suppress(B)
    getattr(book, again)(B, 1.0)
    book.disconnected(B, 2.0)

    assert book.next_deadline() < 3.0


def test_an_attempt_is_made_once_until_it_has_ended(book):
    book.request(B, 0.0)

    assert book.due(10.0) == [B]
    assert book.due(20.0) == []
    assert book.reconnecting() == [B]


def test_after_a_day_in_vain_a_peer_is_forgotten(book):
    book.request(B, 0.0)
    book.due(GIVE_UP_AFTER)
    book.attempt_failed(B, GIVE_UP_AFTER + 1.0)

    assert book.reconnecting() == []


def test_a_failure_of_somebody_who_is_up_or_unknown_is_nothing(book):
    book.connected(B, 0.0)
    book.attempt_failed(B, 1.0)
    book.attempt_failed(C, 1.0)

    assert book.next_deadline() == math.inf


def test_nobody_dials_itself(book):
    book.request(A, 0.0)

    assert book.reconnecting() == []


def test_the_book_is_bounded(book):
    for number in range(MAX_PEERS + 10):
        book.request(f"n{number}@h", 0.0)

    assert len(book.reconnecting()) == MAX_PEERS
    assert not book.is_tracked("n0@h")


def test_who_was_left_alone_and_is_gone_is_dialled_when_somebody_wants_it(book):
    book.connected(B, 0.0)
    book.suppress(B)
    book.disconnected(B, 1.0)
    assert not book.is_tracked(B)

    book.request(B, 2.0)

    assert book.is_tracked(B)
    assert book.next_deadline() < 4.0


def test_one_who_was_left_for_others_and_is_back_brings_no_other_of_these(book):
    book.disconnected(B, 0.0, overlap_disconnect=True)
    book.disconnected(C, 0.0, overlap_disconnect=True)
    book.connected(C, 5.0)

    assert book.is_deferred(B, 5.0)


def test_the_return_of_a_lost_one_changes_nothing_for_others_that_are_lost(book):
    book.disconnected(B, 0.0)
    before = book.next_deadline()
    book.disconnected(C, 0.0)
    book.connected(C, 0.1)

    assert book.next_deadline() == before


def test_nor_does_it_dial_who_was_left_for_others_and_is_up(book):
    book.disconnected(B, 0.0, overlap_disconnect=True)
    book.connected(B, 1.0)
    book.connected(C, 2.0)

    assert book.next_deadline() == math.inf


def test_who_is_found_but_up_or_unknown_is_not_dialled(book):
    book.disconnected(B, 0.0, overlap_disconnect=True)
    book.connected(B, 1.0)
    book.found_same_incarnation(B, 2.0)
    book.found_same_incarnation(C, 2.0)

    assert book.next_deadline() == math.inf
