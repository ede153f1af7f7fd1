"""The state of a pg scope: its members, and the messages it sends."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.services.pg.pick_list import PickList
from erlmesh.services.pg.protocol import Demonitor, Joined, Left, Monitor, SendTo
from erlmesh.services.pg.state import ScopeState
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
    state = scope()

    first, again = state.join(G, [P]), state.join(H, [P])

    assert first == [Monitor(P)]
    assert again == []
    assert state.members(G) == state.local_members(G) == (P,)
    assert state.groups() == state.local_groups() == [G, H]


def test_process_that_joins_twice_is_a_member_twice():
    state = scope()

    state.join(G, [P])
    effects = state.join(G, [P, Q])

    assert Counter(state.members(G)) == {P: 2, Q: 1}
    assert effects == [Monitor(Q)]


def test_leave_removes_one_membership_and_the_last_one_demonitors():
    state = scope()
    state.join(G, [P, P])

    first, second, third = state.leave(G, [P]), state.leave(G, [P]), state.leave(G, [P])

    assert first == (True, [])
    assert second == (True, [Demonitor(P)])
    assert third == (False, [])
    assert state.groups() == state.local_groups() == []


def test_process_in_another_group_stays_monitored():
    state = scope()
    state.join(G, [P])
    state.join(H, [P])

    left, effects = state.leave(G, [P])

    assert (left, effects) == (True, [])
    assert state.members(H) == (P,)


def test_join_without_pids_creates_no_group_and_sends_nothing():
    state = scope(PEER)

    effects = state.join(G, [])

    assert effects == []
    assert state.groups() == []


def test_leave_of_a_non_member_sends_nothing():
    state = scope(PEER)
    state.handle_join(PEER, G, [X])

    assert state.leave(G, [P]) == (False, [])
    assert state.leave(G, [X]) == (False, [])
    assert state.members(G) == (X,)


@pytest.mark.parametrize("name", [1, 1.0, True, Atom("1"), b"1", (1,), [1], {1: 1}])
def test_group_names_are_compared_with_exact_equality(name):
    state = scope()
    state.join(name, [P])

    others = [other for other in (1, 1.0, True, Atom("1"), b"1", (1,), (1.0,), [1], {1: 1}) if state.members(other)]

    assert len(others) == 1
    assert type(others[0]) is type(name)


# Messages to other servers


def test_discover_from_a_new_server_is_answered_with_sync_monitor_and_discover():
    state = scope()
    state.join(G, [P, P])
    state.join(H, [Q])

    effects = state.handle_discover(PEER)

    assert effects == [SendTo(PEER, sync(ME, (G, [P, P]), (H, [Q]))), Monitor(PEER), SendTo(PEER, (DISCOVER, ME))]


def test_discover_from_a_known_server_is_answered_with_sync_only():
    state = scope(PEER)

    effects = state.handle_discover(PEER)

    assert effects == [SendTo(PEER, sync(ME))]


def test_the_groups_of_a_node_are_known_after_its_sync_and_not_after_its_discover():
    state = scope(PEER)

    assert not state.has_sync_of(B)
    state.handle_sync(PEER, [])
    assert state.has_sync_of(B)
    assert not state.has_sync_of(C)
    state.handle_down(PEER, NOCONNECTION)
    assert not state.has_sync_of(B)


def test_sync_contains_only_local_members():
    state = scope(PEER)
    state.handle_join(PEER, G, [X])

    assert state.handle_discover(OTHER)[0] == SendTo(OTHER, sync(ME))


def test_joins_and_leaves_are_sent_to_every_known_server():
    state = scope(PEER, OTHER)

    joined = state.join(G, [P])
    both = state.join(G, [P, Q])
    _, left = state.leave(G, [P])
    _, most = state.leave(G, [P, Q, Q])

    assert joined == [Monitor(P), SendTo(PEER, (JOIN, ME, G, P)), SendTo(OTHER, (JOIN, ME, G, P))]
    assert both == [Monitor(Q), SendTo(PEER, (JOIN, ME, G, [P, Q])), SendTo(OTHER, (JOIN, ME, G, [P, Q]))]
    assert left == [SendTo(PEER, (LEAVE, ME, P, [G])), SendTo(OTHER, (LEAVE, ME, P, [G]))]
    message = (LEAVE, ME, [P, Q, Q], [G])
    assert most[-2:] == [SendTo(PEER, message), SendTo(OTHER, message)]


def test_exit_sends_one_leave_with_all_groups_and_multiplicity():
    state = scope(PEER)
    state.join(G, [P, P])
    state.join(H, [P, Q])

    [effect] = state.handle_down(P, KILLED)

    server, message = effect.to, effect.message
    assert (server, message[:3]) == (PEER, (LEAVE, ME, P))
    assert sorted(group.name for group in message[3]) == ["g", "g", "h"]
    assert state.members(G) == ()
    assert state.members(H) == (Q,)
    assert state.handle_down(P, KILLED) == []


def test_server_known_only_by_its_sync_gets_a_sync_before_any_leave():
    state = scope()
    state.join(G, [P])
    state.join(H, [Q])
    state.handle_sync(PEER, [])

    _, first = state.leave(G, [P])
    _, second = state.leave(H, [Q])

    assert first == [Demonitor(P), SendTo(PEER, sync(ME, (H, [Q])))]
    assert second == [Demonitor(Q), SendTo(PEER, (LEAVE, ME, Q, [H]))]


def test_messages_of_the_own_server_are_ignored():
    state = scope()
    state.join(G, [P])

    assert state.handle_discover(ME) == state.handle_discover(pid(A, 77)) == []
    assert state.handle_sync(pid(A, 77), [(G, [P])]) == []
    assert state.members(G) == (P,)


# Messages from other servers


def test_remote_members_are_not_local_members():
    state = scope(PEER)
    state.join(G, [P])

    state.handle_join(PEER, G, [X, Y])

    assert state.members(G) == (X, Y, P)
    assert state.local_members(G) == (P,)
    assert state.local_groups() == [G]


def test_sync_from_an_unknown_server_is_accepted_and_the_server_monitored():
    state = scope()

    effects = state.handle_sync(PEER, [(G, [X])])

    assert effects == [Monitor(PEER)]
    assert state.members(G) == (X,)
    assert state.handle_sync(PEER, [(G, [X])]) == []


def test_sync_replaces_the_members_of_its_server_only():
    state = scope(PEER, OTHER)
    state.join(G, [P])
    state.handle_join(OTHER, G, [OTHER])
    state.handle_join(PEER, G, [X, X, Y])
    state.handle_join(PEER, H, [X])

    state.handle_sync(PEER, [(G, [X]), (Atom("new"), [Y])])

    assert Counter(state.members(G)) == {P: 1, X: 1, OTHER: 1}
    assert state.members(H) == ()
    assert state.members(Atom("new")) == (Y,)
    assert len(state.groups()) == 2


def test_empty_sync_and_sync_with_an_empty_group_leave_no_group():
    state = scope(PEER)
    state.handle_join(PEER, G, [X])

    state.handle_sync(PEER, [(H, [])])

    assert state.groups() == []
    state.handle_join(PEER, G, [])
    assert state.groups() == []


def test_joins_and_leaves_from_an_unknown_server_are_ignored():
    state = scope()

    state.handle_join(PEER, G, [X])
    state.handle_leave(PEER, [X], [G])

    assert state.groups() == []


def test_remote_leave_removes_one_membership_in_each_named_group():
    state = scope(PEER)
    state.handle_join(PEER, G, [X, X, Y])
    state.handle_join(PEER, H, [X])

    state.handle_leave(PEER, [X], [G, H])

    assert state.members(G) == (X, Y)
    assert state.groups() == [G]


def test_remote_leave_of_all_members_deletes_the_group_in_any_order():
    state = scope(PEER)
    state.handle_join(PEER, G, [X, Y])

    state.handle_leave(PEER, [Y, X], [G])

    assert state.groups() == []
    assert state.handle_down(PEER, NOCONNECTION) == []


def test_remote_leave_of_unknown_members_changes_nothing():
    state = scope(PEER, OTHER)
    state.join(G, [P])
    state.handle_join(PEER, G, [X])

    state.handle_leave(PEER, [Y, P], [G, H])
    state.handle_leave(OTHER, [X], [G])

    assert state.members(G) == (X, P)


def test_members_of_a_server_leave_when_it_goes_down():
    state = scope(PEER, OTHER)
    state.join(G, [P])
    state.handle_join(PEER, G, [X])
    state.handle_join(PEER, H, [X])
    state.handle_join(OTHER, G, [OTHER])

    effects = state.handle_down(PEER, NOCONNECTION)

    assert effects == []
    assert state.members(G) == (OTHER, P)
    assert state.groups() == [G]
    assert [effect.to for effect in state.leave(G, [P])[1] if isinstance(effect, SendTo)] == [OTHER]


def test_large_groups_behave_like_small_ones():
    state = scope(PEER)
    many = [pid(B, number) for number in range(100, 1100)]
    state.handle_sync(PEER, [(G, many)])

    state.handle_sync(PEER, [(G, many[500:])])
    state.handle_leave(PEER, many[500:999], [G])

    assert state.members(G) == (many[999],)
    assert state.statistics().memberships == 1


# Large groups and many groups


def test_members_of_one_node_are_kept_as_they_arrived_and_shared():
    state = scope(PEER)
    many = [pid(B, number) for number in range(100, 1100)]

    state.handle_sync(PEER, [(G, many)])
    state.handle_sync(PEER, [(G, list(many))])
    state.handle_sync(PEER, [(G, list(many)), (H, [X])])

    peer_bag = state._peers[PEER].groups[G]
    assert type(peer_bag) is tuple
    assert state.members(G) is peer_bag


@pytest.mark.parametrize("size", [1, 3, 8, 9, 100])
def test_change_of_one_node_does_not_change_the_members_of_another(size):
    state = scope(PEER, OTHER)
    many = [pid(B, number) for number in range(100, 100 + size)]
    state.handle_sync(PEER, [(G, many)])

    state.join(G, [P])
    state.handle_join(OTHER, G, [OTHER])
    state.handle_join(PEER, G, [X])
    state.handle_leave(PEER, many, [G])
    state.leave(G, [P])

    assert Counter(state.members(G)) == {OTHER: 1, X: 1}
    assert state.local_members(G) == ()
    state.handle_down(PEER, NOCONNECTION)
    assert state.members(G) == (OTHER,)


@pytest.mark.parametrize("size", [1, 9, 100])
@pytest.mark.parametrize("changed", [False, True])
def test_loss_of_the_only_node_of_a_group_removes_the_group_as_a_whole(size, changed):
    state = scope(PEER)
    many = [pid(B, number) for number in range(100, 100 + size)]
    state.handle_sync(PEER, [(G, many)])
    if changed:
        state.handle_join(PEER, G, [X])
    members = state.members(G)
    state.take_events()

    state.handle_down(PEER, NOCONNECTION)

    assert state.groups() == []
    assert state.take_events() == [Left(members, NOCONNECTION, G)]
    assert state.statistics().memberships == 0


@pytest.mark.parametrize("size", [2, 20])
def test_lists_are_built_once_and_again_after_a_change(size):
    state = scope(PEER)
    state.join(G, [P] * size)
    state.handle_join(PEER, G, [X])

    assert state.members(G) is state.members(G)
    assert state.local_members(G) is state.local_members(G)
    assert state.recipients(G) == (X, P)
    state.handle_join(PEER, G, [Y])
    assert state.members(G)[:2] == (Y, X)
    assert state.recipients(G) == (Y, X, P)
    state.handle_leave(PEER, [X], [G])
    assert Counter(state.members(G)) == {P: size, Y: 1}
    state.join(G, [Q])
    assert state.local_members(G)[0] == Q
    state.leave(G, [Q])
    assert state.local_members(G) == (P,) * size
    assert state.recipients(G) == (Y, P)
    state.handle_down(PEER, NOCONNECTION)
    assert state.recipients(G) == (P,)
    state.handle_down(P, KILLED)
    assert state.members(G) == state.local_members(G) == ()
    assert state.recipients(G) == ()


def test_group_that_ended_leaves_no_kept_list():
    state = scope(PEER)
    state.join(G, [pid(A, number) for number in range(100, 120)])
    state.handle_sync(PEER, [(H, [pid(B, number) for number in range(100, 120)])])
    state.handle_join(PEER, H, [X])
    for group in (G, H):
        state.members(group)
        state.local_members(group)
        state.recipients(group)
        state.candidates(group)
        state.local_candidates(group)

    state.handle_down(PEER, NOCONNECTION)
    state.leave(G, state.members(G))

    assert state._groups._listings == {}


def assert_picks(state, name):
    """Each list for picks has the members of the group: random picks give only members, and turns give all of them."""
    for candidates, members in (
        (state.candidates(name), state.members(name)),
        (state.local_candidates(name), state.local_members(name)),
    ):
        if not isinstance(candidates, PickList):
            assert candidates == members
            continue
        rng, turn, turns = random.Random(1), 0, set()
        for _ in range(len(candidates._entries) + len(members)):
            pid, turn = candidates.in_turn(turn, rng)
            turns.add(pid)
        assert len(candidates) == len(members)
        assert {candidates.random(rng) for _ in range(10)} <= set(members)
        assert turns <= set(members)
        # Every entry of a member that has no dead entry comes in each cycle.
        assert turns >= {pid for pid in members if pid not in candidates._dead}
        alive = Counter(candidates._entries)
        alive.subtract(candidates._dead)
        assert +alive == Counter(members)


def test_group_that_ended_leaves_no_name():
    state = scope(PEER)
    state.join("text", [P])
    state.handle_sync(PEER, [(1.5, [X])])
    assert state.groups() == ["text", 1.5]
    assert len(state._groups._names) == 2

    state.leave("text", [P])
    state.handle_down(PEER, NOCONNECTION)

    assert state._groups._names == {}


groups_of_random_syncs = st.lists(
    st.tuples(st.sampled_from([G, H, 1]), st.lists(st.integers(100, 120), max_size=15)), max_size=4
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["sync", "join", "leave", "down", "local join", "local leave", "exit"]),
            st.sampled_from([PEER, OTHER]),
            st.sampled_from([G, H, 1]),
            st.lists(st.integers(100, 120), min_size=1, max_size=15),
            groups_of_random_syncs,
        ),
        max_size=25,
    )
)
def test_members_lists_and_counters_equal_a_model(actions):
    state = scope()
    model = {server: Counter() for server in (ME, PEER, OTHER)}

    for action, server, group, numbers, groups in actions:
        pids, local = [pid(server.node, number) for number in numbers], [pid(A, number) for number in numbers]
        match action:
            case "sync":
                listed = [(name, [pid(server.node, number) for number in those]) for name, those in groups]
                state.handle_sync(server, listed)
                model[server] = Counter((name, member) for name, members in listed for member in members)
            case "join" if server in state._peers:
                state.handle_join(server, group, pids)
                model[server].update((group, member) for member in pids)
            case "leave" if server in state._peers:
                state.handle_leave(server, pids, [group])
                model[server] = +(model[server] - Counter((group, member) for member in pids))
            case "down":
                state.handle_down(server, NOCONNECTION)
                model[server] = Counter()
            case "local join":
                state.join(group, local)
                model[ME].update((group, member) for member in local)
            case "local leave":
                state.leave(group, local)
                model[ME] = +(model[ME] - Counter((group, member) for member in local))
            case "exit":
                state.handle_down(local[0], KILLED)
                model[ME] = Counter({entry: times for entry, times in model[ME].items() if entry[1] != local[0]})
        total = sum(model.values(), Counter())
        for name in (G, H, 1):
            assert Counter(state.members(name)) == {member: n for (g, member), n in total.items() if g == name}
            assert Counter(state.local_members(name)) == {
                member: n for (g, member), n in model[ME].items() if g == name
            }
            assert Counter(state.recipients(name)) == dict.fromkeys(state.members(name), 1)
            assert_picks(state, name)
        statistics = state.statistics()
        assert statistics.memberships == total.total()
        assert statistics.local_memberships == model[ME].total()
        assert statistics.groups == len({name for name, _ in total})


def test_local_list_for_picks_follows_joins_and_leaves():
    state, members = scope(), [pid(A, number) for number in range(10, 60)]
    state.join(G, members[:40])
    state.join(G, members[40:45])
    assert isinstance(state.local_candidates(G), PickList)

    state.join(G, members[45:])
    assert_picks(state, G)
    state.leave(G, members[:1])
    assert_picks(state, G)


# Events


def test_every_change_is_recorded_with_its_reason():
    state = scope(PEER)

    state.join(G, [P])
    state.handle_join(PEER, G, [X, Y])
    state.handle_leave(PEER, [X], [G])
    state.leave(G, [P])
    state.join(G, [Q, Q])
    state.handle_down(Q, KILLED)
    state.handle_down(PEER, NOCONNECTION)

    assert state.take_events() == [
        Joined((P,), G),
        Joined((X, Y), G),
        Left((X,), LEAVE, G),
        Left((P,), LEAVE, G),
        Joined((Q, Q), G),
        Left((Q,), KILLED, G),
        Left((Q,), KILLED, G),
        Left((Y,), NOCONNECTION, G),
    ]
    assert state.take_events() == []


def test_sync_records_only_the_difference():
    state = scope(PEER)
    state.handle_join(PEER, G, [X])
    state.handle_join(PEER, H, [X])
    state.take_events()

    state.handle_sync(PEER, [(G, [Y])])

    assert state.take_events() == [Joined((Y,), G), Left((X,), LEAVE, G), Left((X,), LEAVE, H)]


def test_no_events_are_kept_without_observers():
    state = scope()
    state.recording = False

    state.join(G, [P])
    state.leave(G, [P])

    assert state.take_events() == []


def test_statistics_count_groups_memberships_and_peers():
    state = scope(PEER)
    state.join(G, [P, P])
    state.handle_join(PEER, H, [X])

    seen = state.statistics()

    assert (seen.groups, seen.memberships, seen.local_memberships, seen.peers) == (2, 3, 2, 1)
