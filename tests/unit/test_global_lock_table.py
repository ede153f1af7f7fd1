"""The lock table of one node."""

import pytest

from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.protocol import Demonitor, Monitor
from erlmesh.terms import Atom, Pid

NODE = Atom("a@h")
P, Q = Pid(NODE, 1, 0, 1), Pid(NODE, 2, 0, 1)
GLOBAL = Atom("global")


def test_free_resource_is_locked_and_its_holder_monitored():
    locks = LockTable()

    assert locks.set((b"r", P), P) == (True, [Monitor(P)])
    assert locks.snapshot() == [(b"r", P, [P])]


def test_other_requester_is_refused():
    locks = LockTable()
    locks.set((b"r", P), P)

    assert locks.set((b"r", Q), Q) == (False, [])
    assert not locks.can_set((b"r", Q))


def test_same_requester_shares_the_lock():
    locks = LockTable()
    locks.set((b"r", b"us"), P)

    assert locks.set((b"r", b"us"), Q) == (True, [Monitor(Q)])
    assert locks.delete((b"r", b"us"), P) == [Demonitor(P)]
    assert not locks.can_set((b"r", b"them"))
    assert locks.delete((b"r", b"us"), Q) == [Demonitor(Q)]
    assert locks.can_set((b"r", b"them"))


def test_second_set_by_the_holder_changes_nothing():
    locks = LockTable()
    locks.set((b"r", P), P)

    assert locks.set((b"r", P), P) == (True, [])
    assert locks.delete((b"r", P), P) == [Demonitor(P)]
    assert not locks.is_set(b"r")


def test_lock_that_is_not_held_cannot_be_released():
    locks = LockTable()
    locks.set((b"r", b"us"), P)

    assert locks.delete((b"r", b"us"), Q) == []
    assert locks.delete((b"r", b"them"), P) == []
    assert locks.delete((b"other", b"us"), P) == []
    assert locks.is_set(b"r")


def test_terminated_holder_releases_all_its_locks_and_no_others():
    locks = LockTable()
    locks.set((b"r", P), P)
    locks.set((b"s", b"us"), P)
    locks.set((b"s", b"us"), Q)

    locks.handle_down(P)

    assert locks.snapshot() == [(b"s", b"us", [Q])]
    assert locks.handle_down(P) == []


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (b"a", Atom("a")), ([1], (1,))])
def test_resources_and_requesters_are_compared_with_exact_equality(one, other):
    locks = LockTable()
    locks.set((one, P), P)

    assert locks.set((other, Q), Q)[0]
    assert locks.set(([one], one), P)[0]
    assert not locks.set(([one], other), Q)[0]


def test_resource_may_be_unhashable_in_python():
    locks = LockTable()

    assert locks.set(((Atom("pg2"), [1, {1: [2]}]), P), P)[0]
    assert not locks.set(((Atom("pg2"), [1, {1: [2]}]), Q), Q)[0]


def test_names_stay_while_the_global_lock_is_set_or_was_released():
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


def test_names_do_not_stay_after_the_holder_of_the_global_lock_terminated():
    locks = LockTable()
    locks.set((GLOBAL, P), P)

    locks.handle_down(P)

    assert not locks.global_lock_still_set(P)
    assert not locks.global_lock_matches((GLOBAL, P))
    locks.set((GLOBAL, Q), Q)
    locks.delete((GLOBAL, Q), Q)
    assert locks.global_lock_still_set(P)


def test_loss_of_other_locks_does_not_affect_names():
    locks = LockTable()
    locks.set((b"r", P), P)

    locks.handle_down(P)

    assert locks.global_lock_still_set(P)
