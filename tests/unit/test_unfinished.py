"""Messages that have arrived in part are bounded over all connections; who holds them longest is given up first."""

import asyncio
import logging

import pytest
from memory_network import MemoryNetwork, started
from test_dist_protocol import LOCAL, REMOTE, established, run
from test_dist_socket import on_every_loop, wait_until

from erlmesh.net.dist_protocol import UNFINISHED_FULL
from erlmesh.proto.control import Send
from erlmesh.proto.unfinished import COUNTED_FROM, UnfinishedBudget
from erlmesh.runtime.config import NodeConfig
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine

MIB = 1 << 20
LONG = Send(Pid(Atom(REMOTE), 91, 0, 1), Pid(Atom(LOCAL), 90, 0, 1), bytes(MIB))


class Owner:
    def __init__(self):
        self.given_up = []

    def give_up_unfinished(self, limit):
        self.given_up.append(limit)


def budget_of(*sizes, limit=100):
    """Return a budget and the owners of these sizes, in this order."""
    budget, owners = UnfinishedBudget(limit), [Owner() for _ in sizes]
    for owner, size in zip(owners, sizes, strict=True):
        budget.update(owner, size)
    return budget, owners


# Decisions


def test_the_connection_that_holds_unfinished_bytes_longest_is_given_up():
    budget, (first, second, third) = budget_of(40, 40, 40)

    assert (first.given_up, second.given_up, third.given_up) == ([100], [], [])
    assert budget.used == 80


def test_so_many_are_given_up_that_the_sum_is_allowed():
    budget, owners = budget_of(30, 30, 30, 90)

    assert [len(owner.given_up) for owner in owners] == [1, 1, 1, 0]
    assert budget.used == 90


def test_a_connection_that_finishes_its_messages_is_not_the_oldest():
    budget, (first, second) = budget_of(40, 40)
    budget.update(first, 20)
    budget.update(first, 50)
    budget.update(first, 61)

    assert (first.given_up, second.given_up) == ([], [100])


def test_a_connection_that_finishes_little_of_what_it_holds_stays_the_oldest():
    budget, (first, second) = budget_of(40, 40)
    budget.update(first, 30)
    budget.update(first, 40)
    budget.update(second, 61)

    assert (first.given_up, second.given_up) == ([100], [])


def test_what_is_finished_or_ended_does_not_count():
    budget, (first, second) = budget_of(40, 40)
    budget.update(first, 0)
    budget.remove(second)
    budget.remove(second)

    assert budget.used == len(budget) == 0


# Connections


@on_every_loop
@pytest.mark.parametrize("fragments", [True, False])
def test_the_oldest_connection_ends_and_the_others_go_on(factory, fragments):
    async def test(_loop):
        budget = UnfinishedBudget(2 * MIB)
        peers = [await established(unfinished_budget=budget) for _ in range(3)]
        for peer in peers:
            peer.channel.send(LONG)
        data = peers[0].channel.data_to_send(0.0)
        if not fragments:  # one frame
            data = (2 * MIB).to_bytes(4) + bytes(MIB)
        for peer in peers:
            await peer.write(data[: 900 * 1024])
            await wait_until(lambda peer=peer: peer.protocol._unfinished > 800 * 1024 or peer.delegate.ended)
        await wait_until(lambda: peers[0].delegate.ended)

        assert [peer.delegate.ended for peer in peers] == [UNFINISHED_FULL, None, None]
        assert peers[0].protocol.channel.statistics().buffered == 0  # freed, not only counted
        assert budget.used <= 2 * MIB
        assert len(budget) == 2
        if fragments:
            await peers[1].write(data[900 * 1024 :])
            await wait_until(lambda: peers[1].delegate.received)
            assert peers[1].protocol._unfinished == 0
            assert len(budget) == 1
        peers[2].protocol.close()
        assert len(budget) == fragments ^ 1

    run(test, factory)


@on_every_loop
def test_the_end_of_a_read_does_not_count(factory):
    async def test(_loop):
        budget = UnfinishedBudget()
        peer = await established(unfinished_budget=budget)
        await peer.write((2 * MIB).to_bytes(4) + bytes(COUNTED_FROM // 2))
        await wait_until(lambda: peer.protocol.channel.statistics().buffered)

        assert len(budget) == 0

    run(test, factory)


# Nodes


def test_the_option_of_a_node_bounds_all_its_connections(caplog):
    async def main():
        network = MemoryNetwork()
        async with (
            started(network, "a@h", unfinished_receive_limit=MIB) as a,
            started(network, "b@h") as b,
            started(network, "c@h") as c,
        ):
            for peer in (b, c):
                await peer.connect("a@h")
                transport = peer._connections.connection("a@h").protocol._transport
                transport.write((2 * MIB).to_bytes(4) + bytes(600 * 1024))
            while a.nodes() != ["c@h"]:
                await asyncio.sleep(0.01)

            assert a._connections.log.last_disconnect_reason("b@h") == UNFINISHED_FULL

    with caplog.at_level(logging.WARNING, "erlmesh"):
        run_coroutine(main())
    assert [record.message for record in caplog.records if record.message.startswith("lost")] == [
        "lost b@h: its messages that have arrived in part have 0 MiB, and those of all nodes more than 1 MiB"
    ]


@pytest.mark.parametrize("limit", [0, 1000, -1, True, 2.5e6])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match="unfinished_receive_limit"):
        NodeConfig("a@h", unfinished_receive_limit=limit)
