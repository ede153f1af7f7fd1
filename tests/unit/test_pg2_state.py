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


def test_group_exists_from_create_to_delete():
    books = groups(G)

    assert books.members(G) == []
    assert G in books
    assert books.members(H) is None
    books.create(G)
    books.delete(G)
    assert books.members(G) is None
    assert books.delete(G) == []


def test_second_create_keeps_the_members():
    books = groups(G)
    books.join(G, P)

    books.create(G)

    assert books.members(G) == [P]


def test_members_are_sorted_by_term_order_with_multiplicity():
    books = groups(G)

    for member in (X, P, Q, P):
        books.join(G, member)

    assert books.members(G) == [Q, P, P, X]


def test_only_the_first_membership_of_a_process_needs_a_monitor():
    books = groups(G, H)

    assert books.join(G, P) == [P]
    assert books.join(G, P) == []
    assert books.join(H, P) == []
    assert books.join(Atom("none"), Q) == []
    assert not books.has_member(Q)


def test_leave_removes_one_membership():
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


def test_exit_removes_all_memberships_and_keeps_the_groups():
    books = groups(G, H)
    for name in (G, G, H):
        books.join(name, P)
    books.join(G, X)

    books.handle_down(P)

    assert (books.members(G), books.members(H)) == ([X], [])
    assert not books.has_member(P)


def test_delete_removes_the_memberships():
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


def test_merge_adds_missing_members_and_removes_none():
    books = groups(G)
    books.join(G, P)
    books.join(G, P)
    books.join(G, X)

    fresh = books.merge([[G, [P, Q, Q]], [H, []]])

    assert fresh == [Q]
    assert books.members(G) == [Q, Q, P, P, X]
    assert books.members(H) == []


def test_two_nodes_that_merge_each_other_have_equal_groups():
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


def test_dump_is_a_list_of_lists():
    books = groups(G)
    books.join(G, P)
    books.join(G, P)

    assert books.dump() == [[G, [P, P]]]


@pytest.mark.parametrize("name", [1, 1.0, True, b"1", (1,)])
def test_group_names_are_compared_with_exact_equality(name):
    books = groups(name)

    assert [type(other) for other in (1, 1.0, True, b"1", (1,)) if other in books] == [type(name)]


def test_statistics_count_with_multiplicity():
    books = groups(G, H)
    books.join(G, P)
    books.join(G, P)

    assert (books.statistics().groups, books.statistics().memberships) == (2, 2)
