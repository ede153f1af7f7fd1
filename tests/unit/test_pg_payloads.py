"""Both builds accept the same messages between the servers of process groups."""

import pytest

from erlmesh.services.pg.payloads import is_sync_of, pure_is_sync_of
from erlmesh.terms import Atom, ImproperList, Map, Pid, Ref

HERE, OTHER = Atom("here@host"), Atom("other@host")
PID, LATER, STRANGER = Pid(HERE, 1, 0, 1), Pid(HERE, 1, 0, 2), Pid(OTHER, 1, 0, 1)
GROUP = Atom("group")


class Pids(list):
    """A subclass. A term from the wire is never one."""


@pytest.mark.parametrize(
    "groups",
    [
        [],
        [(GROUP, [])],
        [(GROUP, [PID])],
        [(GROUP, [PID, PID, LATER]), (GROUP, [PID]), ([1, 2.5], [LATER])],
    ],
)
def test_a_sync_has_groups_with_processes_of_its_node(groups):
    assert is_sync_of(HERE, groups) is pure_is_sync_of(HERE, groups) is True


@pytest.mark.parametrize(
    "groups",
    [
        GROUP,
        (),
        Map({GROUP: [PID]}),
        Pids([(GROUP, [PID])]),
        ImproperList([(GROUP, [PID])], GROUP),
        [GROUP],
        [[GROUP, [PID]]],
        [(GROUP, [PID]), (GROUP,)],
        [(GROUP, [PID], [PID])],
        [()],
        [(GROUP, PID)],
        [(GROUP, (PID,))],
        [(GROUP, Pids([PID]))],
        [(GROUP, ImproperList([PID], PID))],
        [(GROUP, [PID, GROUP])],
        [(GROUP, [PID]), (GROUP, [Ref(HERE, 1, (1,))])],
        [(GROUP, [PID, STRANGER])],
        [(GROUP, [PID]), (GROUP, [STRANGER])],
    ],
)
def test_any_other_term_is_not_a_sync(groups):
    assert is_sync_of(HERE, groups) is pure_is_sync_of(HERE, groups) is False
