"""The state of pg2."""

import pytest

from erlmesh.services.pg2.state import Pg2State
from erlmesh.terms import Atom, Pid

A, B = Atom("a@h"), Atom("b@h")
G, H = Atom("g"), Atom("h")


def pid(node, number):
    return Pid(node, number, 0, 1)


P, Q, X = pid(A, 10), pid(A, 9), pid(B, 10)


def groups(*names):
    state = Pg2State()
    for name in names:
        state.create(name)
    return state


def test_group_exists_from_create_to_delete():
    state = groups(G)

    assert state.members(G) == []
    assert G in state
    assert state.members(H) is None
    state.create(G)
    state.delete(G)
    assert state.members(G) is None
    assert state.delete(G) == []


def test_second_create_keeps_the_members():
    state = groups(G)
    state.join(G, P)

    state.create(G)

    assert state.members(G) == [P]


def test_members_are_sorted_by_term_order_with_multiplicity():
    state = groups(G)

    for member in (X, P, Q, P):
        state.join(G, member)

    assert state.members(G) == [Q, P, P, X]


def test_only_the_first_membership_of_a_process_needs_a_monitor():
    state = groups(G, H)

    assert state.join(G, P) == [P]
    assert state.join(G, P) == []
    assert state.join(H, P) == []
    assert state.join(Atom("none"), Q) == []
    assert not state.has_member(Q)


def test_leave_removes_one_membership():
    state = groups(G, H)
    state.join(G, P)
    state.join(G, P)
    state.join(H, P)

    state.leave(G, P)
    state.leave(G, X)
    assert state.members(G) == [P]
    state.leave(G, P)
    state.leave(G, P)

    assert state.members(G) == []
    assert state.has_member(P)
    state.leave(H, P)
    assert not state.has_member(P)


def test_exit_removes_all_memberships_and_keeps_the_groups():
    state = groups(G, H)
    for name in (G, G, H):
        state.join(name, P)
    state.join(G, X)

    state.handle_down(P)

    assert (state.members(G), state.members(H)) == ([X], [])
    assert not state.has_member(P)


def test_delete_removes_the_memberships():
    state = groups(G, H)
    for name in (G, G, H):
        state.join(name, P)
    state.join(G, X)

    removed = state.delete(G)

    assert len(removed) == 2
    assert set(removed) == {P, X}
    assert state.has_member(P)
    assert not state.has_member(X)
    state.create(G)
    assert state.members(G) == []


def test_merge_adds_missing_members_and_removes_none():
    state = groups(G)
    state.join(G, P)
    state.join(G, P)
    state.join(G, X)

    fresh = state.merge([[G, [P, Q, Q]], [H, []]])

    assert fresh == [Q]
    assert state.members(G) == [Q, Q, P, P, X]
    assert state.members(H) == []


def test_two_nodes_that_merge_each_other_have_equal_groups():
    local, remote = groups(G), groups(G, H)
    for member in (P, P, Q):
        local.join(G, member)
    for member in (X, X, P):
        remote.join(G, member)
    dumped = local.dump()

    local.merge(remote.dump())
    remote.merge(dumped)

    assert local.members(G) == remote.members(G) == [Q, P, P, X, X]
    assert local.names() == remote.names() == [G, H]


def test_dump_is_a_list_of_lists():
    state = groups(G)
    state.join(G, P)
    state.join(G, P)

    assert state.dump() == [[G, [P, P]]]


@pytest.mark.parametrize("name", [1, 1.0, True, b"1", (1,)])
def test_group_names_are_compared_with_exact_equality(name):
    state = groups(name)

    assert [type(other) for other in (1, 1.0, True, b"1", (1,)) if other in state] == [type(name)]


def test_statistics_count_with_multiplicity():
    state = groups(G, H)
    state.join(G, P)
    state.join(G, P)

    assert (state.statistics().groups, state.statistics().memberships) == (2, 2)
