"""Processes asked for on other nodes: the requests, what the answers mean, and who has stopped waiting for them."""

import asyncio
import random

import pytest

from erlmesh.core.identifiers import Identifiers
from erlmesh.errors import CallError, EncodeError, NoConnection
from erlmesh.proto.control import Demonitor, Down, ExitLink, SpawnReply, SpawnRequest
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_ops import NodeProcessOps
from erlmesh.runtime.router import Router
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B = Atom("a@h"), Atom("b@h")
LINK, MONITOR, NORMAL, NOCONNECTION = (Atom(word) for word in ("link", "monitor", "normal", "noconnection"))
CALL = (Atom("m"), Atom("f"), [1])
CHILD, LEADER = Pid(B, 64, 0, 5), Pid(A, 1, 0, 1)


class FakePeer:
    busy = False

    def __init__(self):
        self.sent = []

    def send(self, signal):
        self.sent.append(signal)


class World:
    def __init__(self):
        self.enqueued = []
        self.router = Router(Identifiers(A, 1), self.enqueue)
        self.spawn_client = self.router.spawn_client
        ops = NodeProcessOps(self.router, random.Random(0), spawn=None, nodes=None, group_leader=None)
        self.parent = LocalProcess(ops, self.router.identifiers.pid({}), "parent")
        self.router.registry.add(self.parent)

    def enqueue(self, node, signal, _size, dial):
        assert dial
        self.enqueued.append((node, signal))

    def connect(self):
        self.peer = self.router.peers[B] = FakePeer()
        return self

    def spawn(self, *options):
        return asyncio.ensure_future(self.spawn_client.spawn(self.parent, B, CALL, LEADER, list(options)))

    def hear(self, *signals):
        self.router.handle_signals(signals, B)

    def mailbox(self):
        return list(self.parent._mailbox.messages)

    def is_empty(self):
        return not (
            len(self.spawn_client) or len(self.router.monitors) or len(self.router.links) or self.parent._pending_calls
        )


def test_the_request_carries_the_call_the_leader_and_the_options():
    async def main():
        world = World().connect()
        asked = world.spawn(MONITOR, LINK)
        await run_iterations()
        (request,) = world.peer.sent
        assert request == SpawnRequest(request.ref, world.parent.pid, LEADER, *CALL[:2], 1, [MONITOR, LINK], CALL[2])

        world.hear(SpawnReply(request.ref, world.parent.pid, 3, CHILD))

        assert await asked == (CHILD, request.ref)
        assert world.router.links.links_of(world.parent.pid) == [CHILD]
        world.hear(ExitLink(CHILD, world.parent.pid, NORMAL), Down(CHILD, world.parent.pid, request.ref, NORMAL))
        assert world.mailbox() == [(Atom("DOWN"), request.ref, Atom("process"), CHILD, NORMAL)]
        assert world.is_empty()

    run(main())


def test_a_death_that_comes_with_the_birth_is_a_message():
    async def main():
        world = World().connect()
        asked = world.spawn(MONITOR)
        await run_iterations()
        ref, me = world.peer.sent[0].ref, world.parent.pid

        world.hear(SpawnReply(ref, me, 2, CHILD), Down(CHILD, me, ref, NORMAL))

        assert await asked == (CHILD, ref)
        assert world.mailbox() == [(Atom("DOWN"), ref, Atom("process"), CHILD, NORMAL)]

    run(main())


def test_a_refusal_is_raised():
    async def main():
        world = World().connect()
        asked = world.spawn()
        await run_iterations()

        world.hear(SpawnReply(world.peer.sent[0].ref, world.parent.pid, 0, Atom("notsup")))

        with pytest.raises(CallError, match="b@h refused to start the process: notsup"):
            await asked
        assert world.is_empty()

    run(main())


def test_whoever_has_stopped_waiting_is_neither_linked_nor_watching():
    async def main():
        world = World().connect()
        asked = world.spawn(MONITOR, LINK)
        await run_iterations()
        asked.cancel()
        await run_iterations()
        request = world.peer.sent.pop()

        world.hear(SpawnReply(request.ref, world.parent.pid, 3, CHILD))

        assert world.peer.sent == [
            ExitLink(world.parent.pid, CHILD, Atom("abandoned")),
            Demonitor(world.parent.pid, CHILD, request.ref),
        ]
        assert world.is_empty()

    run(main())


@pytest.mark.parametrize("connected", [True, False])
def test_a_node_that_is_lost_or_cannot_be_reached_starts_nothing(connected):
    async def main():
        world = World()
        if connected:
            world.connect()
        asked = world.spawn(LINK)
        end = asyncio.ensure_future(world.spawn_client.spawn_and_wait(world.parent, B, CALL, LEADER))
        await run_iterations()

        if connected:
            del world.router.peers[B]
            world.router.termination.connection_lost(B)
        else:
            for node, signal in world.enqueued:
                world.router.termination.undeliverable(signal, node)

        with pytest.raises(NoConnection, match="no connection to b@h"):
            await asked
        assert await end is NOCONNECTION
        assert world.is_empty()

    run(main())


def test_an_end_is_waited_for_whatever_it_is():
    async def main():
        world = World().connect()
        end = asyncio.ensure_future(world.spawn_client.spawn_and_wait(world.parent, B, CALL, LEADER))
        await run_iterations()
        ref, me = world.peer.sent[0].ref, world.parent.pid

        world.hear(SpawnReply(ref, me, 2, CHILD), Down(CHILD, me, ref, (1, 2)))

        assert await end == (1, 2)
        assert world.mailbox() == []
        assert world.is_empty()

    run(main())


def test_who_stops_waiting_for_an_end_stops_watching():
    async def main():
        world = World().connect()
        end = asyncio.ensure_future(world.spawn_client.spawn_and_wait(world.parent, B, CALL, LEADER))
        await run_iterations()
        ref, me = world.peer.sent.pop().ref, world.parent.pid
        world.hear(SpawnReply(ref, me, 2, CHILD))

        end.cancel()
        await run_iterations()

        assert world.peer.sent == [Demonitor(me, CHILD, ref)]
        assert world.is_empty()

    run(main())


def test_answers_of_others_and_to_others_are_ignored():
    async def main():
        world = World().connect()
        asked = world.spawn(MONITOR, LINK)
        await run_iterations()
        ref, me = world.peer.sent[0].ref, world.parent.pid

        world.router.handle_signals([SpawnReply(ref, me, 3, CHILD)], Atom("c@h"))
        world.hear(
            SpawnReply(ref, Pid(A, 999, 0, 1), 3, CHILD), SpawnReply(world.router.identifiers.ref(), me, 3, CHILD)
        )

        await run_iterations()
        assert not asked.done()
        asked.cancel()

    run(main())


@pytest.mark.parametrize("connected", [True, False])
def test_what_is_no_term_is_refused_at_the_call(connected):
    def refuse(signal):
        raise EncodeError("no term")

    async def main():
        world = World()
        if connected:
            world.connect().peer.send = refuse
        call = (*CALL[:2], [object()])

        with pytest.raises(EncodeError):
            await world.spawn_client.spawn(world.parent, B, call, LEADER, [])
        with pytest.raises(EncodeError):
            world.spawn_client.spawn_nowait(world.parent, B, call, LEADER)
        assert world.is_empty()
        assert world.enqueued == []

    run(main())
