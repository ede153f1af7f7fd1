"""What a SPAWN_REQUEST gets: a process, its arguments and its ties, or a word of refusal."""

import random

import pytest

from erlmesh.core.identifiers import Identifiers
from erlmesh.proto.control import Down, ExitLink, SpawnReply, SpawnRequest
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_ops import NodeProcessOps
from erlmesh.runtime.router import Router
from erlmesh.runtime.spawn_server import SpawnServer
from erlmesh.terms import Atom, Pid, Ref

A, B = Atom("a@h"), Atom("b@h")
LINK, MONITOR, BOOM = Atom("link"), Atom("monitor"), Atom("boom")
PARENT = Pid(B, 64, 0, 5)
REF = Ref(B, 5, (1, 2, 3))


class FakePeer:
    busy = False

    def __init__(self):
        self.sent = []

    def send(self, signal):
        self.sent.append(signal)


class World:
    """A router whose guests are processes without a task; ``started`` is what they were to run."""

    def __init__(self):
        self.router = Router(Identifiers(A, 1), lambda *_: False)
        self.ops = NodeProcessOps(self.router, random.Random(0), spawn=None, nodes=None, group_leader=None)
        self.peer = self.router.peers[B] = FakePeer()
        self.started = []
        self.default = None
        self.spawn_server = SpawnServer(self.router.state, self, lambda *_: self.default)
        self.router.on_spawn_request = self.spawn_server.on_request

    def start_without_task(self, body, arguments, _runs):
        self.started.append((body, arguments))
        self.process = LocalProcess(self.ops, self.router.identifiers.pid({}), "guest")
        self.router.registry.add(self.process)
        return self.process

    def ask(self, *options, arguments=()):
        """The only answer that the parent's node is sent."""
        request = SpawnRequest(
            REF, PARENT, PARENT, Atom("m"), Atom("f"), len(arguments), list(options), list(arguments)
        )
        self.router.handle_signals([request], B)
        (reply,) = self.peer.sent
        self.peer.sent.clear()
        return reply


async def body(me, *_):
    """Nobody runs it here."""


@pytest.fixture
def world():
    return World()


def test_a_function_in_the_table_gets_its_arguments(world):
    world.spawn_server.bodies["m", "f", 2] = body

    reply = world.ask(arguments=(1, 2))

    assert world.started == [(body, (1, 2))]
    assert reply == SpawnReply(REF, PARENT, 0, world.process.pid)
    assert world.process.group_leader == PARENT


def test_what_runs_otherwise_is_told_what_was_asked_for(world):
    world.default = body

    world.ask(arguments=(1,))

    assert world.started == [(body, (Atom("m"), Atom("f"), [1]))]


def test_what_nobody_runs_is_refused(world):
    assert world.ask() == SpawnReply(REF, PARENT, 0, Atom("notsup"))


@pytest.mark.parametrize("option", [Atom("lnk"), 1, (Atom("priority"),)])
def test_an_option_that_is_none_is_refused_and_nothing_starts(world, option):
    world.default = body

    assert world.ask(option) == SpawnReply(REF, PARENT, 0, Atom("badopt"))
    assert world.started == []


def test_options_of_a_beam_that_mean_nothing_here_are_passed_over(world):
    world.default = body

    assert world.ask((Atom("priority"), Atom("high"))).result == world.process.pid


@pytest.mark.parametrize("monitor", [MONITOR, (MONITOR, [])])
def test_a_guest_is_linked_and_watched_from_its_birth_if_that_is_asked_for(world, monitor):
    world.default = body

    reply = world.ask(LINK, monitor)
    world.router.termination.terminate(world.process, BOOM)

    guest = world.process.pid
    assert reply == SpawnReply(REF, PARENT, 3, guest)
    assert world.peer.sent == [ExitLink(guest, PARENT, BOOM), Down(guest, PARENT, REF, BOOM)]


def test_a_guest_is_neither_unless_asked(world):
    world.default = body

    world.ask()
    world.router.termination.terminate(world.process, BOOM)

    assert world.peer.sent == []
