"""Atoms, identifiers and the other frozen values."""

import copy
import gc
import pickle
import threading
import weakref

import pytest

from erlmesh.formatting import claim_local, format_erlang, node_by_number, release_local
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref

A = Atom("a@127.0.0.1")
PID = Pid(A, 64, 0, 1)
VALUES = [
    PID,
    Port(A, 5, 1),
    Ref(A, 1, (1, 2, 3)),
    Export(Atom("m"), Atom("f"), 1),
    Fun(1, bytes(16), 0, Atom("m"), 0, 123, PID, (1, [2])),
    ImproperList((1,), 2),
    BitString(b"\xa0", 3),
]


def test_an_atom_equals_only_the_atom_of_the_same_name():
    assert Atom("ok") is Atom("ok")
    assert Atom("ok") == Atom("ok")
    assert Atom("ok") != Atom("error")
    assert Atom("ok") != "ok"
    assert Atom(Atom("ok")) is Atom("ok")


def test_an_atom_from_a_str_subclass_is_the_same_atom():
    class Name(str):
        __slots__ = ()

    atom = Atom(Name("some_new_name"))

    assert atom is Atom("some_new_name")
    assert type(atom.name) is str


@pytest.mark.parametrize(
    ("name", "error"),
    [("x" * 256, ValueError), ("\ud800", ValueError), (b"ok", TypeError), (None, TypeError), (1, TypeError)],
)
def test_an_invalid_atom_name_is_refused(name, error):
    with pytest.raises(error):
        Atom(name)


def test_an_atom_may_have_255_characters_of_any_script():
    assert Atom("😀" * 255).name == "😀" * 255


def test_an_atom_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        Atom("ok").name = "error"
    with pytest.raises(AttributeError, match="immutable"):
        del Atom("ok").name


def test_a_copied_or_pickled_atom_is_the_same_object():
    atom = Atom("ok")

    assert pickle.loads(pickle.dumps(atom)) is atom
    assert copy.copy(atom) is atom
    assert copy.deepcopy([atom])[0] is atom


def test_an_unreferenced_atom_is_freed():
    from erlmesh.terms import atoms

    Atom("without a reference")
    for number in range(atoms.RECENT_ATOMS):
        Atom(f"newer {number}")
    gc.collect()

    assert "without a reference" not in atoms._atoms


def test_recent_atoms_are_kept_without_a_reference_and_their_number_is_bounded():
    from erlmesh.terms import atoms

    reference = weakref.ref(Atom("recent"))
    for number in range(atoms.RECENT_ATOMS - 1):
        Atom(f"newer than recent {number}")

    assert reference() is Atom("recent")
    assert len(atoms._recent) == atoms.RECENT_ATOMS


def test_a_late_weakref_callback_keeps_the_new_atom_of_that_name():
    from erlmesh.terms import atoms

    first = Atom("interned twice")
    callback = atoms._atoms["interned twice"].__callback__
    atoms._recent.clear()
    del first
    second = Atom("interned twice")
    callback(None)

    assert Atom("interned twice") is second


def test_threads_that_intern_the_same_atom_get_one_object():
    barrier = threading.Barrier(4)
    made = [[] for _ in range(4)]

    def make(atoms):
        barrier.wait()
        atoms.extend(Atom(f"raced {number}") for number in range(500))

    threads = [threading.Thread(target=make, args=(atoms,)) for atoms in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(len(set(map(id, same))) == 1 for same in zip(*made, strict=True))


def test_atoms_and_pids_match_class_patterns():
    match (Atom("hello"), PID):
        case (Atom("hello"), Pid() as sender):
            assert sender is PID
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen_and_equal_to_its_copy(value):
    field = value.__match_args__[0]

    with pytest.raises(AttributeError):
        setattr(value, field, None)
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("value", [value for value in VALUES if not isinstance(value, Fun)])
def test_a_value_is_hashable(value):
    assert {value: 1}[copy.deepcopy(value)] == 1


def test_a_fun_equals_the_same_fun_of_another_process():
    fun = VALUES[4]

    assert Fun(1, bytes(16), 0, Atom("m"), 0, 123, Pid(A, 65, 0, 1), (1, [2])) == fun
    assert Fun(1, bytes(16), 1, Atom("m"), 0, 123, PID, (1, [2])) != fun


def test_pids_of_two_incarnations_print_alike_and_are_not_equal():
    old, new = Pid(A, 64, 0, 1), Pid(A, 64, 0, 2)

    assert old != new
    assert str(old) == str(new)


def test_an_improper_list_needs_an_element_and_a_tail_that_is_not_a_list():
    with pytest.raises(ValueError, match="at least one element"):
        ImproperList((), 1)
    with pytest.raises(TypeError, match="tail"):
        ImproperList((1,), [])
    with pytest.raises(TypeError, match="tail"):
        ImproperList((1,), ImproperList((1,), 2))


@pytest.mark.parametrize(("data", "bits"), [(b"\xa0", 0), (b"\xa0", 8), (b"", 3), (b"\xa1", 3)])
def test_a_bitstring_that_is_not_canonical_is_refused(data, bits):
    with pytest.raises(ValueError, match=r"BitString|unused"):
        BitString(data, bits)


def test_the_oldest_local_node_prints_as_zero():
    here, other = Atom("here@host"), Atom("other@host")

    assert claim_local(here)
    assert not claim_local(other)
    release_local(other)
    try:
        assert str(Pid(here, 64, 0, 1)) == "<0.64.0>"
        assert str(Pid(other, 64, 0, 1)) != "<0.64.0>"
        assert node_by_number(0) is here
    finally:
        release_local(here)
    assert node_by_number(0) is None
    assert str(Pid(here, 64, 0, 1)) != "<0.64.0>"


def test_node_by_number_finds_the_node_of_a_printed_number():
    node = Atom("first printed here@host")

    number = int(format_erlang(Pid(node, 1, 0, 1))[1:].split(".")[0])

    assert number > 0
    assert node_by_number(number) is node
    assert str(Ref(node, 9, (1,))) == f"#Ref<{number}.1>"
    assert node_by_number(number + 1000) is None
    assert node_by_number(-1) is None


def test_node_numbers_count_up_in_order_of_first_use():
    first, second = (int(str(Port(Atom(f"{name}@counted"), 1, 1))[6:].split(".")[0]) for name in ("a", "b"))

    assert second == first + 1


def test_str_and_repr_of_terms():
    assert repr(Atom("a b")) == "Atom('a b')"
    assert str(Atom("a b")) == "'a b'"
    assert repr(PID) == f"#PID{PID}"
    assert repr(ImproperList((1,), 2)) == str(ImproperList((1,), 2)) == "[1|2]"
    assert repr(Map({Atom("a"): 1})) == "Map({Atom('a'): 1})"
    assert str(Map({Atom("a"): 1})) == "#{a => 1}"
