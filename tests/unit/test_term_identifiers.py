"""Pids, references and improper lists behave alike in both builds."""

import copy
import gc
import subprocess
import sys
import weakref
from enum import IntEnum

import pytest

from erlmesh import native
from erlmesh.terms import Atom, Port, identifiers, sort_key, values

A = Atom("a@127.0.0.1")
BUILDS = [pytest.param(identifiers, id="pure")]
if native.module:
    BUILDS.append(pytest.param(native.module, id="native"))


class Three(IntEnum):
    THREE = 3


@pytest.fixture(params=BUILDS)
def build(request):
    """The module with the three classes."""
    return request.param


def test_the_classes_in_use_are_those_of_the_build():
    expected = native.module or identifiers

    assert (values.Pid, values.Ref, values.ImproperList) == (expected.Pid, expected.Ref, expected.ImproperList)


def test_a_pid_has_its_parts(build):
    pid = build.Pid(A, 64, 2**32 - 1, 7)
    same = build.Pid(node=A, creation=7, serial=2**32 - 1, id=64)

    assert (pid.node, pid.id, pid.serial, pid.creation) == (A, 64, 2**32 - 1, 7)
    assert (pid, hash(pid)) == (same, hash(same))
    assert build.Pid.__match_args__ == ("node", "id", "serial", "creation")


def test_pids_differ_in_every_part(build):
    pids = [build.Pid(A, 1, 2, 3), build.Pid(Atom("b@h"), 1, 2, 3), *(build.Pid(A, *three) for three in
            ((9, 2, 3), (1, 9, 3), (1, 2, 9), (2, 1, 3), (1, 3, 2)))]  # fmt: skip

    assert len(set(pids)) == len(pids)
    assert all((a == b) == (a is b) and (a != b) == (a is not b) for a in pids for b in pids)


def test_a_reference_has_its_parts(build):
    ref = build.Ref(A, 7, (1, 2**32 - 1, 3))
    same = build.Ref(words=(1, 2**32 - 1, 3), creation=7, node=A)

    assert (ref.node, ref.creation, ref.words) == (A, 7, (1, 2**32 - 1, 3))
    assert (ref, hash(ref)) == (same, hash(same))
    assert build.Ref.__match_args__ == ("node", "creation", "words")


def test_references_differ_in_every_part(build):
    refs = [build.Ref(A, 1, words) for words in ((1,), (1, 0), (0, 1), (1, 0, 0), (1, 0, 0, 0), (1, 0, 0, 0, 0), (2,))]
    refs += [build.Ref(A, 2, (1,)), build.Ref(Atom("b@h"), 1, (1,))]

    assert len(set(refs)) == len(refs)
    assert all((a == b) == (a is b) for a in refs for b in refs)


def test_an_improper_list_has_its_parts(build):
    term = build.ImproperList((1, [2]), b"x")
    same = build.ImproperList(tail=b"x", elements=[1, [2]])

    assert (term.elements, term.tail) == ((1, [2]), b"x")
    assert term == same
    assert type(same.elements) is tuple
    assert term != build.ImproperList((1, [2]), b"y")
    assert term != build.ImproperList((1, [3]), b"x")
    assert hash(build.ImproperList((1,), 2)) == hash(build.ImproperList((1,), 2))
    with pytest.raises(TypeError, match="unhashable"):
        hash(term)
    assert build.ImproperList.__match_args__ == ("elements", "tail")


@pytest.mark.parametrize("module", [identifiers, values], ids=["pure", "in use"])
def test_an_identifier_made_without_checks_is_like_any_other(module):
    for unchecked, checked in (
        (module.unchecked_pid(A, 64, 2**32 - 1, 7), module.Pid(A, 64, 2**32 - 1, 7)),
        (module.unchecked_ref(A, 7, (1, 2**32 - 1)), module.Ref(A, 7, (1, 2**32 - 1))),
    ):
        assert type(unchecked) is type(checked)
        assert (unchecked, hash(unchecked)) == (checked, hash(checked))
        assert unchecked.__reduce__() == checked.__reduce__()
        with pytest.raises(AttributeError):
            unchecked.node = A


@pytest.mark.parametrize("number", [-1, 2**32, 2**64, -(2**64)])
def test_a_number_out_of_range_is_refused(build, number):
    message = f"0 to 2³²-1, not {number}"
    for numbers in ((number, 0, 0), (0, number, 0), (0, 0, number)):
        with pytest.raises(ValueError, match=message):
            build.Pid(A, *numbers)
    with pytest.raises(ValueError, match=message):
        build.Ref(A, number, (1,))
    with pytest.raises(ValueError, match=message):
        build.Ref(A, 1, (1, number))


@pytest.mark.parametrize("number", [1.0, "1", None, b"1"])
def test_a_number_that_is_no_int_is_refused(build, number):
    with pytest.raises(TypeError, match="are ints, not"):
        build.Pid(A, 0, number, 0)
    with pytest.raises(TypeError, match="are ints, not"):
        build.Ref(A, 0, (number,))


def test_an_int_of_a_subclass_is_a_number(build):
    pid = build.Pid(A, Three.THREE, True, 0)

    assert (pid, hash(pid)) == (build.Pid(A, 3, 1, 0), hash(build.Pid(A, 3, 1, 0)))


@pytest.mark.parametrize("node", ["a@127.0.0.1", None, b"a"])
def test_a_node_that_is_no_atom_is_refused(build, node):
    with pytest.raises(TypeError, match="is an Atom, not"):
        build.Pid(node, 0, 0, 0)
    with pytest.raises(TypeError, match="is an Atom, not"):
        build.Ref(node, 0, (1,))


def test_the_words_of_a_reference_are_a_tuple_of_1_to_5(build):
    with pytest.raises(ValueError, match="1 to 5 words, not 0"):
        build.Ref(A, 0, ())
    with pytest.raises(ValueError, match="1 to 5 words, not 6"):
        build.Ref(A, 0, (1,) * 6)
    with pytest.raises(TypeError, match="are a tuple, not list"):
        build.Ref(A, 0, [1])


def test_an_improper_list_is_not_a_list(build):
    with pytest.raises(ValueError, match="at least one element"):
        build.ImproperList((), 1)
    with pytest.raises(TypeError, match="tail of an improper list"):
        build.ImproperList((1,), [])
    with pytest.raises(TypeError, match="tail of an improper list"):
        build.ImproperList((1,), build.ImproperList((1,), 2))
    with pytest.raises(TypeError, match="not iterable"):
        build.ImproperList(7, 1)


def test_they_differ_from_everything_else(build):
    pid, ref, improper = build.Pid(A, 1, 2, 3), build.Ref(A, 1, (2,)), build.ImproperList((1,), 2)

    for value in (pid, ref, improper):
        assert all(value != other for other in (None, 1, A, (A, 1, 2, 3), Port(A, 1, 1), "x", [1]))
        assert value.__eq__(1) is NotImplemented
        with pytest.raises(TypeError, match="not supported"):
            value < value  # noqa: B015, PLR0124


def test_they_are_frozen(build):
    for value in (build.Pid(A, 1, 2, 3), build.Ref(A, 1, (2,)), build.ImproperList((1,), 2)):
        for name in (*value.__match_args__, "other"):
            with pytest.raises((AttributeError, TypeError)):
                setattr(value, name, 1)
            with pytest.raises((AttributeError, TypeError)):
                delattr(value, name)


def test_a_missing_or_unknown_argument_is_refused(build):
    for make in (lambda: build.Pid(A, 1, 2), lambda: build.Pid(A, 1, 2, 3, 4), lambda: build.Ref(A, 1, word=(1,)),
                 lambda: build.ImproperList((1,)), build.Pid):  # fmt: skip
        with pytest.raises(TypeError, match="argument"):
            make()


def test_they_match_class_patterns(build):
    match build.Pid(A, 1, 2, 3), build.Ref(A, 1, (4, 5)), build.ImproperList((6,), 7):
        case build.Pid(node, 1, serial=2, creation=c), build.Ref(_, 1, (4, five)), build.ImproperList((six,), tail):
            assert (node, c, five, six, tail) == (A, 3, 5, 6, 7)
        case _:
            pytest.fail("no match")


def test_they_print_as_in_erlang():
    build = values  # only the classes in use are registered for printing
    node = str(Port(A, 0, 0))[6:].split(".")[0]

    assert str(build.Pid(A, 64, 1, 7)) == f"<{node}.64.1>"
    assert repr(build.Pid(A, 64, 1, 7)) == f"#PID<{node}.64.1>"
    for show in (str, repr):
        assert show(build.Ref(A, 7, (1, 2, 3))) == f"#Ref<{node}.3.2.1>"
        assert show(build.ImproperList((1, A), True)) == "[1,'a@127.0.0.1'|true]"


def test_a_copy_of_an_identifier_is_the_identifier(build):
    for value in (build.Pid(A, 1, 2, 3), build.Ref(A, 1, (2,))):
        assert copy.copy(value) is value
        assert copy.deepcopy([value])[0] is value


def test_a_deep_copy_of_an_improper_list_copies_its_elements(build):
    inner = [1]
    term = build.ImproperList((inner,), 2)

    copied = copy.deepcopy(term)

    assert copied == term
    assert copied.elements[0] is not inner
    assert copy.copy(term) == term


def test_they_sort_as_in_erlang():
    pids = [values.Pid(A, n, s, 1) for n, s in ((2, 0), (1, 1), (1, 0))]

    assert [(pid.id, pid.serial) for pid in sorted(pids, key=sort_key)] == [(1, 0), (2, 0), (1, 1)]


def test_no_weak_references_and_no_more_attributes(build):
    for value in (build.Pid(A, 1, 2, 3), build.Ref(A, 1, (2,)), build.ImproperList((1,), 2)):
        with pytest.raises(TypeError, match="weak reference"):
            weakref.ref(value)
        assert not hasattr(value, "__dict__")


def test_a_cycle_through_an_improper_list_is_collected(build):
    class Marker:
        pass

    marker = Marker()
    cycle = [marker]
    cycle.append(build.ImproperList((cycle,), 1))
    alive = weakref.ref(marker)

    del marker, cycle
    gc.collect()

    assert alive() is None


PICKLE = """
import pickle, sys
from erlmesh.terms import Atom, ImproperList, Pid, Ref
VALUES = (Pid(Atom("a@h"), 1, 2, 3), Ref(Atom("a@h"), 1, (2, 3)), ImproperList((1, [2]), b"x"))
"""
DUMP = PICKLE + "sys.stdout.buffer.write(pickle.dumps(VALUES))"
LOAD = PICKLE + "assert pickle.load(sys.stdin.buffer) == VALUES"


@pytest.mark.parametrize("writer", ["0", "1"])
@pytest.mark.parametrize("reader", ["0", "1"])
def test_a_pickle_of_one_build_is_read_by_the_other(writer, reader):
    def run(program, pure, data=b""):
        command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}{program}"]
        return subprocess.run(command, input=data, check=True, capture_output=True, env={"ERLMESH_PURE": pure}).stdout

    run(LOAD, reader, run(DUMP, writer))


def test_the_hash_of_a_deep_improper_list_raises_recursion_error():
    deep = 0
    for _ in range(100_000):
        deep = values.ImproperList((deep,), 1)

    with pytest.raises(RecursionError):
        hash(deep)
