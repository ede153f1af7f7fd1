"""The protocol machines alone, on blocking sockets, connected to a real node."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh.errors import HandshakeRefused
from erlmesh.proto import epmd
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.control import (
    Demonitor,
    Down,
    ExitLink,
    ExitSend,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    Unlink,
    UnlinkAck,
)
from erlmesh.proto.flags import HIDDEN, OFFERED, Flags
from erlmesh.proto.handshake import HandshakeCompleted, LocalNode, Status, accept, initiate
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed
from erlmesh.terms import Atom, Pid, Ref

LOCAL_NAME, CREATION = "python@127.0.0.1", 77
ME = Pid(Atom(LOCAL_NAME), 1, 0, CREATION)
WAIT = 40.0
FRAMINGS = {
    "both": OFFERED,
    "fragments": OFFERED & ~Flags.DIST_HDR_ATOM_CACHE,
    "cache": OFFERED & ~Flags.FRAGMENTS,
    "pass-through": OFFERED & ~Flags.FRAGMENTS & ~Flags.DIST_HDR_ATOM_CACHE,
    "hidden": HIDDEN,
    "old words": OFFERED & ~(Flags.SEND_SENDER | Flags.EXIT_PAYLOAD),
}
ECHO = """
Echo = spawn(fun Loop() -> receive {From, Message} -> From ! {self(), Message}, Loop() end end),
register(echo, Echo), Echo
"""


class ProtocolPeer:
    """A node that is only a protocol. It sends signals, and receives them in order."""

    def __init__(self, connection, handshake):
        self.socket, self.received = connection, []
        connection.settimeout(WAIT)
        while not (events := self._run_handshake(handshake)):
            pass
        if isinstance(events[0], HandshakeFailed):
            connection.close()
            raise events[0].error
        self.handshake_result = events[0]
        self.channel = Channel(
            self.handshake_result.name, LOCAL_NAME, self.handshake_result.flags, now=time.monotonic()
        )
        self._feed(handshake.trailing_data)

    def _run_handshake(self, handshake):
        self.socket.sendall(handshake.data_to_send())
        data = self.socket.recv(65536)
        events = handshake.receive_data(data, time.monotonic()) if data else handshake.receive_eof()
        self.socket.sendall(handshake.data_to_send())
        return events

    def _feed(self, data):
        self.received += self.channel.receive_data(data, time.monotonic())

    def send_signals(self, *signals):
        for signal in signals:
            self.channel.send(signal)
        self.socket.sendall(self.channel.data_to_send(time.monotonic()))

    def next_signal(self, kind, which=lambda _signal: True):
        """The next signal of that kind. Other signals are dropped."""
        while True:
            while self.received:
                signal = self.received.pop(0)
                assert not isinstance(signal, ConnectionLost), signal
                if isinstance(signal, kind) and which(signal):
                    return signal
            data = self.socket.recv(1 << 20)
            assert data, "the peer closed the connection"
            self._feed(data)

    def next_message(self):
        return self.next_signal(Send, lambda signal: signal.to == ME).message

    def wait_closed(self):
        while data := self.socket.recv(65536):
            self._feed(data)


def me(cookie="monster", flags=OFFERED):
    return LocalNode(LOCAL_NAME, CREATION, lambda _: cookie, lambda: time.monotonic_ns() & 0xFFFFFFFF, set(), flags)


def ask_epmd(port, request):
    with socket.create_connection(("127.0.0.1", port), WAIT) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(4096):
            answer += data
    return answer


@pytest.fixture
def plato(beam, otp):
    return beam("plato", otp=otp)


@pytest.fixture
def closing():
    """Everything that a test opens is closed when it ends."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def dial(epmd_port, closing):
    """``dial(node)`` connects to it. ``called`` gives another name for it."""

    def dial(node, *, called=None, **options):
        where = epmd.decode_lookup_response(ask_epmd(epmd_port, epmd.encode_lookup(node.name.partition("@")[0])))
        connection = closing(socket.create_connection(("127.0.0.1", where.port), WAIT))
        conversation = initiate(me(**options), called or node.name, lambda: True)
        return ProtocolPeer(connection, HandshakeDriver(conversation, now=time.monotonic()))

    return dial


@pytest.fixture
def listen(epmd_port, closing):
    """``listen()`` registers us in EPMD, and returns a function that accepts the next connection."""

    def listen():
        server, registration = closing(socket.create_server(("127.0.0.1", 0))), closing(socket.socket())
        for each in (server, registration):
            each.settimeout(WAIT)
        registration.connect(("127.0.0.1", epmd_port))
        registration.sendall(epmd.encode_register("python", server.getsockname()[1]))
        assert isinstance(epmd.decode_register_response(registration.recv(64)), epmd.Registered)

        def answered(**options):
            connection = closing(server.accept()[0])
            conversation = accept(me(**options), lambda *_: Status.OK)
            return ProtocolPeer(connection, HandshakeDriver(conversation, now=time.monotonic()))

        return answered

    return listen


@pytest.mark.parametrize("framing", FRAMINGS)
def test_terms_are_echoed_to_us(plato, dial, framing):
    echo = plato.eval(ECHO)
    peer = dial(plato, flags=FRAMINGS[framing])
    messages = [(Atom(f"atom{number % 9}"), number, [ME, echo], "ж" * number, True) for number in range(100)]
    messages += [Atom("ж" * 255), (Atom("x" * 255), Atom("ж" * 200)), 1 << 70, -1.5, [], (), b"", [1, 2, 3]]

    for message in messages:
        peer.send_signals(Send(ME, echo, (ME, message)), SendName(ME, Atom("echo"), (ME, message)))

    for message in messages:
        sent = (
            tuple(part.encode() if isinstance(part, str) else part for part in message)
            if isinstance(message, tuple)
            else message
        )
        assert peer.next_message() == (echo, sent)
        assert peer.next_message() == (echo, sent)


def test_more_atoms_than_the_atom_caches_hold_arrive(plato, dial):
    echo = plato.eval(ECHO)
    peer = dial(plato)
    names = [Atom(f"a_rather_unique_atom_{number}") for number in range(5000)]
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(lambda: [peer.next_message() for _ in names])

        for name in names:
            peer.send_signals(Send(ME, echo, (ME, name)))

        assert heard.result(60) == [(echo, name) for name in names]


@pytest.mark.parametrize("framing", ["both", "fragments", "cache", "pass-through"])
def test_long_messages_are_echoed_unchanged(plato, dial, framing):
    echo = plato.eval(ECHO)
    peer = dial(plato, flags=FRAMINGS[framing])
    for message in [b"\x07" * 65_536, (Atom("first_seen_in_a_long_one"), b"\x08" * 200_000), b"\x09" * 3_000_000]:
        peer.send_signals(Send(ME, echo, (ME, message)))

        assert peer.next_message() == (echo, message)


def test_long_messages_of_several_senders_are_kept_apart(plato, dial):
    peer = dial(plato)
    plato.eval(
        "[spawn(fun() -> [To ! {N, I, binary:copy(<<N>>, 150000)} || I <- [1, 2, 3]] end) || N <- [1, 2, 3, 4]]", To=ME
    )

    heard = [peer.next_message() for _ in range(12)]

    for sender in (1, 2, 3, 4):
        assert [index for number, index, _ in heard if number == sender] == [1, 2, 3]
    assert all(data == bytes([number]) * 150_000 for number, _, data in heard)


@pytest.mark.parametrize("framing", ["both", "old words"])
def test_monitors_and_links_work_with_a_real_node(plato, dial, framing):
    peer = dial(plato, flags=FRAMINGS[framing])
    ref, other = (Ref(Atom(LOCAL_NAME), CREATION, (number, 0, 0)) for number in (1, 2))
    peer.send_signals(Monitor(ME, Atom("nobody"), ref))
    assert peer.next_signal(Down) == Down(Atom("nobody"), ME, ref, Atom("noproc"))

    victim = plato.eval("spawn(fun() -> receive after infinity -> ok end end)")
    peer.send_signals(
        Monitor(ME, victim, ref), Monitor(ME, victim, other), Demonitor(ME, victim, other), Link(ME, victim)
    )
    peer.send_signals(ExitSend(ME, victim, Atom("kill")))

    assert peer.next_signal(ExitLink) == ExitLink(victim, ME, Atom("killed"))
    assert peer.next_signal(Down) == Down(victim, ME, ref, Atom("killed"))


@pytest.mark.otps(25, 27, 29)
def test_a_node_acknowledges_our_unlink(plato, dial):
    peer = dial(plato)
    victim = plato.eval("spawn(fun() -> receive after infinity -> ok end end)")

    peer.send_signals(Link(ME, victim), Unlink(9, ME, victim))

    assert peer.next_signal(UnlinkAck) == UnlinkAck(9, victim, ME)


@pytest.mark.otps(25, 27, 29)
def test_a_message_to_an_alias_arrives(plato, dial):
    peer = dial(plato)
    caller = plato.eval("spawn(fun() -> A = alias(), To ! {ask, A}, receive X -> To ! {got, X} end end)", To=ME)
    _, alias = peer.next_message()

    peer.send_signals(SendAlias(ME, alias, b"answer"))

    assert peer.next_signal(Send, lambda signal: signal.to == ME) == Send(caller, ME, (Atom("got"), b"answer"))


def test_a_node_can_connect_to_us(plato, listen):
    answered = listen()
    with ThreadPoolExecutor(1) as pool:
        connected = pool.submit(plato.eval, "net_kernel:connect_node('python@127.0.0.1')")
        peer = answered()

        assert connected.result(WAIT) is True
    assert peer.handshake_result == HandshakeCompleted(
        plato.name,
        OFFERED & peer.handshake_result.peer_flags,
        peer.handshake_result.peer_flags,
        peer.handshake_result.creation,
    )
    assert plato.nodes() == {LOCAL_NAME}
    plato.eval("Me = self(), spawn(fun() -> To ! {hello, Me} end)", To=ME)
    assert peer.next_message()[0] == Atom("hello")


def test_an_incoming_connection_with_another_cookie_is_refused(plato, listen):
    answered = listen()
    with ThreadPoolExecutor(1) as pool:
        connected = pool.submit(plato.eval, "net_kernel:connect_node('python@127.0.0.1')")

        with pytest.raises(HandshakeRefused, match="cookies differ"):
            answered(cookie="other")
        assert connected.result(WAIT) is False


def test_the_error_for_a_wrong_cookie_names_the_cookies(plato, dial):
    with pytest.raises(HandshakeRefused, match="the cookies probably differ"):
        dial(plato, cookie="other")


def test_a_node_that_answers_with_another_name_is_refused(plato, dial):
    with pytest.raises(HandshakeRefused, match=r"plato@127.0.0.1, not plato@localhost"):
        dial(plato, called="plato@localhost")


def test_a_handshake_without_mandatory_flags_is_refused(plato, dial):
    with pytest.raises(HandshakeRefused, match="not_allowed"):
        dial(plato, flags=OFFERED & ~(Flags.UTF8_ATOMS | Flags.MANDATORY_25_DIGEST))


@pytest.mark.otps(25, 27, 29)  # 23 says "alive", and then keeps the first all the same
def test_a_second_connection_of_ours_replaces_the_first(plato, dial):
    first = dial(plato)

    second = dial(plato)

    first.wait_closed()
    echo = plato.eval(ECHO)
    second.send_signals(Send(ME, echo, (ME, 1)))
    assert second.next_message() == (echo, 1)
