"""The lock table of one node."""

import pytest

from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.protocol import Demonitor, Monitor
from erlmesh.terms import Atom, Pid

NODE = Atom("a@h")
P, Q = Pid(NODE, 1, 0, 1), Pid(NODE, 2, 0, 1)
GLOBAL = Atom("global")


def test_a_free_resource_is_locked_and_its_holder_watched():
    locks = LockTable()

    assert locks.set((b"r", P), P) == (True, [Monitor(P)])
    assert locks.snapshot() == [(b"r", P, [P])]


def test_another_requester_is_refused():
    locks = LockTable()
    locks.set((b"r", P), P)

    assert locks.set((b"r", Q), Q) == (False, [])
    assert not locks.can_set((b"r", Q))


def test_the_same_requester_shares_the_lock():
    locks = LockTable()
    locks.set((b"r", b"us"), P)

    assert locks.set((b"r", b"us"), Q) == (True, [Monitor(Q)])
    assert locks.delete((b"r", b"us"), P) == [Demonitor(P)]
    assert not locks.can_set((b"r", b"them"))
    assert locks.delete((b"r", b"us"), Q) == [Demonitor(Q)]
    assert locks.can_set((b"r", b"them"))


def test_locking_twice_is_locking_once():
    locks = LockTable()
    locks.set((b"r", P), P)

    assert locks.set((b"r", P), P) == (True, [])
    assert locks.delete((b"r", P), P) == [Demonitor(P)]
    assert not locks.is_set(b"r")


def test_what_is_not_held_cannot_be_let_go():
    locks = LockTable()
    locks.set((b"r", b"us"), P)

    assert locks.delete((b"r", b"us"), Q) == []
    assert locks.delete((b"r", b"them"), P) == []
    assert locks.delete((b"other", b"us"), P) == []
    assert locks.is_set(b"r")


def test_a_dead_holder_lets_go_of_everything_and_only_of_its_own():
    locks = LockTable()
    locks.set((b"r", P), P)
    locks.set((b"s", b"us"), P)
    locks.set((b"s", b"us"), Q)

    locks.handle_down(P)

    assert locks.snapshot() == [(b"s", b"us", [Q])]
    assert locks.handle_down(P) == []


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (b"a", Atom("a")), ([1], (1,))])
def test_resources_and_requesters_are_compared_as_erlang_terms(one, other):
    locks = LockTable()
    locks.set((one, P), P)

    assert locks.set((other, Q), Q)[0]
    assert locks.set(([one], one), P)[0]
    assert not locks.set(([one], other), Q)[0]


def test_a_resource_may_be_a_term_that_python_cannot_hash():
    locks = LockTable()

    assert locks.set(((Atom("pg2"), [1, {1: [2]}]), P), P)[0]
    assert not locks.set(((Atom("pg2"), [1, {1: [2]}]), Q), Q)[0]


def test_names_may_stay_while_the_global_lock_stands_or_was_let_go_in_order():
    locks = LockTable()
    assert locks.global_lock_still_set(P)
    locks.set((GLOBAL, [P, Q]), P)

    assert locks.global_lock_still_set(P)
    assert not locks.global_lock_still_set(Q)
    assert locks.global_lock_matches((GLOBAL, [P, Q]))
    assert not locks.global_lock_matches((GLOBAL, [Q, P]))
    assert not locks.global_lock_matches(None)
    locks.delete((GLOBAL, [P, Q]), P)
    assert locks.global_lock_still_set(Q)
    assert locks.global_lock_matches(None)


def test_names_may_not_stay_after_the_global_lock_was_lost_with_its_holder():
    locks = LockTable()
    locks.set((GLOBAL, P), P)

    locks.handle_down(P)

    assert not locks.global_lock_still_set(P)
    assert not locks.global_lock_matches((GLOBAL, P))
    locks.set((GLOBAL, Q), Q)
    locks.delete((GLOBAL, Q), Q)
    assert locks.global_lock_still_set(P)


def test_other_locks_that_are_lost_do_not_matter_to_names():
    locks = LockTable()
    locks.set((b"r", P), P)

    locks.handle_down(P)

    assert locks.global_lock_still_set(P)
