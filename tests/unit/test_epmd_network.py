"""A node's EPMD on real sockets: where it listens, and what the relay at another address passes on."""

import asyncio
import socket

import pytest
from test_dist_socket import wait_until

from erlmesh.errors import NodeStartError, RemoteProtocolError
from erlmesh.net.epmd import Epmd, configured_addresses, registered_names
from erlmesh.net.epmd_relay import EpmdRelay
from erlmesh.proto import epmd as protocol

HOST, OTHER = "127.0.0.1", "127.0.0.2"


def free_port():
    with socket.create_server((HOST, 0)) as free:
        return free.getsockname()[1]


def ask(host, port, request, source=HOST):
    with socket.create_connection((host, port), timeout=10, source_address=(source, 0)) as client:
        try:
            client.sendall(request)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))
        except ConnectionError:
            return b""


def request(body):
    return len(body).to_bytes(2, "big") + body


LOOK_UP = protocol.encode_lookup("plato")


@pytest.mark.parametrize("extra", [b"", b"d", b"more bytes of another request"])
def test_a_look_up_and_a_list_are_made_anew(extra):
    assert protocol.remake_request(LOOK_UP + extra) == LOOK_UP
    assert protocol.remake_request(protocol.encode_names() + extra) == protocol.encode_names()
    assert protocol.remake_request(LOOK_UP[:-1]) is None
    assert protocol.remake_request(b"") is None


@pytest.mark.parametrize(
    "body",
    [
        b"d",
        b"k",
        b"s",
        b"splato",
        b"x" + bytes(20),
        b"n more",
        b"z",
        b"zpl\0ato",
        b"z\x1b[2J",
        b"z\xff",
        b"z" + bytes(300),
    ],
)
def test_no_other_request_is_passed_on(body):
    with pytest.raises(RemoteProtocolError):
        protocol.remake_request(request(body))


def run_with_relay(test, **limits):
    async def main():
        asked, port = [], free_port()

        async def answer(request):
            asked.append(request)
            return b"response"

        relay = EpmdRelay(port, answer, **{"client_limit": 100, "clients_per_address": 100, **limits})
        await relay.listen(HOST)
        try:
            await test(relay, port, asked)
        finally:
            relay.close()
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_the_relay_passes_on_look_ups_only():
    async def test(_relay, port, asked):
        assert await asyncio.to_thread(ask, HOST, port, LOOK_UP) == b"response"
        assert await asyncio.to_thread(ask, HOST, port, protocol.encode_register("plato", 9100)) == b""
        for command in (b"d", b"k", b"splato"):
            assert await asyncio.to_thread(ask, HOST, port, request(command)) == b""
        assert asked == [LOOK_UP]

    run_with_relay(test)


def test_silent_clients_of_the_relay_are_limited():
    async def test(relay, port, _asked):
        silent = [socket.create_connection((HOST, port)) for _ in range(10)]
        await wait_until(lambda: len(relay.clients) == 3)

        assert await asyncio.to_thread(ask, HOST, port, LOOK_UP, OTHER) == b"response"
        for client in silent:
            client.close()

    run_with_relay(test, clients_per_address=3)


def test_the_names_of_an_epmd_are_checked():
    good = b"name plato at port 9100\n"
    bad = [
        b"name %b at port 9100\n" % name
        for name in (b"\x1b[2Jplato", b"a" * 250 + b"@bcdefg", "a\u202eb".encode(), b"a@b")
    ]
    bad += [b"name plato at port 99999999999999999999\n", b"nonsense\n", b"name x at port -1\n"]

    names = protocol.decode_names_response(bytes(4) + b"".join([*bad, good]))

    assert names == {"plato": 9100}
    assert names.invalid == len(bad)


# ERL_EPMD_ADDRESS


@pytest.mark.parametrize(
    ("value", "addresses"),
    [("", None), (" ", None), ("127.0.0.3", [HOST, "127.0.0.3"]), ("127.0.0.1, ::1,", [HOST, "::1"])],
)
def test_the_addresses_of_the_environment_are_read_as_otp_reads_them(monkeypatch, value, addresses):
    monkeypatch.setenv("ERL_EPMD_ADDRESS", value)

    assert configured_addresses() == addresses


def test_a_wrong_address_in_the_environment_is_reported(monkeypatch):
    monkeypatch.setenv("ERL_EPMD_ADDRESS", "localhost")

    with pytest.raises(NodeStartError, match="ERL_EPMD_ADDRESS contains 'localhost'"):
        configured_addresses()


def listens(host, port):
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("hosts", [None, ["127.0.0.4"]])
@pytest.mark.parametrize(
    ("value", "open_at"),
    [("", {HOST, OTHER, "127.0.0.4"}), (OTHER, {HOST, OTHER}), (HOST, {HOST}), ("0.0.0.0", {HOST, OTHER, "127.0.0.4"})],
)
def test_the_embedded_epmd_and_its_relay_listen_only_where_they_may(monkeypatch, value, open_at, hosts):
    monkeypatch.setenv("ERL_EPMD_ADDRESS", value)
    if hosts is not None and not value:  # EPMD listens on 127.0.0.1, the relay at the address of the name
        open_at = {HOST, "127.0.0.4"}

    async def main():
        port = free_port()
        epmd = Epmd(port)
        await epmd.register("plato", 9100, hosts=hosts, hidden=False)
        try:
            assert {host for host in (HOST, OTHER, "127.0.0.4") if listens(host, port)} == open_at
            assert await registered_names(HOST, port) == {"plato": 9100}
        finally:
            await epmd.close()
            await asyncio.sleep(0.01)

    asyncio.run(main())
