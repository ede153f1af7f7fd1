"""Replies to incoming SPAWN_REQUESTs: a process with its arguments, link and monitor, or a refusal."""

import pytest
from router_harness import RouterHarness

from erlmesh.proto.control import Down, ExitLink, SpawnReply, SpawnRequest
from erlmesh.runtime.spawn_server import SpawnServer
from erlmesh.terms import Atom, Pid, Ref

A, B = Atom("a@h"), Atom("b@h")
LINK, MONITOR, BOOM = Atom("link"), Atom("monitor"), Atom("boom")
PARENT = Pid(B, 64, 0, 5)
REF = Ref(B, 5, (1, 2, 3))


class SpawnHarness(RouterHarness):
    """A router that starts processes without a task. ``started`` records their bodies and arguments."""

    def __init__(self):
        super().__init__()
        self.peer = self.connect()
        self.started = []
        self.default = None
        self.spawn_server = SpawnServer(self.router.state, self, lambda *_: self.default)
        self.router.on_spawn_request = self.spawn_server.on_request

    def start_without_task(self, body, arguments, _runs):
        self.started.append((body, arguments))
        self.child = self.process()
        return self.child

    def ask(self, *options, arguments=()):
        """Send a SPAWN_REQUEST and return the reply, which must be the only signal sent."""
        request = SpawnRequest(
            REF, PARENT, PARENT, Atom("m"), Atom("f"), len(arguments), list(options), list(arguments)
        )
        self.router.handle_signals([request], B)
        (reply,) = self.peer.take()
        return reply


async def body(me, *_):
    """A body that is never run here."""


@pytest.fixture
def harness():
    return SpawnHarness()


def test_function_in_the_table_gets_its_arguments(harness):
    harness.spawn_server.bodies["m", "f", 2] = body

    reply = harness.ask(arguments=(1, 2))

    assert harness.started == [(body, (1, 2))]
    assert reply == SpawnReply(REF, PARENT, 0, harness.child.pid)
    assert harness.child.group_leader == PARENT


def test_fallback_body_gets_module_function_and_arguments(harness):
    harness.default = body

    harness.ask(arguments=(1,))

    assert harness.started == [(body, (Atom("m"), Atom("f"), [1]))]


def test_unknown_function_is_refused_with_notsup(harness):
    assert harness.ask() == SpawnReply(REF, PARENT, 0, Atom("notsup"))


@pytest.mark.parametrize("option", [Atom("lnk"), 1, (Atom("priority"),)])
def test_bad_option_is_refused_and_starts_nothing(harness, option):
    harness.default = body

    assert harness.ask(option) == SpawnReply(REF, PARENT, 0, Atom("badopt"))
    assert harness.started == []


def test_memory_options_of_a_beam_are_ignored(harness):
    harness.default = body

    assert harness.ask((Atom("priority"), Atom("high"))).result == harness.child.pid


@pytest.mark.parametrize("monitor", [MONITOR, (MONITOR, [])])
def test_process_is_linked_and_monitored_from_its_start(harness, monitor):
    harness.default = body

    reply = harness.ask(LINK, monitor)
    harness.router.termination.terminate(harness.child, BOOM)

    pid = harness.child.pid
    assert reply == SpawnReply(REF, PARENT, 3, pid)
    assert harness.peer.sent == [ExitLink(pid, PARENT, BOOM), Down(pid, PARENT, REF, BOOM)]


def test_process_without_options_has_no_link_and_no_monitor(harness):
    harness.default = body

    harness.ask()
    harness.router.termination.terminate(harness.child, BOOM)

    assert harness.peer.sent == []
