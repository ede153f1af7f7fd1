"""The options of ``spawn_opt`` in an incoming SPAWN_REQUEST."""

import pytest

from erlmesh.core.spawn_requests import LINKED, MONITORED, parse_spawn_options
from erlmesh.terms import Atom, ImproperList, Map

LINK, MONITOR = Atom("link"), Atom("monitor")


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ([], 0),
        ([LINK], LINKED),
        ([MONITOR, LINK], LINKED | MONITORED),
        ([(MONITOR, [(Atom("tag"), 1), (Atom("alias"), Atom("demonitor"))])], MONITORED),
        ([(Atom("priority"), Atom("high")), LINK], LINKED),
        ([(Atom("max_heap_size"), Map([(Atom("size"), 5)]))], 0),
    ],
)
def test_link_and_monitor_options_become_flags_and_memory_options_are_ignored(options, flags):
    assert parse_spawn_options(options) == flags


@pytest.mark.parametrize(
    "options",
    [
        [Atom("foo")],
        [(Atom("foo"), 1)],
        [(LINK, 1)],
        [(MONITOR, [Atom("foo")])],
        [(Atom("priority"), 5)],
        [(Atom("min_heap_size"), -1)],
        [(Atom("fullsweep_after"), True)],
        [(Atom("max_heap_size"), Map([]))],
        [1],
        ImproperList([LINK], LINK),
        LINK,
    ],
)
def test_options_that_a_beam_refuses_with_badopt_give_none(options):
    assert parse_spawn_options(options) is None
