"""Listening sockets: without free descriptors they pause, with one line of log, and go on by themselves."""

import asyncio
import logging
import os
import resource
import socket
import time
from contextlib import contextmanager

from test_dist_socket import on_every_loop, wait_until

from erlmesh.net import acceptor as module
from erlmesh.net.acceptor import Acceptor, is_scarce, share_of_descriptors

HOST = "127.0.0.1"


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)
        self.transport.close()


@contextmanager
def descriptor_limit(limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def all_descriptors_in_use():
    """The process has no free descriptor inside."""
    first = os.open(os.devnull, os.O_RDONLY)
    with descriptor_limit(first + 1):
        try:
            yield
        finally:
            os.close(first)


def ask(port):
    with socket.create_connection((HOST, port), timeout=10) as client:
        try:
            client.sendall(b"hello")
            return client.recv(100)
        except ConnectionError:  # closed before our data was read
            return b""


@on_every_loop
def test_accepting_pauses_without_free_descriptors_and_goes_on(factory, caplog, monkeypatch):
    monkeypatch.setattr(module, "_last_logged", -module.LOG_INTERVAL)
    accepts = []

    async def main():
        acceptor = await Acceptor.listen([HOST], 0, Echo)
        port = acceptor.sockets[0].getsockname()[1]
        clients = [socket.socket() for _ in range(20)]
        monkeypatch.setattr(acceptor, "_pause", lambda *a, pause=acceptor._pause: (accepts.append(a), pause(*a)))
        for client in clients:
            client.setblocking(False)
        with all_descriptors_in_use():
            for client in clients:
                client.connect_ex((HOST, port))
            spent = time.process_time()
            await asyncio.sleep(4.5 * module.ACCEPT_PAUSE)
            assert time.process_time() - spent < 0.5
        assert 2 <= len(accepts) <= 6
        assert await asyncio.to_thread(ask, port) == b"hello"
        await wait_until(lambda: not acceptor._starting)
        acceptor.close()
        for client in clients:
            client.close()
        await asyncio.sleep(0.1)

    caplog.set_level(logging.INFO, "erlmesh")
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert [record.levelname for record in caplog.records if record.name == "erlmesh"] == ["WARNING"]
    assert "too many open files" in caplog.text.lower()


def test_a_client_is_refused_before_the_last_descriptors_are_in_use():
    async def main():
        refused = await Acceptor.listen([HOST], 0, Echo, make_room=lambda: False)
        reserved = await Acceptor.listen([HOST], 0, Echo)
        with socket.socket() as probe, descriptor_limit(probe.fileno() + 4):
            assert is_scarce(probe.fileno() + 3)
            assert await asyncio.to_thread(ask, reserved.sockets[0].getsockname()[1]) == b"hello"
            assert await asyncio.to_thread(ask, refused.sockets[0].getsockname()[1]) == b""
        refused.close()
        reserved.close()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_strangers_get_a_quarter_of_the_descriptors():
    with descriptor_limit(400):
        assert share_of_descriptors(256) == 100
        assert share_of_descriptors(50) == 50
    with descriptor_limit(4000):
        assert share_of_descriptors(256) == 256


@on_every_loop
def test_a_factory_that_fails_costs_one_connection(factory, caplog):
    async def main():
        fails = [True, False]
        acceptor = await Acceptor.listen([HOST], 0, lambda: 1 / 0 if fails.pop(0) else Echo())
        port = acceptor.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(ask, port) == b""
        assert await asyncio.to_thread(ask, port) == b"hello"
        acceptor.close()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert "could not be accepted" in caplog.text
