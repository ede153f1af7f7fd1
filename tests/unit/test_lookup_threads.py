"""Look-ups in threads of their own: sharing, bounds, and independence from the default executor."""

import asyncio
import socket
import threading

import pytest

from erlmesh.errors import ConnectError
from erlmesh.net import lookup_threads
from erlmesh.net.epmd_server import EpmdServer
from erlmesh.net.host_names import interleave, resolve_host, resolve_sockets
from erlmesh.net.lookup_threads import MAX_THREADS_PER_KEY, look_up
from erlmesh.net.network import TcpNetwork
from polling import wait_until_async as wait_until


def live_lookups():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("erlmesh look-up")]


class Blocked:
    """A function that blocks until it is released."""

    def __init__(self, result):
        self.result, self.calls, self.released = result, 0, threading.Event()

    def __call__(self):
        self.calls += 1
        self.released.wait(10)
        return self.result


def test_callers_of_one_key_share_a_thread_and_its_result():
    async def main():
        slow = Blocked("found")
        callers = [asyncio.create_task(look_up("k", slow)) for _ in range(20)]
        await wait_until(lambda: slow.calls)
        assert live_lookups() == ["erlmesh look-up of k"]

        slow.released.set()

        assert await asyncio.gather(*callers) == ["found"] * 20
        assert slow.calls == 1

    asyncio.run(main())


def test_a_hanging_lookup_is_followed_by_few_others_of_its_key_and_delays_no_other_key():
    async def main():
        slow = Blocked("late")
        for _ in range(5):
            caller = asyncio.create_task(look_up("k", slow))
            await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait([caller])
        last = asyncio.create_task(look_up("k", slow))
        await wait_until(lambda: slow.calls == MAX_THREADS_PER_KEY)

        assert await look_up("other", lambda: "at once") == "at once"
        assert len(live_lookups()) <= MAX_THREADS_PER_KEY + 1

        slow.released.set()

        assert await last == "late"
        assert slow.calls == MAX_THREADS_PER_KEY

    asyncio.run(main())


def test_lookups_beyond_the_limit_wait_and_a_cancelled_one_never_starts(monkeypatch):
    monkeypatch.setattr(lookup_threads, "MAX_THREADS", 2)

    async def main():
        slow, others = Blocked("slow"), []
        running = [asyncio.create_task(look_up(f"slow {n}", slow)) for n in range(2)]
        waiting = [asyncio.create_task(look_up(f"w{n}", lambda n=n: others.append(n))) for n in range(3)]
        await wait_until(lambda: slow.calls == 2)
        waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        assert others == []

        slow.released.set()
        await asyncio.gather(*running, waiting[0], waiting[2])

        assert others == [0, 2]

    asyncio.run(main())


def test_an_exception_of_the_lookup_reaches_all_callers():
    def fail():
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    async def main():
        results = await asyncio.gather(look_up("k", fail), look_up("k", fail), return_exceptions=True)
        assert [type(result) for result in results] == [socket.gaierror] * 2

    asyncio.run(main())


def test_a_refused_thread_is_an_os_error(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    async def main():
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread for the look-up of 'k'"):
            await look_up("k", lambda: 1)
        monkeypatch.undo()
        assert await look_up("k", lambda: 1) == 1

    asyncio.run(main())


def test_a_lookup_may_outlive_its_loop():
    slow = Blocked("late")

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await look_up("k", slow)

    asyncio.run(main())
    slow.released.set()


# Host names


def numeric_only(host, port, **options):
    assert options.get("flags") == socket.AI_NUMERICHOST, f"{host} is looked up"
    return GETADDRINFO(host, port, **options)


GETADDRINFO = socket.getaddrinfo


def test_a_numeric_address_needs_no_thread(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", numeric_only)
    monkeypatch.setattr(threading.Thread, "start", None)

    async def main():
        assert await resolve_host("127.0.0.1") == ["127.0.0.1"]
        assert await resolve_sockets("::1", 7) == [(socket.AF_INET6, ("::1", 7, 0, 0))]

    asyncio.run(main())


def test_a_text_that_is_no_host_name_cannot_be_resolved():
    for host in ("a" * 70, "a..b"):
        with pytest.raises(socket.gaierror, match="not a host name"):
            asyncio.run(resolve_host(host))


def test_addresses_alternate_between_the_families():
    four = [(socket.AF_INET, (f"10.0.0.{n}", 1)) for n in range(3)]
    six = [(socket.AF_INET6, ("::1", 1, 0, 0))]

    assert interleave([*six, *four]) == [six[0], *four]
    assert interleave([*four, *six]) == [four[0], six[0], *four[1:]]
    assert interleave([]) == []


@pytest.fixture
def slow_names(monkeypatch):
    """The look-up of slow.example blocks; `peer.example` is 127.0.0.1 at once."""
    slow = Blocked(None)

    def getaddrinfo(host, port, **options):
        if not options.get("flags") and host == "slow.example":
            slow()
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        if not options.get("flags") and host == "peer.example":
            host = "127.0.0.1"
        return GETADDRINFO(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return slow


async def fill_default_executor(released, size=40):
    blocked = [asyncio.get_running_loop().run_in_executor(None, released.wait, 10) for _ in range(size)]
    await asyncio.sleep(0)
    return asyncio.gather(*blocked)


def test_a_full_default_executor_delays_no_dial_and_no_epmd(slow_names, free_port):
    async def main():
        released = threading.Event()
        work = await fill_default_executor(released)
        network = TcpNetwork()
        server = EpmdServer(free_port)
        try:
            await server.start(None)
            await network.addresses("peer.example", None)
            await network.dial("peer.example", free_port, asyncio.Protocol)
            with pytest.raises(ConnectError, match="nothing listens"):
                await network.dial("peer.example", 1, asyncio.Protocol)
        finally:
            server.close()
            released.set()
            await work

    asyncio.run(main())


def test_a_slow_name_delays_neither_other_peers_nor_the_default_executor(slow_names):
    async def main():
        network = TcpNetwork()
        attempts = [asyncio.create_task(network.dial("slow.example", 1, asyncio.Protocol)) for _ in range(50)]
        await wait_until(lambda: slow_names.calls)

        with pytest.raises(ConnectError, match="nothing listens"):
            await network.dial("peer.example", 1, asyncio.Protocol)
        assert await asyncio.gather(*(asyncio.to_thread(int, "5") for _ in range(40))) == [5] * 40
        assert len(live_lookups()) <= MAX_THREADS_PER_KEY

        slow_names.released.set()
        failures = await asyncio.gather(*attempts, return_exceptions=True)
        assert {str(failure) for failure in failures} == {"the host name 'slow.example' cannot be resolved: unknown"}

    asyncio.run(main())
