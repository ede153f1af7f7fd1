"""The embedded EPMD on real sockets: in the event loop, and in the watchdog thread while the loop is blocked."""

import asyncio
import socket
import threading

from test_dist_socket import on_every_loop, wait_until
from test_watchdog_thread import FakeNode, blocked_while

from erlmesh import native
from erlmesh.net.epmd_server import MAX_THREAD_CLIENTS, EpmdServer
from erlmesh.net.native_registry import watchdog_of_loop
from erlmesh.net.watchdog import attach_watchdog
from erlmesh.proto import epmd as protocol

HOST = "127.0.0.1"
CLIENTS_PER_ADDRESS = 64


class Client:
    """A blocking client of the EPMD, which a thread uses while the event loop is blocked."""

    def __init__(self, port, request=b"", source=HOST):
        self.socket = socket.create_connection((HOST, port), timeout=10, source_address=(source, 0))
        self.socket.sendall(request)

    def read_all(self):
        with self.socket:
            return b"".join(iter(lambda: self.socket.recv(1 << 16), b""))

    def registered(self):
        return protocol.decode_register_response(self.socket.recv(100))

    def close(self):
        self.socket.close()


def ask(port, request):
    return Client(port, request).read_all()


def names(port):
    return protocol.decode_names_response(ask(port, protocol.encode_names()))


def while_blocked(function, *arguments):
    """Return the result of a function that runs in a thread, while the event loop is blocked."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    blocked_while(thread.is_alive)
    return results[0]


def run_with_server(test, factory=asyncio.SelectorEventLoop, **limits):
    async def main():
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        server = EpmdServer(port, **limits)
        await server.start([HOST])
        node = FakeNode()
        watchdog = attach_watchdog(node)
        try:
            await test(server, port)
        finally:
            server.close()
            watchdog.detach(node)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def waiting(server):
    """Return the number of connections that the thread has accepted and not answered."""
    if native.module is None:
        return len(server._thread_clients)
    return watchdog_of_loop(server._loop).waiting_epmd_clients


async def register(port, name):
    client = await asyncio.to_thread(Client, port, protocol.encode_register(name, 9100))
    assert isinstance(await asyncio.to_thread(client.registered), protocol.Registered)
    return client


@on_every_loop
def test_look_ups_are_answered_while_the_loop_is_blocked(factory):
    async def test(_server, port):
        client = await register(port, "plato")

        assert while_blocked(names, port) == {"plato": 9100}
        info = protocol.decode_lookup_response(while_blocked(ask, port, protocol.encode_lookup("plato")))
        assert info.port == 9100
        assert while_blocked(ask, port, protocol.encode_lookup("nobody")) == bytes([protocol.PORT2_RESP, 1])
        client.close()

    run_with_server(test, factory)


@on_every_loop
def test_a_node_registers_while_the_loop_is_blocked_and_stays_registered(factory):
    async def test(server, port):
        def register_and_look():
            client = Client(port, protocol.encode_register("plato", 9100))
            assert isinstance(client.registered(), protocol.Registered)
            return client, names(port)

        client, seen = while_blocked(register_and_look)
        assert seen == {"plato": 9100}
        await wait_until(lambda: len(server._clients) == 1)
        assert await asyncio.to_thread(names, port) == {"plato": 9100}

        client.close()

        await wait_until(lambda: server.registry.names() == {})

    run_with_server(test, factory)


def test_a_registration_ends_with_its_connection_while_the_loop_is_blocked():
    async def test(server, port):
        def register_and_close():
            for _ in range(3):
                client = Client(port, protocol.encode_register("plato", 9100))
                assert isinstance(client.registered(), protocol.Registered)
                client.close()
                while names(port):
                    pass

        while_blocked(register_and_close)
        assert server.registry.names() == {}

    run_with_server(test)


def test_a_registration_of_a_taken_name_waits_for_the_loop():
    """The loop has not noticed yet that the first node has disconnected."""

    async def test(_server, port):
        first = await register(port, "plato")

        def restart():
            first.close()
            client = Client(port, protocol.encode_register("plato", 9200))
            names(port)  # the thread has served the client by then
            return client

        second = while_blocked(restart)
        assert isinstance(await asyncio.to_thread(second.registered), protocol.Registered)
        assert await asyncio.to_thread(names, port) == {"plato": 9200}
        second.close()

    run_with_server(test)


def test_a_name_that_is_really_taken_is_refused_when_the_loop_runs_again():
    async def test(_server, port):
        first = await register(port, "plato")
        second = while_blocked(lambda: (Client(port, protocol.encode_register("plato", 9200)), names(port)))[0]
        assert isinstance(await asyncio.to_thread(second.registered), protocol.NameTaken)
        for client in (first, second):
            client.close()

    run_with_server(test)


def test_the_loop_completes_requests_that_are_incomplete_when_it_runs_again():
    async def test(server, port):
        request = protocol.encode_names()
        client = while_blocked(lambda: (Client(port, request[:1]), names(port)))[0]
        await wait_until(lambda: len(server._clients) == 1)

        client.socket.sendall(request[1:])

        assert protocol.decode_names_response(await asyncio.to_thread(client.read_all)) == {}

    run_with_server(test)


def test_a_thread_accepts_a_bounded_number_of_silent_clients():
    async def test(server, port):
        clients = []

        def flood():
            clients.extend(Client(port) for _ in range(MAX_THREAD_CLIENTS + 10))
            while waiting(server) < MAX_THREAD_CLIENTS:
                pass

        while_blocked(flood)
        assert waiting(server) == MAX_THREAD_CLIENTS
        await wait_until(lambda: server.accepted == len(clients) and len(server._clients) == CLIENTS_PER_ADDRESS)
        for client in clients:
            client.close()
        await wait_until(lambda: not server._clients)

    run_with_server(test)


def test_silent_clients_of_one_address_take_no_places_of_others_and_none_of_registered_nodes():
    async def test(server, port):
        node = await register(port, "plato")
        other = await asyncio.to_thread(Client, port, b"", "127.0.0.2")
        await wait_until(lambda: len(server._clients) == 2)

        clients = [await asyncio.to_thread(Client, port) for _ in range(3 * CLIENTS_PER_ADDRESS)]
        await wait_until(lambda: server.accepted == len(clients) + 2)
        await wait_until(lambda: len(server._clients) == CLIENTS_PER_ADDRESS + 2)

        assert await asyncio.to_thread(names, port) == {"plato": 9100}
        other.socket.sendall(protocol.encode_names())
        assert protocol.decode_names_response(await asyncio.to_thread(other.read_all)) == {"plato": 9100}
        for client in (node, *clients):
            client.close()

    run_with_server(test)


def test_the_clients_of_all_addresses_together_are_limited():
    async def test(server, port):
        clients = [await asyncio.to_thread(Client, port, b"", f"127.0.0.{number}") for number in range(2, 12)]
        await wait_until(lambda: server.accepted == 10 and len(server._clients) == 4)

        assert clients[0].read_all() == b""
        for client in clients:
            client.close()

    run_with_server(test, client_limit=4)


def test_another_host_cannot_make_the_server_keep_a_long_request():
    client = protocol.ServerConnection(protocol.EpmdRegistry(4369), 0.0)
    client.is_local = False

    assert client.receive_data(b"\xff\xff" + bytes([protocol.Request.ALIVE2]), 4) == b""
    assert client.should_close


def test_an_epmd_that_starts_again_at_once_gives_another_creation():
    async def test(server, port):
        creations = []
        for _ in range(3):
            registry = EpmdServer(port, lambda: 1000.0)
            request = protocol.ServerConnection(registry.registry, 0.0)
            response = registry.receive_data(request, protocol.encode_register("plato", 9100))
            creations.append(protocol.decode_register_response(response).creation)
        assert len(set(creations)) == 3

    run_with_server(test)


def test_closing_ends_the_connections_of_the_thread():
    async def test(server, port):
        def register_one():
            client = Client(port, protocol.encode_register("plato", 9100))
            assert isinstance(client.registered(), protocol.Registered)
            return client

        client = while_blocked(register_one)
        server.close()

        assert client.read_all() == b""
        assert server.registry.names() == {}

    run_with_server(test)


def test_an_epmd_that_is_full_says_so_once_and_keeps_a_place_for_its_node(caplog):
    async def test(server, port):
        clients = [await register(port, f"n{number}") for number in range(4)]
        for _ in range(3):
            refused = await asyncio.to_thread(Client, port, protocol.encode_register("more", 9100))
            assert isinstance(await asyncio.to_thread(refused.registered), protocol.NameTaken)
            refused.close()
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
            f"EPMD on port {port} refuses new nodes"
        ]
        clients.append(await register(port, "own"))
        for client in clients:
            client.close()
        await wait_until(lambda: not server.registry.nodes)

    run_with_server(test, max_nodes=4, own_name="own")
