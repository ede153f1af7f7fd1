"""A process that does not receive is named in the log, and killed if it has a limit."""

import asyncio
import logging

import pytest
from memory_network import MemoryNetwork, started

from erlmesh.terms import Atom
from erlmesh.testing.loop import run_coroutine, run_iterations

B = Atom("b@h")


def with_node(test):
    async def main():
        async with started(MemoryNetwork(), "a@h") as node:
            await test(node)

    run_coroutine(main())


async def idle(_me):
    await asyncio.get_running_loop().create_future()


async def limited(me, limit):
    me.mailbox_limit = limit
    await idle(me)


def test_a_mailbox_that_passes_10000_messages_is_one_warning_with_the_name_and_the_body(caplog):
    async def test(node):
        pid = node.spawn(idle, name="sleeper")
        for number in range(20_000):
            node.send(pid, number)
        await run_iterations()

        assert [record.message for record in caplog.records] == [
            f"10000 messages wait for process {pid} idle (sleeper): it does not receive them"
        ]

    with caplog.at_level(logging.WARNING, "erlmesh"):
        with_node(test)


def test_the_messages_of_another_node_count():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h") as b:
            await a.connect("b@h")
            pid = b.spawn(limited, 20_000, name="sleeper")
            await run_iterations()

            async def flood(me):
                for number in range(20_001):
                    me.send(("sleeper", B), number)
                    await me.drain()

            a.spawn(flood)
            while b.is_alive(pid):
                await asyncio.sleep(0.001)

    run_coroutine(main())


def test_a_process_with_more_messages_than_its_limit_is_killed(caplog):
    async def test(node):
        downs = []
        pid = node.spawn(limited, 100)
        node.spawn_handler(downs.append).monitor(pid)
        await run_iterations()
        for number in range(100):
            node.send(pid, number)
        await run_iterations()
        assert node.is_alive(pid)
        node.send(pid, 100)
        await run_iterations()

        assert [message[-1] for message in downs] == [Atom("killed")]
        assert [record.message for record in caplog.records] == [
            f"process {pid} limited is killed: 101 messages wait for it, and its limit is 100"
        ]

    with caplog.at_level(logging.ERROR, "erlmesh"):
        with_node(test)


def test_a_process_that_has_ended_meanwhile_is_not_named(caplog):
    async def test(node):
        pid = node.spawn(idle)
        for number in range(10_000):
            node.send(pid, number)
        node.spawn_handler(lambda _: None).exit(pid, Atom("kill"))
        await run_iterations()

        assert not caplog.records

    with caplog.at_level(logging.WARNING, "erlmesh"):
        with_node(test)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10"])
def test_a_limit_that_is_none_is_refused(limit):
    async def test(node):
        errors = []

        async def body(me):
            try:
                me.mailbox_limit = limit
            except ValueError as error:
                errors.append(error)
            assert me.mailbox_limit is None

        node.spawn(body)
        await run_iterations()

        assert len(errors) == 1

    with_node(test)
