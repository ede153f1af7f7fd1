"""The table of global names, and the comparison of two tables."""

import pytest

from erlmesh.services.global_.methods import random_exit_name
from erlmesh.services.global_.name_table import NameTable, compare_tables, conflict_operations
from erlmesh.services.global_.protocol import Conflict, Demonitor, Monitor
from erlmesh.terms import Atom, Pid

A, B = Atom("a@h"), Atom("b@h")
P, Q = Pid(A, 1, 0, 1), Pid(B, 2, 0, 1)
X, Y, INSERT, DELETE = Atom("x"), Atom("y"), Atom("insert"), Atom("delete")
METHOD = random_exit_name


def table(*entries):
    names = NameTable()
    for name, pid in entries:
        names.insert(name, pid, METHOD)
    return names


def test_name_is_found_until_its_process_terminates():
    names = NameTable()

    assert names.insert(X, P, METHOD) == [Monitor(P)]
    assert names.whereis(X) == P
    assert names.entries() == [(X, P, METHOD)]
    assert names.names_of(P) == [X]
    assert names.handle_down(P) == [Demonitor(P)]
    assert names.whereis(X) is None
    assert names.names() == names.names_of(P) == []


def test_moved_name_does_not_depend_on_its_earlier_process():
    names = table((X, P))

    assert names.insert(X, Q, METHOD) == [Monitor(Q), Demonitor(P)]
    assert names.handle_down(P) == []
    assert names.whereis(X) == Q


def test_name_inserted_twice_stays_monitored():
    names = table((X, P))

    assert names.insert(X, P, METHOD) == [Monitor(P), Demonitor(P)]
    assert names.delete(X) == [Demonitor(P)]
    assert names.delete(X) == []


def test_names_are_compared_with_exact_equality():
    names = table((1, P))

    assert names.whereis(1.0) is None
    assert names.whereis(True) is None
    assert names.whereis(1) == P
    names.insert("ä", Q, METHOD)
    assert names.whereis("ä".encode()) == Q


def test_operations_insert_and_delete():
    names = table((X, P))

    names.apply_operations([(DELETE, X), (INSERT, (Y, Q, METHOD)), (INSERT, 1), b"rubbish"], [], lock_held=True)

    assert names.entries() == [(Y, Q, METHOD)]


def test_operations_without_their_lock_remove_the_names():
    names = table((X, P))

    effects = names.apply_operations([(INSERT, (X, Q, METHOD))], [], lock_held=False)

    assert names.entries() == []
    assert effects == [Monitor(Q), Demonitor(P), Demonitor(Q)]


def test_external_names_keep_their_registering_node():
    names = NameTable()

    names.apply_operations([(INSERT, (X, P, METHOD)), (INSERT, (Y, Q, METHOD))], [(X, P, B), (Y, P, B)], lock_held=True)

    assert names.external() == [(X, P, B)]
    names.delete(X)
    assert names.external() == []


def test_new_name_of_the_peer_is_inserted():
    assert compare_tables(table(), [(X, Q, METHOD)], decide=False) == ([(INSERT, (X, Q, METHOD))], [])


def test_same_name_for_the_same_process_is_not_a_conflict():
    assert compare_tables(table((X, Q)), [(X, Q, b"another method")], decide=True) == ([], [])


def test_only_one_side_decides_a_conflict():
    assert compare_tables(table((X, P)), [(X, Q, METHOD)], decide=False) == ([], [])
    assert compare_tables(table((X, P)), [(X, Q, b"remote")], decide=True) == (
        [],
        [Conflict(X, Q, b"remote", P, METHOD)],
    )


def test_malformed_names_are_skipped():
    assert compare_tables(table(), [1, (X, 2, 3), (X, Q), (Y, Q, METHOD)], decide=True)[0] == [(INSERT, (Y, Q, METHOD))]


CONFLICT = Conflict(X, Q, b"remote", P, b"local")


@pytest.mark.parametrize(
    ("answer", "operations"),
    [
        (P, (None, (INSERT, (X, P, b"local")))),
        (Q, ((INSERT, (X, Q, b"remote")), None)),
        (Atom("none"), ((DELETE, X), (DELETE, X))),
        ((Atom("badrpc"), Atom("nodedown")), ((INSERT, (X, Q, b"remote")), None)),
        ((Atom("EXIT"), b"whatever"), ((DELETE, X), (DELETE, X))),
        (Pid(A, 9, 0, 1), ((DELETE, X), (DELETE, X))),
    ],
)
def test_conflict_operations_for_each_answer_of_a_method(answer, operations):
    assert conflict_operations(CONFLICT, answer) == operations
