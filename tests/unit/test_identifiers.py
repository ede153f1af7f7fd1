"""Pids and references: unique within an incarnation, in a range that old peers can read."""

import pytest

from erlmesh.core.identifiers import FIRST_PROCESS, Identifiers
from erlmesh.terms import Atom, Pid, Ref

HERE = Atom("a@h")


def number(pid):
    return pid.id | pid.serial << 32


def test_the_first_pid_is_0_64_0_and_the_next_0_65_0():
    identifiers = Identifiers(HERE, 7)

    assert [identifiers.pid(()) for _ in range(2)] == [Pid(HERE, 64, 0, 7), Pid(HERE, 65, 0, 7)]


def test_services_have_pids_below_64():
    identifiers = Identifiers(HERE, 7)

    pids = [identifiers.system_pid() for _ in range(FIRST_PROCESS - 1)]

    assert pids == [Pid(HERE, n, 0, 7) for n in range(1, 64)]
    with pytest.raises(RuntimeError, match="at most 63"):
        identifiers.system_pid()


def test_after_32768_ids_the_serial_increases():
    identifiers = Identifiers(HERE, 7)
    identifiers._process = (1 << 15) - 1

    assert identifiers.pid(()) == Pid(HERE, 0, 1, 7)


def test_after_all_numbers_only_free_ones_are_used_again():
    identifiers = Identifiers(HERE, 7)
    identifiers._process = (1 << 28) - 2
    living = {number(Pid(HERE, 65, 0, 7)), number(Pid(HERE, 67, 0, 7))}

    pids = [identifiers.pid(living) for _ in range(4)]

    assert pids == [Pid(HERE, 0x7FFF, 0x1FFF, 7), Pid(HERE, 64, 0, 7), Pid(HERE, 66, 0, 7), Pid(HERE, 68, 0, 7)]


def test_references_differ_and_carry_the_creation():
    identifiers = Identifiers(HERE, 7)

    refs = [identifiers.ref() for _ in range(3)]

    assert refs == [Ref(HERE, 7, (n, 0, 0)) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("last", "words"),
    [((1 << 18) - 1, (0, 1, 0)), ((1 << 50) - 1, (0, 0, 1)), ((1 << 50) + 5, (6, 0, 1))],
)
def test_the_first_word_of_a_reference_stays_below_2_to_the_18(last, words):
    identifiers = Identifiers(HERE, 7)
    identifiers._reference = last

    assert identifiers.ref().words == words
