"""SPAWN_REQUESTs to other nodes: their content, their replies, lost connections and cancelled callers."""

import asyncio

import pytest
from router_harness import RouterHarness, mailbox

from erlmesh.errors import CallError, EncodeError, NoConnection
from erlmesh.proto.control import Demonitor, Down, ExitLink, SpawnReply, SpawnRequest
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B = Atom("a@h"), Atom("b@h")
LINK, MONITOR, NORMAL, NOCONNECTION = (Atom(word) for word in ("link", "monitor", "normal", "noconnection"))
CALL = (Atom("m"), Atom("f"), [1])
CHILD, LEADER = Pid(B, 64, 0, 5), Pid(A, 1, 0, 1)


class SpawnHarness(RouterHarness):
    """A parent process on ``a@h`` that starts processes on ``b@h``."""

    def __init__(self):
        super().__init__()
        self.spawn_client = self.router.spawn_client
        self.parent = self.process()

    def connect(self, node=B):
        self.peer = super().connect(node)
        return self

    def spawn(self, *options):
        return asyncio.ensure_future(self.spawn_client.spawn(self.parent, B, CALL, LEADER, list(options)))

    def mailbox(self):
        return mailbox(self.parent)

    def is_empty(self):
        return not (
            len(self.spawn_client) or len(self.router.monitors) or len(self.router.links) or self.parent._pending_calls
        )


def test_a_request_to_a_peer_that_starts_no_processes_is_refused():
    """``notsup``, as on a BEAM. Otherwise the caller would wait for ever."""

    async def main():
        harness = SpawnHarness().connect()
        asked = harness.spawn(MONITOR)
        await run_iterations()

        harness.router.termination.no_answer(harness.peer.sent[0], B)

        with pytest.raises(CallError, match="notsup"):
            await asked
        assert harness.is_empty()

    run(main())


def test_request_carries_the_mfa_the_group_leader_and_the_options():
    async def main():
        harness = SpawnHarness().connect()
        asked = harness.spawn(MONITOR, LINK)
        await run_iterations()
        (request,) = harness.peer.sent
        assert request == SpawnRequest(request.ref, harness.parent.pid, LEADER, *CALL[:2], 1, [MONITOR, LINK], CALL[2])

        harness.receive(SpawnReply(request.ref, harness.parent.pid, 3, CHILD))

        assert await asked == (CHILD, request.ref)
        assert harness.router.links.links_of(harness.parent.pid) == [CHILD]
        harness.receive(
            ExitLink(CHILD, harness.parent.pid, NORMAL), Down(CHILD, harness.parent.pid, request.ref, NORMAL)
        )
        assert harness.mailbox() == [(Atom("DOWN"), request.ref, Atom("process"), CHILD, NORMAL)]
        assert harness.is_empty()

    run(main())


def test_down_right_after_the_reply_is_a_message():
    async def main():
        harness = SpawnHarness().connect()
        asked = harness.spawn(MONITOR)
        await run_iterations()
        ref, me = harness.peer.sent[0].ref, harness.parent.pid

        harness.receive(SpawnReply(ref, me, 2, CHILD), Down(CHILD, me, ref, NORMAL))

        assert await asked == (CHILD, ref)
        assert harness.mailbox() == [(Atom("DOWN"), ref, Atom("process"), CHILD, NORMAL)]

    run(main())


def test_refusal_raises_call_error():
    async def main():
        harness = SpawnHarness().connect()
        asked = harness.spawn()
        await run_iterations()

        harness.receive(SpawnReply(harness.peer.sent[0].ref, harness.parent.pid, 0, Atom("notsup")))

        with pytest.raises(CallError, match="b@h refused to start the process: notsup"):
            await asked
        assert harness.is_empty()

    run(main())


def test_cancelled_caller_keeps_no_link_and_no_monitor():
    async def main():
        harness = SpawnHarness().connect()
        asked = harness.spawn(MONITOR, LINK)
        await run_iterations()
        asked.cancel()
        await run_iterations()
        request = harness.peer.sent.pop()

        harness.receive(SpawnReply(request.ref, harness.parent.pid, 3, CHILD))

        assert harness.peer.sent == [
            ExitLink(harness.parent.pid, CHILD, Atom("abandoned")),
            Demonitor(harness.parent.pid, CHILD, request.ref),
        ]
        assert harness.is_empty()

    run(main())


@pytest.mark.parametrize("connected", [True, False])
def test_lost_or_unreachable_node_raises_no_connection(connected):
    async def main():
        harness = SpawnHarness()
        if connected:
            harness.connect()
        asked = harness.spawn(LINK)
        end = asyncio.ensure_future(harness.spawn_client.spawn_and_wait(harness.parent, B, CALL, LEADER))
        await run_iterations()

        if connected:
            del harness.router.peers[B]
            harness.router.termination.connection_lost(B)
        else:
            for node, signal in harness.enqueued:
                harness.router.termination.undeliverable(signal, node)

        with pytest.raises(NoConnection, match="no connection to b@h"):
            await asked
        assert await end is NOCONNECTION
        assert harness.is_empty()

    run(main())


def test_spawn_and_wait_returns_any_exit_reason():
    async def main():
        harness = SpawnHarness().connect()
        end = asyncio.ensure_future(harness.spawn_client.spawn_and_wait(harness.parent, B, CALL, LEADER))
        await run_iterations()
        ref, me = harness.peer.sent[0].ref, harness.parent.pid

        harness.receive(SpawnReply(ref, me, 2, CHILD), Down(CHILD, me, ref, (1, 2)))

        assert await end == (1, 2)
        assert harness.mailbox() == []
        assert harness.is_empty()

    run(main())


def test_cancelled_spawn_and_wait_removes_its_monitor():
    async def main():
        harness = SpawnHarness().connect()
        end = asyncio.ensure_future(harness.spawn_client.spawn_and_wait(harness.parent, B, CALL, LEADER))
        await run_iterations()
        ref, me = harness.peer.sent.pop().ref, harness.parent.pid
        harness.receive(SpawnReply(ref, me, 2, CHILD))

        end.cancel()
        await run_iterations()

        assert harness.peer.sent == [Demonitor(me, CHILD, ref)]
        assert harness.is_empty()

    run(main())


def test_replies_from_other_nodes_or_to_other_processes_are_ignored():
    async def main():
        harness = SpawnHarness().connect()
        asked = harness.spawn(MONITOR, LINK)
        await run_iterations()
        ref, me = harness.peer.sent[0].ref, harness.parent.pid

        harness.router.handle_signals([SpawnReply(ref, me, 3, CHILD)], Atom("c@h"))
        harness.receive(
            SpawnReply(ref, Pid(A, 999, 0, 1), 3, CHILD), SpawnReply(harness.router.identifiers.ref(), me, 3, CHILD)
        )

        await run_iterations()
        assert not asked.done()
        asked.cancel()

    run(main())


@pytest.mark.parametrize("connected", [True, False])
def test_argument_that_is_not_a_term_raises(connected):
    def refuse(signal):
        raise EncodeError("not a term")

    async def main():
        harness = SpawnHarness()
        if connected:
            harness.connect().peer.send = refuse
        call = (*CALL[:2], [object()])

        with pytest.raises(EncodeError):
            await harness.spawn_client.spawn(harness.parent, B, call, LEADER, [])
        with pytest.raises(EncodeError):
            harness.spawn_client.spawn_nowait(harness.parent, B, call, LEADER)
        assert harness.is_empty()
        assert harness.enqueued == []

    run(main())
