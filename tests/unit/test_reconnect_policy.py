"""Which lost peers are dialled again, when, and which incarnation of them is refused."""

import math
import sys
from random import Random

import pytest

from erlmesh.core.backoff import Backoff
from erlmesh.core.reconnect_policy import (
    GIVE_UP_AFTER,
    HEAD_START,
    INITIAL_BACKOFF,
    INITIAL_DEFERRAL,
    MAX_BACKOFF,
    MAX_DEFERRAL,
    MAX_PEERS,
    SHUTDOWN_GRACE,
    STABLE_AFTER,
    DisconnectCause,
    PeerState,
    ReconnectPolicy,
)

A, B, C = "a@h", "b@h", "c@h"


@pytest.fixture
def policy():
    return ReconnectPolicy(A, Random(1))


def lose(policy, name, now, cause=DisconnectCause.LOST):
    policy.disconnected(name, 7, now, cause)


def defer(policy, name, now):
    lose(policy, name, now, DisconnectCause.OVERLAPPING_PARTITION)


def delays(policy, count, name=B, now=0.0):
    """The delays before the next ``count`` attempts, all of which fail."""
    found = []
    for _ in range(count):
        deadline = policy.next_deadline()
        found.append(deadline - now)
        now = deadline
        assert policy.begin_attempts(now) == [name]
        policy.attempt_failed(name, now)
    return found


# Backoff


def test_a_backoff_doubles_up_to_its_maximum_and_starts_again_after_a_reset():
    backoff, rng = Backoff(1.0, 5.0, (1.0, 1.0)), Random(1)

    assert [backoff.next_delay(rng) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert [backoff.peek_delay(rng), backoff.peek_delay(rng), backoff.next_delay(rng)] == [1.0, 1.0, 1.0]
    backoff.raise_to_maximum()
    assert backoff.next_delay(rng) == 5.0


def test_a_peer_that_is_not_lost_is_not_dialled(policy):
    policy.connected(B, 1.0)

    assert policy.next_deadline() == math.inf
    assert policy.begin_attempts(1e9) == []
    assert policy.reconnecting() == []


def test_a_lost_peer_is_dialled_after_delays_that_double_up_to_a_cap(policy):
    policy.connected(B, 0.0)
    lose(policy, B, 0.0)

    found = delays(policy, 12)

    limits = [min(INITIAL_BACKOFF * 2**n, MAX_BACKOFF) for n in range(12)]
    assert all(limit / 2 <= delay <= limit for delay, limit in zip(found, limits, strict=True))


def test_jitter_keeps_nodes_out_of_step():
    policies = [ReconnectPolicy(A, Random(seed)) for seed in (1, 2)]
    for policy in policies:
        lose(policy, B, 0.0)

    assert policies[0].next_deadline() != policies[1].next_deadline()


def test_the_node_with_the_greater_name_gives_the_other_a_head_start():
    policy = ReconnectPolicy(C, Random(1))
    lose(policy, B, 0.0)

    assert HEAD_START + INITIAL_BACKOFF / 2 <= policy.next_deadline() <= HEAD_START + INITIAL_BACKOFF


def test_the_delays_keep_growing_while_connections_do_not_last(policy):
    now = 0.0
    for _ in range(8):
        policy.connected(B, now)
        now += 1.0
        lose(policy, B, now)

    assert policy.next_deadline() - now >= MAX_BACKOFF / 2


def test_after_a_stable_connection_the_delays_start_again(policy):
    lose(policy, B, 0.0)
    delays(policy, 8)
    policy.connected(B, 100.0)
    lose(policy, B, 100.0 + STABLE_AFTER)

    assert policy.next_deadline() <= 100.0 + STABLE_AFTER + INITIAL_BACKOFF


def test_an_attempt_is_due_once_until_it_has_ended(policy):
    policy.request(B, 0.0)

    assert policy.begin_attempts(10.0) == [B]
    assert policy.begin_attempts(20.0) == []
    assert policy.reconnecting() == [B]


def test_a_lost_peer_counts_its_attempts_until_it_is_connected(policy):
    lose(policy, B, 0.0)
    lose(policy, C, 0.0)
    assert [count for count, _ in policy.lost().values()] == [0, 0]
    policy.connected(C, 0.1, hidden=False)
    delays(policy, 3)
    assert policy.lost() == {B: (3, policy.next_deadline())}

    policy.begin_attempts(policy.next_deadline())
    assert policy.lost() == {B: (4, math.inf)}
    policy.connected(B, 100.0, hidden=False)
    assert policy.lost() == {}
    lose(policy, B, 101.0)
    assert policy.lost()[B][0] == 0


def test_after_a_day_of_failed_attempts_a_peer_is_given_up(policy):
    policy.request(B, 0.0)
    policy.begin_attempts(GIVE_UP_AFTER)
    policy.attempt_failed(B, GIVE_UP_AFTER + 1.0)

    assert policy.reconnecting() == []
    assert policy.state(B) is PeerState.IDLE


def test_a_failed_attempt_to_a_connected_or_unknown_peer_is_ignored(policy):
    policy.connected(B, 0.0)
    policy.attempt_failed(B, 1.0)
    policy.attempt_failed(C, 1.0)

    assert policy.next_deadline() == math.inf


def test_a_node_does_not_dial_itself(policy):
    policy.request(A, 0.0)

    assert policy.reconnecting() == []


def test_a_hidden_peer_is_ignored_unless_it_was_being_dialled(policy):
    policy.connected(B, 0.0, hidden=True)
    assert policy.state(B) is PeerState.IDLE

    policy.request(B, 1.0)
    policy.connected(B, 2.0, hidden=True)

    assert policy.state(B) is PeerState.CONNECTED


def test_the_table_is_bounded(policy):
    for number in range(MAX_PEERS + 10):
        policy.request(f"n{number}@h", 0.0)

    assert len(policy.reconnecting()) == MAX_PEERS
    assert not policy.is_tracked("n0@h")


def test_a_full_table_forgets_idle_peers_before_lost_ones(policy):
    policy.request(B, 0.0)
    for number in range(MAX_PEERS + 10):
        policy.peer_closed(f"n{number}@h", 1, 0.0)

    assert policy.reconnecting() == [B]
    assert len(policy._peers) == MAX_PEERS


# Deferral


def test_a_peer_left_for_an_overlapping_partition_is_dialled_soon_but_deferred(policy):
    defer(policy, B, 0.0)

    assert policy.next_deadline() <= INITIAL_BACKOFF
    assert policy.is_deferred(B, 0.0)
    assert policy.is_deferred(B, INITIAL_DEFERRAL - 0.01)
    assert not policy.is_deferred(B, INITIAL_DEFERRAL)


def test_its_incarnation_is_refused_and_another_is_not(policy):
    defer(policy, B, 0.0)

    assert "overlapping partition" in policy.peer_found(B, 7, SHUTDOWN_GRACE)
    assert policy.peer_found(B, 8, SHUTDOWN_GRACE) is None
    assert not policy.is_suppressed(B)


@pytest.mark.parametrize("local_name", [A, C])
def test_it_is_dialled_as_soon_as_the_deferral_ends(local_name):
    policy = ReconnectPolicy(local_name, Random(1))
    defer(policy, B, 0.0)
    while policy.is_deferred(B, policy.next_deadline()):
        refused_once(policy)

    accepted = policy.next_deadline()

    assert INITIAL_DEFERRAL <= accepted <= INITIAL_DEFERRAL + HEAD_START + INITIAL_BACKOFF


def refused_once(policy):
    """The next attempt reaches the incarnation of B that is refused."""
    now = policy.next_deadline()
    assert policy.begin_attempts(now) == [B]
    assert policy.peer_found(B, 7, now)
    policy.attempt_failed(B, now)


def test_after_the_deferral_its_incarnation_is_accepted(policy):
    defer(policy, B, 0.0)
    assert policy.peer_found(B, 7, 1.0)

    assert policy.begin_attempts(INITIAL_DEFERRAL) == [B]

    assert policy.peer_found(B, 7, INITIAL_DEFERRAL) is None


def test_a_refused_incarnation_is_dialled_again_and_the_next_failure_counts(policy):
    defer(policy, B, 0.0)
    now = policy.next_deadline()
    policy.begin_attempts(now)
    policy.peer_found(B, 7, now)

    policy.attempt_failed(B, now)
    assert policy.is_deferred(B, now)

    now = policy.next_deadline()
    policy.begin_attempts(now)
    policy.attempt_failed(B, now)
    assert not policy.is_deferred(B, now)


def test_each_deferral_lasts_twice_as_long_up_to_a_cap(policy):
    now, deferrals = 0.0, []
    for _ in range(7):
        policy.connected(B, now)
        defer(policy, B, now + 8.0)
        now += 8.0 + MAX_DEFERRAL
        deferrals.append(next(limit for limit in LIMITS if not policy.is_deferred(B, now - MAX_DEFERRAL + limit)))

    assert deferrals == [*LIMITS, MAX_DEFERRAL]


LIMITS = [INITIAL_DEFERRAL * 2**n for n in range(5)] + [MAX_DEFERRAL]


def test_a_deferral_ends_when_a_peer_that_was_really_lost_is_back(policy):
    defer(policy, B, 0.0)
    for _ in range(4):
        refused_once(policy)
    lose(policy, C, 0.0)

    policy.connected(C, 8.0)

    assert not policy.is_deferred(B, 8.0)
    assert policy.next_deadline() <= 8.0 + INITIAL_BACKOFF


def test_a_deferral_ends_when_the_peer_cannot_be_reached(policy):
    defer(policy, B, 0.0)
    now = policy.next_deadline()
    policy.begin_attempts(now)
    policy.attempt_failed(B, now)

    assert not policy.is_deferred(B, now)
    assert policy.next_deadline() - now <= MAX_BACKOFF


def test_a_lost_peer_is_not_deferred(policy):
    lose(policy, B, 0.0)

    assert not policy.is_deferred(B, 0.0)
    assert not policy.is_deferred(C, 0.0)


def test_a_deferred_peer_that_is_back_ends_no_other_deferral(policy):
    defer(policy, B, 0.0)
    defer(policy, C, 0.0)
    policy.connected(C, 5.0)

    assert policy.is_deferred(B, 5.0)


def test_a_lost_peer_that_is_back_changes_nothing_for_other_lost_peers(policy):
    lose(policy, B, 0.0)
    before = policy.next_deadline()
    lose(policy, C, 0.0)
    policy.connected(C, 0.1)

    assert policy.next_deadline() == before


def test_a_peer_that_was_deferred_and_is_connected_is_not_dialled(policy):
    defer(policy, B, 0.0)
    policy.connected(B, 1.0)
    policy.connected(C, 2.0)

    assert policy.next_deadline() == math.inf


def test_an_attempt_that_found_a_connected_or_unknown_peer_is_ignored(policy):
    defer(policy, B, 0.0)
    policy.connected(B, 1.0)
    for name in (B, C):
        policy.peer_found(name, 7, 2.0)
        policy.attempt_failed(name, 2.0)

    assert policy.next_deadline() == math.inf


# Suppression


def test_a_suppressed_peer_is_not_dialled(policy):
    lose(policy, B, 0.0)
    policy.suppress(B)

    assert policy.next_deadline() == math.inf


def test_a_connected_peer_that_is_suppressed_is_not_dialled_when_it_goes(policy):
    policy.connected(B, 0.0)
    policy.suppress(B)
    lose(policy, B, 1.0, DisconnectCause.REQUESTED)

    assert policy.next_deadline() == math.inf


def test_a_peer_stays_suppressed_until_it_is_connected_again(policy):
    policy.connected(B, 0.0)
    assert not policy.is_suppressed(B)
    policy.suppress(B)
    lose(policy, B, 1.0)

    assert policy.is_suppressed(B)
    assert not policy.is_suppressed(C)
    policy.connected(B, 2.0)
    assert not policy.is_suppressed(B)


@pytest.mark.parametrize("again", ["request", "connected"])
def test_a_request_or_a_connection_ends_a_suppression(policy, again):
    policy.connected(B, 0.0)
    policy.suppress(B)
    getattr(policy, again)(B, 1.0)
    lose(policy, B, 2.0)

    assert policy.next_deadline() < 3.0


def test_a_suppressed_peer_that_is_gone_is_dialled_on_request(policy):
    policy.connected(B, 0.0)
    policy.suppress(B)
    lose(policy, B, 1.0)
    assert not policy.is_tracked(B)

    policy.request(B, 2.0)

    assert policy.is_tracked(B)
    assert policy.next_deadline() < 4.0


# Peers that closed the connection


def test_a_peer_that_closed_and_is_found_with_the_same_creation_is_suppressed(policy):
    policy.peer_closed(B, 7, 0.0)

    assert not policy.is_suppressed(B)
    assert policy.peer_found(B, 7, SHUTDOWN_GRACE)
    policy.attempt_failed(B, SHUTDOWN_GRACE)
    assert policy.is_suppressed(B)


def test_another_incarnation_has_not_closed_the_connection(policy):
    policy.peer_closed(B, 7, 0.0)

    assert not policy.peer_found(B, 8, SHUTDOWN_GRACE)
    assert not policy.peer_found(C, 7, SHUTDOWN_GRACE)
    policy.attempt_failed(B, SHUTDOWN_GRACE)
    assert not policy.is_suppressed(B)


def test_a_peer_that_closed_is_accepted_when_a_caller_wants_it(policy):
    policy.peer_closed(B, 7, 0.0)
    policy.peer_found(B, 7, SHUTDOWN_GRACE)

    policy.clear_refusal(B)

    assert not policy.peer_found(B, 7, SHUTDOWN_GRACE)
    policy.attempt_failed(B, SHUTDOWN_GRACE)
    assert not policy.is_suppressed(B)
    assert policy._peers == {}


def test_a_peer_found_during_the_shutdown_grace_is_refused_but_not_suppressed(policy):
    policy.peer_closed(B, 7, 0.0)

    assert policy.peer_found(B, 7, 1.0)
    policy.attempt_failed(B, 1.0)
    assert not policy.is_suppressed(B)


def test_refusals_are_bounded(policy):
    for number in range(MAX_PEERS + 1):
        policy.peer_closed(f"n{number}@h", 1, 0.0)

    assert not policy.peer_found("n0@h", 1, 1.0)
    assert policy.peer_found("n1@h", 1, 1.0)


def test_the_end_of_a_deferral_does_not_accept_a_peer_that_closed(policy):
    defer(policy, B, 0.0)
    policy.peer_closed(C, 7, 0.0)
    lose(policy, C, 0.0, DisconnectCause.PEER_CLOSED)

    assert sorted(policy.begin_attempts(INITIAL_DEFERRAL)) == [B, C]

    assert policy.peer_found(B, 7, INITIAL_DEFERRAL) is None
    assert policy.peer_found(C, 7, INITIAL_DEFERRAL)


def test_the_last_cause_of_a_disconnect_counts(policy):
    policy.peer_closed(B, 7, 0.0)
    defer(policy, B, 0.0)

    policy.begin_attempts(INITIAL_DEFERRAL)

    assert policy.peer_found(B, 7, INITIAL_DEFERRAL) is None


def test_a_node_that_others_only_told_of_is_dialled_a_few_times():
    policy = ReconnectPolicy("a@h", Random(1))
    policy.request("b@h", 0.0, attempts=3)
    dialled, now = 0, 0.0
    while (now := policy.next_deadline()) < math.inf:
        for name in policy.begin_attempts(now):
            dialled += 1
            policy.attempt_failed(name, now)

    assert dialled == 3
    assert not policy.is_tracked("b@h")
    assert policy._peers == {}


def test_a_node_that_was_connected_once_is_dialled_on_although_others_told_of_it():
    policy = ReconnectPolicy("a@h", Random(1))
    policy.request("b@h", 0.0, attempts=1)
    policy.connected("b@h", 1.0)
    policy.disconnected("b@h", 1, 2.0, DisconnectCause.LOST)
    policy.request("b@h", 2.0, attempts=1)
    for _ in range(5):
        now = policy.next_deadline()
        for name in policy.begin_attempts(now):
            policy.attempt_failed(name, now)

    assert policy.is_tracked("b@h")


class NotScanned(dict):
    """A table that must not be read as a whole."""

    def items(self):
        raise AssertionError("all peers are looked at")

    values = __iter__ = items


def test_an_event_of_one_peer_does_not_look_at_all_connected_peers():
    policy = ReconnectPolicy("a@h", Random(1))
    for number in range(100):
        policy.connected(f"n{number}@h", 0.0)
    policy._peers = NotScanned(policy._peers)

    policy.connected("new@h", 1.0)
    policy.disconnected("n1@h", 1, 2.0, DisconnectCause.LOST)
    policy.disconnected("n2@h", 1, 2.0, DisconnectCause.OVERLAPPING_PARTITION)

    assert policy.reconnecting() == ["n1@h", "n2@h"]
    assert policy.begin_attempts(policy.next_deadline()) == ["n1@h"]
    policy.attempt_failed("n1@h", 3.0)
    policy.connected("n1@h", 4.0)
    assert policy.reconnecting() == ["n2@h"]


def calls_of_an_attempt(peers):
    """Python calls for each failed attempt when so many peers are lost. A generator counts at each step."""
    policy, calls = ReconnectPolicy(A, Random(1)), 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    for number in range(peers):
        policy.request(f"p{number}@h", 0.0)
    sys.setprofile(count)
    try:
        attempts = 0
        while attempts < peers:
            now = policy.next_deadline()
            for name in policy.begin_attempts(now):
                attempts += 1
                policy.attempt_failed(name, now)
                policy.next_deadline()
    finally:
        sys.setprofile(None)
    return calls / attempts


def test_an_attempt_does_not_look_at_all_lost_peers():
    assert calls_of_an_attempt(1000) < 2 * calls_of_an_attempt(10)


def test_attempts_that_are_no_longer_planned_leave_nothing(policy):
    for _ in range(100):
        lose(policy, B, 0.0)
        policy.connected(B, 0.0)

    assert policy.next_deadline() == math.inf
    assert policy._planned == []
