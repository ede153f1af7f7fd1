"""Listening, dialling and resolving addresses on the loopback interface."""

import asyncio
import importlib.util
import socket

import pytest

from erlmesh.errors import ConnectError, NodeStartError
from erlmesh.net.network import TcpNetwork, addresses_of_name, addresses_to_listen_on


def listening(hosts, ports=(0,)):
    async def main():
        listener = await TcpNetwork().listen(hosts, ports, asyncio.Protocol)
        try:
            reached = []
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family) as probe:
                    if probe.connect_ex((address, listener.port)) == 0:
                        reached.append(address)
            return listener.port, reached
        finally:
            listener.close()

    return asyncio.run(main())


@pytest.mark.parametrize("hosts", [None, ["127.0.0.1", "::1"], ["::1", "127.0.0.1"]])
def test_all_addresses_listen_on_the_same_port(hosts):
    for _ in range(5):
        port, reached = listening(hosts)

        assert port > 0
        assert reached == ["127.0.0.1", "::1"]


def test_the_first_free_port_is_used_and_the_error_lists_all_ports():
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [first.getsockname()[1], second.getsockname()[1]]
        assert listening(["127.0.0.1"], [taken[0], 0])[0] not in taken

        with pytest.raises(NodeStartError, match=f"ports {taken[0]}, {taken[1]} taken"):
            listening(["127.0.0.1"], taken)


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        (["192.0.2.1"], "192.0.2.1 is not an address of this machine"),
        (["no-such.invalid"], "cannot be resolved"),
        ([], "no address"),
    ],
)
def test_listening_on_a_foreign_address_is_refused(hosts, text):
    with pytest.raises(NodeStartError, match=text):
        asyncio.run(addresses_to_listen_on(hosts))


def test_a_name_of_another_machine_means_all_interfaces():
    assert asyncio.run(addresses_of_name("192.0.2.1")) is None
    assert asyncio.run(addresses_of_name("127.0.0.1")) == ["127.0.0.1"]
    assert asyncio.run(addresses_of_name("no-such.invalid", needed=False)) is None
    with pytest.raises(NodeStartError, match=r"no-such\.invalid"):
        asyncio.run(addresses_of_name("no-such.invalid"))
    assert asyncio.run(addresses_to_listen_on(["127.0.0.1", "*"])) is None


def test_dialling_a_closed_port_gives_a_connect_error():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with pytest.raises(ConnectError, match=f"nothing listens on port {port} of 127.0.0.1"):
        asyncio.run(TcpNetwork().dial("127.0.0.1", port, asyncio.Protocol))


def event_loops():
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    if importlib.util.find_spec("uvloop"):
        import uvloop

        uvloop.new_event_loop().close()  # libuv's first loop opens a pipe for signals that is never closed: not a leak
        yield pytest.param(uvloop.new_event_loop, id="uvloop")


@pytest.mark.parametrize("new_loop", list(event_loops()))
def test_a_dialled_connection_sends_small_packets_at_once(new_loop):
    class Client(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

    async def main():
        client, network = Client(), TcpNetwork()
        listener = await network.listen(["127.0.0.1"], [0], asyncio.Protocol)
        await network.dial("localhost", listener.port, lambda: client)
        nodelay = client.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.transport.abort()
        listener.close()
        await asyncio.sleep(0)
        return nodelay

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) == 1


def test_a_protocol_that_cannot_be_made_closes_the_connection():
    def fail():
        raise KeyError("x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(KeyError):
            asyncio.run(TcpNetwork().dial("127.0.0.1", server.getsockname()[1], fail))

        with server.accept()[0] as accepted:
            assert accepted.recv(1) == b""
