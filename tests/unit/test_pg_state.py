"""The books of a scope: what is known, and what must be said."""

from collections import Counter

import pytest

from erlmesh.services.pg.state import Demonitor, Joined, Left, Monitor, ScopeState, SendTo
from erlmesh.terms import Atom, Pid

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
G, H = Atom("g"), Atom("h")
DISCOVER, JOIN, LEAVE, KILLED, NOCONNECTION = (
    Atom(word) for word in ("discover", "join", "leave", "killed", "noconnection")
)


def pid(node, number):
    return Pid(node, number, 0, 1)


ME, PEER, OTHER = pid(A, 1), pid(B, 1), pid(C, 1)
P, Q = pid(A, 10), pid(A, 11)
X, Y = pid(B, 10), pid(B, 11)


def sync(server, *groups):
    return (Atom("$gen_cast"), (Atom("sync"), server, list(groups)))


def scope(*peers):
    scope = ScopeState(ME)
    for peer in peers:
        scope.handle_discover(peer)
    scope.recording = True
    return scope


# Local members


def test_joining_process_is_a_member_and_monitored_once():
    books = scope()

    first, again = books.join(G, [P]), books.join(H, [P])

    assert first == [Monitor(P)]
    assert again == []
    assert books.members(G) == books.local_members(G) == [P]
    assert books.groups() == books.local_groups() == [G, H]


def test_process_that_joins_twice_is_a_member_twice():
    books = scope()

    books.join(G, [P])
    effects = books.join(G, [P, Q])

    assert Counter(books.members(G)) == {P: 2, Q: 1}
    assert effects == [Monitor(Q)]


def test_leave_removes_one_membership_and_the_last_one_demonitors():
    books = scope()
    books.join(G, [P, P])

    first, second, third = books.leave(G, [P]), books.leave(G, [P]), books.leave(G, [P])

    assert first == (True, [])
    assert second == (True, [Demonitor(P)])
    assert third == (False, [])
    assert books.groups() == books.local_groups() == []


def test_process_in_another_group_stays_monitored():
    books = scope()
    books.join(G, [P])
    books.join(H, [P])

    left, effects = books.leave(G, [P])

    assert (left, effects) == (True, [])
    assert books.members(H) == [P]


def test_join_without_pids_creates_no_group_and_sends_nothing():
    books = scope(PEER)

    effects = books.join(G, [])

    assert effects == []
    assert books.groups() == []


def test_leave_of_a_non_member_sends_nothing():
    books = scope(PEER)
    books.handle_join(PEER, G, [X])

    assert books.leave(G, [P]) == (False, [])
    assert books.leave(G, [X]) == (False, [])
    assert books.members(G) == [X]


@pytest.mark.parametrize("name", [1, 1.0, True, Atom("1"), b"1", (1,), [1], {1: 1}])
def test_group_names_are_compared_with_exact_equality(name):
    books = scope()
    books.join(name, [P])

    others = [other for other in (1, 1.0, True, Atom("1"), b"1", (1,), (1.0,), [1], {1: 1}) if books.members(other)]

    assert len(others) == 1
    assert type(others[0]) is type(name)


# What other nodes are told


def test_discover_from_a_new_server_is_answered_with_sync_monitor_and_discover():
    books = scope()
    books.join(G, [P, P])
    books.join(H, [Q])

    effects = books.handle_discover(PEER)

    assert effects == [SendTo(PEER, sync(ME, (G, [P, P]), (H, [Q]))), Monitor(PEER), SendTo(PEER, (DISCOVER, ME))]


def test_discover_from_a_known_server_is_answered_with_sync_only():
    books = scope(PEER)

    effects = books.handle_discover(PEER)

    assert effects == [SendTo(PEER, sync(ME))]


def test_sync_contains_only_local_members():
    books = scope(PEER)
    books.handle_join(PEER, G, [X])

    assert books.handle_discover(OTHER)[0] == SendTo(OTHER, sync(ME))


def test_joins_and_leaves_are_sent_to_every_known_server():
    books = scope(PEER, OTHER)

    joined = books.join(G, [P])
    both = books.join(G, [P, Q])
    _, left = books.leave(G, [P])
    _, most = books.leave(G, [P, Q, Q])

    assert joined == [Monitor(P), SendTo(PEER, (JOIN, ME, G, P)), SendTo(OTHER, (JOIN, ME, G, P))]
    assert both == [Monitor(Q), SendTo(PEER, (JOIN, ME, G, [P, Q])), SendTo(OTHER, (JOIN, ME, G, [P, Q]))]
    assert left == [SendTo(PEER, (LEAVE, ME, P, [G])), SendTo(OTHER, (LEAVE, ME, P, [G]))]
    told = (LEAVE, ME, [P, Q, Q], [G])
    assert most[-2:] == [SendTo(PEER, told), SendTo(OTHER, told)]


def test_exit_sends_one_leave_with_all_groups_and_multiplicity():
    books = scope(PEER)
    books.join(G, [P, P])
    books.join(H, [P, Q])

    [told] = books.handle_down(P, KILLED)

    server, message = told.to, told.message
    assert (server, message[:3]) == (PEER, (LEAVE, ME, P))
    assert sorted(group.name for group in message[3]) == ["g", "g", "h"]
    assert books.members(G) == []
    assert books.members(H) == [Q]
    assert books.handle_down(P, KILLED) == []


def test_server_known_only_by_its_sync_gets_a_sync_before_any_leave():
    books = scope()
    books.join(G, [P])
    books.join(H, [Q])
    books.handle_sync(PEER, [])

    _, first = books.leave(G, [P])
    _, second = books.leave(H, [Q])

    assert first == [Demonitor(P), SendTo(PEER, sync(ME, (H, [Q])))]
    assert second == [Demonitor(Q), SendTo(PEER, (LEAVE, ME, Q, [H]))]


def test_messages_of_the_own_server_are_ignored():
    books = scope()
    books.join(G, [P])

    assert books.handle_discover(ME) == books.handle_discover(pid(A, 77)) == []
    assert books.handle_sync(pid(A, 77), [(G, [P])]) == []
    assert books.members(G) == [P]


# What other nodes say


def test_remote_members_are_not_local_members():
    books = scope(PEER)
    books.join(G, [P])

    books.handle_join(PEER, G, [X, Y])

    assert books.members(G) == [X, Y, P]
    assert books.local_members(G) == [P]
    assert books.local_groups() == [G]


def test_sync_from_an_unknown_server_is_accepted_and_the_server_monitored():
    books = scope()

    effects = books.handle_sync(PEER, [(G, [X])])

    assert effects == [Monitor(PEER)]
    assert books.members(G) == [X]
    assert books.handle_sync(PEER, [(G, [X])]) == []


def test_sync_replaces_the_members_of_its_server_only():
    books = scope(PEER, OTHER)
    books.join(G, [P])
    books.handle_join(OTHER, G, [OTHER])
    books.handle_join(PEER, G, [X, X, Y])
    books.handle_join(PEER, H, [X])

    books.handle_sync(PEER, [(G, [X]), (Atom("new"), [Y])])

    assert Counter(books.members(G)) == {P: 1, X: 1, OTHER: 1}
    assert books.members(H) == []
    assert books.members(Atom("new")) == [Y]
    assert len(books.groups()) == 2


def test_empty_sync_and_sync_with_an_empty_group_leave_no_group():
    books = scope(PEER)
    books.handle_join(PEER, G, [X])

    books.handle_sync(PEER, [(H, [])])

    assert books.groups() == []
    books.handle_join(PEER, G, [])
    assert books.groups() == []


def test_joins_and_leaves_from_an_unknown_server_are_ignored():
    books = scope()

    books.handle_join(PEER, G, [X])
    books.handle_leave(PEER, [X], [G])

    assert books.groups() == []


def test_remote_leave_removes_one_membership_in_each_named_group():
    books = scope(PEER)
    books.handle_join(PEER, G, [X, X, Y])
    books.handle_join(PEER, H, [X])

    books.handle_leave(PEER, [X], [G, H])

    assert books.members(G) == [X, Y]
    assert books.groups() == [G]


def test_remote_leave_of_all_members_deletes_the_group_in_any_order():
    books = scope(PEER)
    books.handle_join(PEER, G, [X, Y])

    books.handle_leave(PEER, [Y, X], [G])

    assert books.groups() == []
    assert books.handle_down(PEER, NOCONNECTION) == []


def test_remote_leave_of_unknown_members_changes_nothing():
    books = scope(PEER, OTHER)
    books.join(G, [P])
    books.handle_join(PEER, G, [X])

    books.handle_leave(PEER, [Y, P], [G, H])
    books.handle_leave(OTHER, [X], [G])

    assert books.members(G) == [X, P]


def test_members_of_a_server_leave_when_it_goes_down():
    books = scope(PEER, OTHER)
    books.join(G, [P])
    books.handle_join(PEER, G, [X])
    books.handle_join(PEER, H, [X])
    books.handle_join(OTHER, G, [OTHER])

    effects = books.handle_down(PEER, NOCONNECTION)

    assert effects == []
    assert books.members(G) == [OTHER, P]
    assert books.groups() == [G]
    assert [effect.to for effect in books.leave(G, [P])[1] if isinstance(effect, SendTo)] == [OTHER]


def test_large_groups_behave_like_small_ones():
    books = scope(PEER)
    many = [pid(B, number) for number in range(100, 1100)]
    books.handle_sync(PEER, [(G, many)])

    books.handle_sync(PEER, [(G, many[500:])])
    books.handle_leave(PEER, many[500:999], [G])

    assert books.members(G) == [many[999]]
    assert books.statistics().memberships == 1


# Changes


def test_every_change_is_recorded_with_its_reason():
    books = scope(PEER)

    books.join(G, [P])
    books.handle_join(PEER, G, [X, Y])
    books.handle_leave(PEER, [X], [G])
    books.leave(G, [P])
    books.join(G, [Q, Q])
    books.handle_down(Q, KILLED)
    books.handle_down(PEER, NOCONNECTION)

    assert books.take_events() == [
        Joined((P,), G),
        Joined((X, Y), G),
        Left((X,), LEAVE, G),
        Left((P,), LEAVE, G),
        Joined((Q, Q), G),
        Left((Q,), KILLED, G),
        Left((Q,), KILLED, G),
        Left((Y,), NOCONNECTION, G),
    ]
    assert books.take_events() == []


def test_sync_records_only_the_difference():
    books = scope(PEER)
    books.handle_join(PEER, G, [X])
    books.handle_join(PEER, H, [X])
    books.take_events()

    books.handle_sync(PEER, [(G, [Y])])

    assert books.take_events() == [Joined((Y,), G), Left((X,), LEAVE, G), Left((X,), LEAVE, H)]


def test_no_events_are_kept_without_observers():
    books = scope()
    books.recording = False

    books.join(G, [P])
    books.leave(G, [P])

    assert books.take_events() == []


def test_statistics_count_groups_memberships_and_peers():
    books = scope(PEER)
    books.join(G, [P, P])
    books.handle_join(PEER, H, [X])

    seen = books.statistics()

    assert (seen.groups, seen.memberships, seen.local_memberships, seen.peers) == (2, 3, 2, 1)
