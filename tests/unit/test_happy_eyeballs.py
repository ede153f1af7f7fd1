"""Staggered attempts to connect: order, delay, and what happens to those that are too late."""

import asyncio
import socket

import pytest

from erlmesh.net import host_names
from erlmesh.net.epmd import Epmd
from erlmesh.net.epmd_server import EpmdServer
from erlmesh.net.happy_eyeballs import ATTEMPT_DELAY, connect_host, first_success
from erlmesh.testing.loop import run_coroutine as run


class Attempts:
    """Attempts that take a given time and then succeed, or raise the given error."""

    def __init__(self, **outcomes):
        self.outcomes, self.started, self.cancelled, self.discarded = outcomes, [], [], []

    async def __call__(self, name):
        seconds, error = self.outcomes[name]
        self.started.append((name, asyncio.get_running_loop().time()))
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        if error is not None:
            raise error
        return name

    async def first(self):
        return await first_success(list(self.outcomes), self, self.discarded.append)


def test_the_next_address_gets_its_turn_after_a_delay_and_the_loser_is_cancelled():
    attempts = Attempts(silent=(100, None), quick=(0.1, None), unused=(0, None))

    assert run(attempts.first()) == "quick"

    assert attempts.started == [("silent", 0.0), ("quick", ATTEMPT_DELAY)]
    assert attempts.cancelled == ["silent"]


def test_an_address_that_fails_is_followed_by_the_next_at_once():
    attempts = Attempts(refused=(0, ConnectionRefusedError()), good=(5, None))

    assert run(attempts.first()) == "good"

    assert attempts.started == [("refused", 0.0), ("good", 0.0)]


def test_the_preferred_address_wins_if_it_answers_within_the_delay():
    attempts = Attempts(good=(ATTEMPT_DELAY / 2, None), other=(0, None))

    assert run(attempts.first()) == "good"

    assert [name for name, _ in attempts.started] == ["good"]


def test_a_second_success_is_discarded():
    attempts = Attempts(one=(1, None), two=(1 - ATTEMPT_DELAY, None))

    winner = run(attempts.first())

    assert sorted([winner, *attempts.discarded, *attempts.cancelled]) == ["one", "two"]


def test_if_all_fail_a_refusal_is_raised_otherwise_the_first_error():
    unreachable, refused = OSError("unreachable"), ConnectionRefusedError("refused")

    with pytest.raises(ConnectionRefusedError):
        run(Attempts(a=(0, unreachable), b=(0, refused)).first())
    with pytest.raises(OSError, match="unreachable"):
        run(Attempts(a=(0, unreachable), b=(0, TimeoutError("late"))).first())
    with pytest.raises(OSError, match="no address"):
        run(Attempts().first())


def test_another_exception_and_a_cancellation_stop_all_attempts():
    attempts = Attempts(silent=(100, None), faulty=(1, KeyError("x")))

    with pytest.raises(KeyError):
        run(attempts.first())
    assert attempts.cancelled == ["silent"]

    async def cancelled():
        async with asyncio.timeout(1):
            await attempts.first()

    attempts = Attempts(silent=(100, None), mute=(100, None))
    with pytest.raises(TimeoutError):
        run(cancelled())
    assert sorted(attempts.cancelled) == ["mute", "silent"]


@pytest.fixture
def two_addresses(monkeypatch):
    """`two.example` has an address where nothing answers, and 127.0.0.1."""
    silent = socket.socket()
    silent.bind(("127.0.0.2", 0))
    silent.listen(0)
    port = silent.getsockname()[1]
    fillers = []
    for _ in range(2):  # a full backlog: the kernel answers no further SYN
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.2", port))
        fillers.append(filler)

    async def look_up(_key, _function):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(host_names, "look_up", look_up)
    yield port
    for each in (silent, *fillers):
        each.close()


def test_the_second_address_of_a_host_is_used_if_the_first_is_silent(two_addresses):
    async def main():
        with (
            socket.create_server(("127.0.0.1", two_addresses)),
            await connect_host("two.example", two_addresses) as sock,
        ):
            return sock.getpeername()[0]

    assert asyncio.run(main()) == "127.0.0.1"


def test_epmd_is_asked_at_the_second_address_if_the_first_is_silent(two_addresses):
    async def main():
        server, node = EpmdServer(two_addresses), Epmd(two_addresses, embedded=False)
        await server.start(["127.0.0.1"])
        await node.register("plato", 9, hosts=["127.0.0.1"], hidden=False)
        try:
            return await node.resolve("plato@two.example")
        finally:
            await node.close()
            server.close()

    assert asyncio.run(main()) == ("two.example", 9)
