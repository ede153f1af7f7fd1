"""Malformed input to ``erlmesh start`` and to a BEAM: it may close its own connection and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import socket
import struct
import time
from pathlib import Path

import pytest

from erlmesh.core import gen
from erlmesh.errors import ErlmeshError
from erlmesh.etf import encode_term
from erlmesh.proto import epmd
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.control import SendName
from erlmesh.proto.flags import OFFERED
from erlmesh.proto.handshake import LocalNode, initiate
from erlmesh.proto.handshake_driver import HandshakeDriver
from erlmesh.proto.ops import Op
from erlmesh.terms import Atom, Pid, Ref
from malformed import DEEP, framed, malformed_packets
from polling import wait_until
from test_conformance_otp import COOKIE, erlmesh
from test_proto_otp import LOCAL_NAME, ME, ProtocolPeer, ask_epmd

NAME = "socrates@127.0.0.1"
PAGE = os.sysconf("SC_PAGE_SIZE")


class HostilePeerHarness:
    """A bystander BEAM that must see no effect, a node under test, and raw nodes that send malformed input to it."""

    def __init__(self, cluster, subject, closing):
        self.subject, self._closing, self._port = subject, closing, cluster.epmd_port
        self.names = (f"guest{number}@127.0.0.1" for number in itertools.count())
        self.bystander = cluster.beam("good", cookie=COOKIE)
        assert self.bystander.ping(subject)
        self.victim = self.bystander.eval(
            "V = spawn(N, timer, sleep, [infinity]), monitor(process, V), V", N=Atom(subject)
        )

    def port(self):
        alive = self.subject.partition("@")[0]
        return epmd.decode_lookup_response(ask_epmd(self._port, epmd.encode_lookup(alive))).port

    def socket(self):
        return self._closing(socket.create_connection(("127.0.0.1", self.port()), 15))

    def raw_node(self, cookie=COOKIE):
        """Connect under the name whose pid is ME. Each new connection replaces the one before."""
        us = LocalNode(LOCAL_NAME, 77, lambda _: cookie, lambda: secrets.randbits(32), set(), OFFERED)
        return ProtocolPeer(
            self.socket(), HandshakeDriver(initiate(us, self.subject, lambda: True), now=time.monotonic())
        )

    def survives(self, *frames, patience=0.0):
        """True if the connection that sends ``frames`` stays open: at once, and for ``patience`` seconds."""
        guest = self.raw_node()
        with contextlib.closing(guest.socket):
            ref = Ref(Atom(LOCAL_NAME), 77, (secrets.randbits(18), 5, 5))
            with contextlib.suppress(ConnectionError):
                for frame in frames:
                    guest.socket.sendall(struct.pack(">I", len(frame)) + frame)
                guest.send_signals(
                    SendName(ME, Atom("net_kernel"), (gen.GEN_CALL, (ME, ref), (Atom("is_auth"), Atom(LOCAL_NAME))))
                )
            try:
                while guest.next_message() != (ref, Atom("yes")):
                    pass
            except (AssertionError, ConnectionError):
                return False
            with contextlib.suppress(TimeoutError, BlockingIOError):
                guest.socket.settimeout(patience)
                while guest.socket.recv(65536):
                    pass
                return False
            return True

    def assert_unharmed(self):
        assert self.bystander.eval("receive {'DOWN', _, _, V, _} -> dead after 0 -> nobody_died end") == Atom(
            "nobody_died"
        )
        assert self.bystander.eval("{rpc:call(N, erlang, is_process_alive, [V]), nodes()}")[0] is True


@pytest.fixture
def closing():
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def node(cluster):
    return erlmesh(cluster, "socrates", "--verbose")


@pytest.fixture
def harness(cluster, node, closing):
    return HostilePeerHarness(cluster, NAME, closing)


class RestartingBeam:
    """A BEAM as the node under test. It is restarted if the input crashes it: some fragments crash OTP 25."""

    def __init__(self, cluster, closing, otp):
        self._cluster, self._closing, self._otp = cluster, closing, otp
        self._start()

    def _start(self):
        self._beam = self._cluster.beam("plato", otp=self._otp, cookie=COOKIE)
        self._harness = HostilePeerHarness.__new__(HostilePeerHarness)
        self._harness.subject, self._harness._closing, self._harness._port = (
            self._beam.name,
            self._closing,
            self._cluster.epmd_port,
        )
        self.victim = self._beam.eval("Loop = fun Loop() -> receive _ -> Loop() end end, spawn(Loop)")

    def survives(self, what):
        if not self._beam.is_running():
            self._start()
        try:
            return self._harness.survives(*malformed_packets(self.victim)[what], patience=CLOSE_TIMEOUT)
        except (ConnectionError, AttributeError):
            self._beam.wait()
            self._start()
            return self._harness.survives(*malformed_packets(self.victim)[what], patience=CLOSE_TIMEOUT)


CLOSE_TIMEOUT = 1.0
"""Seconds: a BEAM decodes a message only when the receiver takes it, possibly after it has answered our check."""
EXPECTED_DIFFERENCES = (
    f"({Op.SPAWN_REQUEST},",
    f"({Op.UNLINK_ID_ACK}, 0,",
    "fragments: number 0",
    "message: a reference of none",
)
"""Where erlmesh is stricter than a BEAM: the requester of a process must be on the node that asks, the number of
arguments must match, and some numbers are checked that a BEAM ignores.
"""


def test_invalid_input_closes_a_link_where_a_beam_closes_it_and_has_no_other_effect(
    cluster, harness, node, closing, otp
):
    beam = RestartingBeam(cluster, closing, otp)

    with_us = {what: harness.survives(*frames) for what, frames in malformed_packets(harness.victim).items()}
    harness.assert_unharmed()
    assert not node.logged("Traceback")
    assert not node.logged("ERROR")
    stricter = [what for what, lives in with_us.items() if not lives and not what.startswith(EXPECTED_DIFFERENCES)]
    stricter = [what for what in stricter if beam.survives(what)]

    assert not stricter, "\n".join(stricter)
    lenient = [what for what, lives in with_us.items() if lives]
    assert len(with_us) - len(lenient) > 200


def send_packet(connection, packet):
    """A packet of the handshake."""
    connection.sendall(struct.pack(">H", len(packet)) + packet)


def receive_packet(connection):
    """The next packet of the handshake, or b"" if the other side has closed."""
    connection.settimeout(15)
    with contextlib.suppress(ConnectionError), connection.makefile("rb", buffering=0) as stream:
        if size := stream.read(2):
            return stream.read(int.from_bytes(size, "big"))
    return b""


def resident(process):
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * PAGE


def closed_after(connection, seconds):
    """Seconds until the other side closes. Fails after ``seconds``."""
    started = time.monotonic()
    connection.settimeout(seconds)
    with contextlib.suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return time.monotonic() - started


def test_a_slow_handshake_times_out_in_seven_seconds_and_silent_clients_block_no_node(cluster, harness):
    silent = [harness.socket() for _ in range(300)]
    trickle = harness.socket()
    trickle.sendall(b"\x00\x30N" + bytes(5))

    took = min(
        harness.bystander.eval(
            "erlang:disconnect_node(N), element(1, timer:tc(net_kernel, connect_node, [N]))", N=Atom(NAME)
        )
        for _ in range(5)
    )

    assert took < 100_000
    assert 1.0 < closed_after(trickle, 10.0) < 8.0
    assert all(closed_after(each, 8.0) < 8.0 for each in silent)
    assert harness.bystander.ping(NAME)


def test_a_client_without_the_cookie_cannot_replace_a_connected_node(harness, node):
    harness.bystander.eval("net_kernel:monitor_nodes(true)")
    us = LocalNode(harness.bystander.name, 5, lambda _: "guess", lambda: secrets.randbits(32), set(), OFFERED)

    with contextlib.suppress(ErlmeshError):
        ProtocolPeer(harness.socket(), HandshakeDriver(initiate(us, NAME, lambda: True), now=time.monotonic()))

    harness.assert_unharmed()
    assert harness.bystander.eval("receive {nodedown, _} -> down after 0 -> up end") == Atom("up")
    wait_until(lambda: node.logged("rejected"))


def test_a_reflected_challenge_is_not_answered(harness, closing, epmd_port):
    """A mirror attack: the challenge for our connection is sent back to the node on its own connection."""
    listener = closing(socket.create_server(("127.0.0.1", 0)))
    registration = closing(socket.create_connection(("127.0.0.1", epmd_port), 15))
    registration.sendall(epmd.encode_register("mirror", listener.getsockname()[1]))
    assert isinstance(epmd.decode_register_response(registration.recv(64)), epmd.Registered)
    calling = harness.socket()
    send_packet(calling, packets.encode_name(OFFERED, 5, "other@127.0.0.1"))
    assert receive_packet(calling) == b"sok"
    _, challenge, _, _ = packets.decode_challenge(receive_packet(calling))

    harness.bystander.eval("K = rpc:async_call(N, net_kernel, connect_node, ['mirror@127.0.0.1'])", N=Atom(NAME))
    called = closing(listener.accept()[0])
    assert packets.decode_name(receive_packet(called))[2] == NAME
    send_packet(called, b"sok")
    send_packet(called, packets.encode_challenge(OFFERED, challenge, 5, "mirror@127.0.0.1"))

    assert receive_packet(called) == b""
    assert harness.bystander.eval("rpc:yield(K)") is False
    harness.assert_unharmed()


def test_a_term_a_million_levels_deep_is_read_or_refused_and_its_memory_is_freed(harness, node):
    nobody = Pid(harness.victim.node, 32000, 0, harness.victim.creation)
    before = resident(node)

    harness.survives(framed((Op.SEND_SENDER, ME, nobody), DEEP))

    harness.assert_unharmed()
    wait_until(lambda: resident(node) - before < 64 << 20)  # decoding it takes 130 MB


def test_the_memory_of_a_flood_of_atoms_is_freed(harness, node):
    flood = """
        Flood = fun(From) -> [erpc:call(N, erlang, hd, [[[list_to_atom("flood" ++ integer_to_list(I * 1000 + J))
                              || J <- lists:seq(1, 1000)]]]) || I <- lists:seq(From, From + 49)], ok end
    """
    harness.bystander.eval(flood, N=Atom(NAME))
    harness.bystander.eval("Flood(0)", timeout=60)
    before = resident(node)

    for begin in (100, 200, 300):
        harness.bystander.eval("Flood(From)", From=begin, timeout=60)

    assert resident(node) - before < 8 << 20
    harness.assert_unharmed()


def test_thousands_of_unfinished_messages_close_their_link_and_their_memory_is_freed(harness, node):
    before = resident(node)
    head = encode_term((Op.SEND_SENDER, ME, harness.victim))

    lives = harness.survives(
        *(b"\x83E" + struct.pack(">QQ", number, 9) + b"\x00" + head + bytes(1000) for number in range(1, 6000))
    )

    assert not lives
    harness.assert_unharmed()
    assert resident(node) - before < 16 << 20
