"""The order in which the processes of a stopping node are told, without any process."""

import random

from erlmesh.core.stop_order import Candidate, StopOrder
from erlmesh.terms import Atom, Pid

NODE = Atom("plato@127.0.0.1")
A, B, C, D, E = (Pid(NODE, number, 0, 1) for number in range(1, 6))


def test_processes_without_a_supervisor_are_told_at_once_in_the_given_order():
    order = StopOrder()

    assert order.begin([Candidate(C), Candidate(A), Candidate(B, parent=A)]) == [C, A, B]


def test_a_supervisor_is_told_and_its_descendants_are_not():
    order = StopOrder()

    told = order.begin([Candidate(A, supervises=True), Candidate(B, parent=A), Candidate(C, parent=B)])

    assert told == [A]
    assert order.ended(B) == []
    assert order.ended(A) == [C]
    assert order.remaining() == [C]


def test_a_descendant_of_two_supervisors_waits_for_both():
    order = StopOrder()
    outer, inner = Candidate(A, supervises=True), Candidate(B, parent=A, supervises=True)

    assert order.begin([outer, inner, Candidate(C, parent=B)]) == [A]

    assert order.ended(B) == []
    assert order.ended(A) == [C]


def test_a_process_that_is_started_later_is_told_after_the_end_of_its_parent():
    order = StopOrder()
    order.begin([Candidate(A)])

    assert order.started(Candidate(B, parent=A)) == []
    assert order.started(Candidate(C)) == [C]
    assert order.started(Candidate(D, parent=E)) == [D]
    assert order.ended(A) == [B]


def test_every_process_is_told_once_when_no_supervisor_above_it_lives():
    for seed in range(300):
        rng = random.Random(seed)
        pids = [Pid(NODE, number, 0, 1) for number in range(1, 12)]
        candidates = {
            pid: Candidate(pid, rng.choice([None, *pids[:index]]), rng.random() < 0.4) for index, pid in enumerate(pids)
        }
        order = StopOrder()
        told = order.begin(candidates.values())
        alive = set(pids)
        while alive:
            for pid in told:
                above = candidates[pid].parent
                while above in alive:  # A gap ends the line: nobody knows who was above.
                    assert not candidates[above].supervises
                    above = candidates[above].parent
            ended = rng.choice([pid for pid in alive if pid in told] or sorted(alive, key=str))
            alive.discard(ended)
            told += order.ended(ended)
        assert len(told) == len(set(told))
        assert order.remaining() == []
