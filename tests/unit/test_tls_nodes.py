"""Two nodes that use TLS: what they exchange, whom they refuse, and what they say about it."""

import asyncio
import logging
import os
import socket
import ssl

import pytest
from tls_nodes import HOST, run, running

from certificates import Authority
from erlmesh import Atom, NodeConfig, NodeStartError
from erlmesh.proto.handshake_driver import HandshakeDriver
from erlmesh.testing.network import SimulatedNetwork
from polling import wait_until_async as wait_until


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
def foreign(tmp_path):
    return Authority(tmp_path / "foreign", "another CA")


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO, "erlmesh")
    return caplog


def trusting(authority, other, label, **options):
    """Files with a certificate of ``other``, and with the CA of ``authority``."""
    config = other.tls(label, HOST, **options)
    return type(config)(cert=config.cert, key=config.key, ca=authority.ca)


async def connect(ports, calling, called, **options):
    """Start two nodes and let one call the other. Return whether it worked, and why not."""
    async with (
        running(ports, "plato", called, **options) as plato,
        running(ports, "socrates", calling) as socrates,
    ):
        connected = await socrates.ping(plato.name)
        return connected, socrates.last_connect_error(plato.name)


SIZES = [0, 1, 100, 16_383, 16_384, 16_385, 70_000, 300_000, 5_000_000]


def test_messages_of_all_sizes_arrive_in_order_in_both_directions(authority):
    async def test(ports):
        tls = authority.tls("both", HOST)
        async with running(ports, "plato", tls) as plato, running(ports, "socrates", tls) as socrates:
            assert await socrates.ping(plato.name)
            received = {plato: [], socrates: []}
            for node, messages in received.items():
                node.spawn_handler(messages.append, name="sink")
            expected = [os.urandom(size) for size in SIZES] + list(range(5000))
            for node, other in ((socrates, plato), (plato, socrates)):
                for message in expected:
                    node.send((Atom("sink"), other.name), message)
            await wait_until(lambda: all(len(each) == len(expected) for each in received.values()))
            assert received[plato] == received[socrates] == expected

    run(test)


def test_senders_wait_while_the_peer_does_not_read(authority):
    async def test(ports):
        tls = authority.tls("both", HOST)
        async with running(ports, "plato", tls) as plato, running(ports, "socrates", tls) as socrates:
            assert await socrates.ping(plato.name)
            received = []
            plato.spawn_handler(lambda data: received.append(len(data)), name="sink")
            sent, most = [], []

            async def send(me):
                (connection,) = socrates.internals._instance.loop_monitor.connections()
                for _ in range(100):
                    me.send((Atom("sink"), plato.name), bytes(1 << 20))
                    most.append(connection._socket.queued)
                    await me.drain()
                    sent.append(1)

            socrates.spawn(send)
            await wait_until(lambda: len(received) == 100)
            assert max(most) < 8 << 20

    run(test)


def test_a_new_certificate_is_used_without_a_restart(authority):
    async def test(ports):
        tls = authority.tls("plato", "elsewhere.example")
        async with (
            running(ports, "plato", tls) as plato,
            running(ports, "socrates", authority.tls("socrates", HOST)) as socrates,
        ):
            assert not await socrates.ping(plato.name)
            authority.write("plato", HOST)
            assert await socrates.ping(plato.name)

    run(test)


# Refusals: (what the caller and the called have) -> what the caller is told, what the called logs.


def refused(test, log):
    """Run ``test``, which returns the result of ``connect``. Return the error of the caller and the log."""
    results = []

    async def main(ports):
        results.append(await test(ports))

    run(main)
    ((connected, error),) = results
    assert not connected
    return error, log.text


def test_a_called_node_with_an_expired_certificate_is_refused(authority, log):
    error, text = refused(
        lambda ports: connect(ports, authority.tls("s", HOST), authority.tls("p", HOST, expired=True)), log
    )

    assert "the certificate of the node has expired: renew it" in error
    assert "the peer refused the TLS connection: our certificate has expired: renew it" in text


def test_a_caller_with_an_expired_certificate_is_refused(authority, log):
    error, text = refused(
        lambda ports: connect(ports, authority.tls("s", HOST, expired=True), authority.tls("p", HOST)), log
    )

    assert "the node refused the TLS connection: our certificate has expired: renew it" in error
    assert "the certificate of the peer has expired: renew it" in text


def test_a_called_node_of_another_ca_is_refused(authority, foreign, log):
    error, text = refused(
        lambda ports: connect(ports, authority.tls("s", HOST), trusting(authority, foreign, "p")), log
    )

    assert "the certificate of the node is not signed by a CA that this node trusts" in error
    assert "our certificate is not signed by a CA that it trusts" in text


def test_a_caller_of_another_ca_is_refused(authority, foreign, log):
    error, text = refused(
        lambda ports: connect(ports, trusting(authority, foreign, "s"), authority.tls("p", HOST)), log
    )

    assert "our certificate is not signed by a CA that it trusts" in error
    assert "the certificate of the peer is not signed by a CA that this node trusts" in text


def test_a_called_node_with_the_certificate_of_another_host_is_refused(authority, log):
    error, text = refused(
        lambda ports: connect(ports, authority.tls("s", HOST), authority.tls("p", "10.0.0.9", "plato.example")), log
    )

    assert "the peer closed the connection right after the TLS handshake: it may not accept our certificate" in text
    assert "is for 10.0.0.9, plato.example, and not for 127.0.0.1, the host of its name" in error


def test_the_check_of_the_called_host_can_be_switched_off(authority):
    async def test(ports):
        tls = authority.tls("s", HOST, verify_host=False)
        assert await connect(ports, tls, authority.tls("p", "plato.example")) == (True, None)

    run(test)


def test_a_caller_may_have_the_certificate_of_another_host(authority):
    async def test(ports):
        assert await connect(ports, authority.tls("s", "plato.example"), authority.tls("p", HOST)) == (True, None)

    run(test)


@pytest.mark.parametrize("restriction", ["verify_caller_host", "allow"])
def test_a_caller_with_the_certificate_of_another_host_can_be_refused(authority, log, restriction):
    options = {"allow": [f"socrates@{HOST}"]} if restriction == "allow" else {}
    called = authority.tls("p", HOST, verify_caller_host=restriction == "verify_caller_host")

    error, text = refused(lambda ports: connect(ports, authority.tls("s", "s.example"), called, **options), log)

    assert "not_allowed" in error or "not allowed" in error
    assert "the certificate of the caller socrates@127.0.0.1 is for s.example, and not for 127.0.0.1" in text


def test_a_caller_with_the_right_certificate_passes_all_checks(authority):
    async def test(ports):
        called = authority.tls("p", HOST, verify_caller_host=True)
        assert await connect(ports, authority.tls("s", HOST), called, allow=[HOST]) == (True, None)

    run(test)


def test_a_caller_without_tls_is_refused(authority, log):
    error, text = refused(lambda ports: connect(ports, None, authority.tls("p", HOST)), log)

    assert "the peer speaks TLS, and this node does not: start both with TLS, or neither" in error
    assert "the peer does not speak TLS, and this node takes only TLS connections" in text


def test_a_called_node_without_tls_is_refused(authority, log):
    error, text = refused(lambda ports: connect(ports, authority.tls("s", HOST), None), log)

    assert "the node closed the connection during the TLS handshake: does it use TLS" in error
    assert "the peer speaks TLS, and this node does not" in text


def test_a_caller_without_a_certificate_is_refused(authority, log):
    async def test(ports):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(authority.ca)
        async with running(ports, "plato", authority.tls("p", HOST)) as plato:
            reader, writer = await asyncio.open_connection(HOST, plato.internals.port, ssl=context)
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                await reader.read()
            writer.close()
            await wait_until(lambda: "it has no certificate" in log.text)

    run(test)


@pytest.fixture
def short_limit(monkeypatch):
    """A handshake may take a quarter of a second."""
    monkeypatch.setitem(HandshakeDriver.__init__.__kwdefaults__, "timeout", 0.25)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01"])
def test_a_tls_handshake_has_the_time_of_the_whole_handshake(authority, log, short_limit, sent):
    async def test(ports):
        async with running(ports, "plato", authority.tls("p", HOST)) as plato:
            reader, writer = await asyncio.open_connection(HOST, plato.internals.port)
            writer.write(sent)
            assert await reader.read() == b""
            writer.close()
            await wait_until(lambda: "the TLS handshake did not end in time" in log.text)

    run(test)


def test_a_called_node_that_says_nothing_is_given_up(authority, short_limit):
    async def test(ports):
        silent = socket.create_server((HOST, 0))
        with silent:
            async with running(ports, "socrates", authority.tls("s", HOST)) as socrates:
                ports.silent["plato@127.0.0.1"] = silent.getsockname()[1]
                assert not await socrates.ping("plato@127.0.0.1")
                error = socrates.last_connect_error("plato@127.0.0.1")
                assert "the TLS handshake did not end in time: a node without TLS says nothing" in error

    run(test)


def test_connections_in_the_tls_handshake_count_for_the_limit_of_an_address(authority):
    async def test(ports):
        async with running(ports, "plato", authority.tls("p", HOST), handshakes_per_address=2) as plato:
            opened = [await asyncio.open_connection(HOST, plato.internals.port) for _ in range(3)]
            assert await opened[0][0].read() == b""  # the oldest
            for _, writer in opened:
                writer.close()

    run(test)


# Ends


async def connected_pair(ports, authority, action):
    tls = authority.tls("both", HOST)
    async with running(ports, "plato", tls) as plato, running(ports, "socrates", tls) as socrates:
        assert await socrates.ping(plato.name)
        (connection,) = socrates.internals._instance.loop_monitor.connections()
        await action(plato, socrates, connection)
        await wait_until(lambda: not plato.nodes() and not socrates.nodes())
        assert await socrates.ping(plato.name)


def test_a_stream_that_ends_without_close_notify_is_a_lost_connection(authority, log):
    async def shut_down(plato, socrates, connection):
        with socket.socket(fileno=os.dup(connection._socket.fd)) as duplicate:
            duplicate.shutdown(socket.SHUT_WR)

    run(lambda ports: connected_pair(ports, authority, shut_down))

    assert "lost socrates@127.0.0.1: the connection was closed" in log.text


def test_an_invalid_record_ends_the_connection(authority, log):
    async def write_garbage(plato, socrates, connection):
        os.write(connection._socket.fd, bytes.fromhex("1703030020") + bytes(32))

    run(lambda ports: connected_pair(ports, authority, write_garbage))

    assert "lost socrates@127.0.0.1: the connection broke: TLS reports" in log.text


def test_plain_text_inside_the_stream_ends_the_connection(authority, log):
    async def write_frame(plato, socrates, connection):
        os.write(connection._socket.fd, b"\0\0\0\0" * 10)

    run(lambda ports: connected_pair(ports, authority, write_frame))

    assert "the connection broke: TLS reports" in log.text


def test_a_node_that_stops_tells_the_peer(authority, log):
    async def disconnect(plato, socrates, connection):
        socrates.disconnect(plato.name)

    run(lambda ports: connected_pair(ports, authority, disconnect))

    assert "the connection broke" not in log.text


def test_a_simulated_network_has_no_tls(authority):
    with pytest.raises(ValueError, match="tls needs a real network"):
        NodeConfig("plato@h", cookie="monster", tls=authority.tls("p", HOST), network=SimulatedNetwork())


def test_a_node_says_at_the_start_that_others_will_refuse_its_certificate(authority, log):
    async def test(ports):
        async with running(ports, "plato", authority.tls("p", HOST, expired=True)):
            pass

    run(test)

    assert "this node's TLS certificate has expired" in log.text


def test_a_node_without_its_files_does_not_start(authority):
    async def test(ports):
        tls = authority.tls("p", HOST)
        tls.key.unlink()
        with pytest.raises(NodeStartError, match=r"p\.key does not exist"):
            async with running(ports, "plato", tls):
                pass

    run(test)
