"""The books of pg2."""

import pytest

from erlmesh.services.pg2.state import Pg2State
from erlmesh.terms import Atom, Pid

A, B = Atom("a@h"), Atom("b@h")
G, H = Atom("g"), Atom("h")


def pid(node, number):
    return Pid(node, number, 0, 1)


P, Q, X = pid(A, 10), pid(A, 9), pid(B, 10)


def groups(*names):
    books = Pg2State()
    for name in names:
        books.create(name)
    return books


def test_a_group_exists_from_its_creation_to_its_deletion():
    books = groups(G)

    assert books.members(G) == []
    assert G in books
    assert books.members(H) is None
    books.create(G)
    books.delete(G)
    assert books.members(G) is None
    assert books.delete(G) == []


def test_creating_a_group_again_keeps_its_members():
    books = groups(G)
    books.join(G, P)

    books.create(G)

    assert books.members(G) == [P]


def test_members_are_listed_in_erlangs_order_as_often_as_they_joined():
    books = groups(G)

    for member in (X, P, Q, P):
        books.join(G, member)

    assert books.members(G) == [Q, P, P, X]


def test_only_the_first_membership_of_a_process_asks_for_a_monitor():
    books = groups(G, H)

    assert books.join(G, P) == [P]
    assert books.join(G, P) == []
    assert books.join(H, P) == []
    assert books.join(Atom("none"), Q) == []
    assert not books.has_member(Q)


def test_a_leave_takes_out_one_membership():
    books = groups(G, H)
    books.join(G, P)
    books.join(G, P)
    books.join(H, P)

    books.leave(G, P)
    books.leave(G, X)
    assert books.members(G) == [P]
    books.leave(G, P)
    books.leave(G, P)

    assert books.members(G) == []
    assert books.has_member(P)
    books.leave(H, P)
    assert not books.has_member(P)


def test_a_death_takes_out_every_membership_and_leaves_the_groups():
    books = groups(G, H)
    for name in (G, G, H):
        books.join(name, P)
    books.join(G, X)

    books.handle_down(P)

    assert (books.members(G), books.members(H)) == ([X], [])
    assert not books.has_member(P)


def test_a_deleted_group_lets_go_of_its_members():
    books = groups(G, H)
    for name in (G, G, H):
        books.join(name, P)
    books.join(G, X)

    gone = books.delete(G)

    assert len(gone) == 2
    assert set(gone) == {P, X}
    assert books.has_member(P)
    assert not books.has_member(X)
    books.create(G)
    assert books.members(G) == []


def test_a_merge_adds_what_is_missing_and_removes_nothing():
    books = groups(G)
    books.join(G, P)
    books.join(G, P)
    books.join(G, X)

    fresh = books.merge([[G, [P, Q, Q]], [H, []]])

    assert fresh == [Q]
    assert books.members(G) == [Q, Q, P, P, X]
    assert books.members(H) == []


def test_two_nodes_that_merge_each_others_groups_agree():
    ours, theirs = groups(G), groups(G, H)
    for member in (P, P, Q):
        ours.join(G, member)
    for member in (X, X, P):
        theirs.join(G, member)
    told = ours.dump()

    ours.merge(theirs.dump())
    theirs.merge(told)

    assert ours.members(G) == theirs.members(G) == [Q, P, P, X, X]
    assert ours.names() == theirs.names() == [G, H]


def test_a_table_is_told_as_lists():
    books = groups(G)
    books.join(G, P)
    books.join(G, P)

    assert books.dump() == [[G, [P, P]]]


@pytest.mark.parametrize("name", [1, 1.0, True, b"1", (1,)])
def test_groups_are_told_apart_as_erlang_does(name):
    books = groups(name)

    assert [type(other) for other in (1, 1.0, True, b"1", (1,)) if other in books] == [type(name)]


def test_the_snapshot_counts_with_multiplicity():
    books = groups(G, H)
    books.join(G, P)
    books.join(G, P)

    assert (books.statistics().groups, books.statistics().memberships) == (2, 2)
