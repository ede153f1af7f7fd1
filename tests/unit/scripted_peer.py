"""A node at the end of a real connection. The test decides what it answers to each signal."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from erlmesh.core import gen
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.control import Down, Monitor, Send, SendAlias, SendName
from erlmesh.proto.handshake import LocalNode, Status, accept
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed
from erlmesh.terms import Atom, Pid, Ref

COOKIE = "monster"


class PeerConnection:
    """One connection of a node to the peer. Its thread reads; the test may send from its own thread."""

    def __init__(self, peer, sock):
        self.peer = peer
        self.sock = sock
        self.name = ""
        self.signals = []
        """All signals received, in order."""
        self.reading = threading.Event()
        self.reading.set()
        self.lost = False
        self._lock = threading.Lock()
        self._channel = None

    def run(self):
        with self.sock:
            with contextlib.suppress(OSError):
                if self._shake_hands():
                    self._serve()
            self.lost = True

    def _shake_hands(self):
        local = LocalNode(self.peer.name, 7, lambda _: COOKIE, lambda: 12345, set())
        driver = HandshakeDriver(accept(local, self.peer.decide), now=time.monotonic())
        while True:
            data = self.sock.recv(1 << 16)
            events = driver.receive_data(data, time.monotonic()) if data else driver.receive_eof()
            completed = bool(events) and not isinstance(events[0], HandshakeFailed)
            if completed:
                self.name = events[0].name
                self._channel = Channel(
                    self.name,
                    self.peer.name,
                    events[0].flags,
                    now=time.monotonic(),
                    net_ticktime=self.peer.net_ticktime,
                )
                self.peer.connections.append(self)  # before the other side learns that it is connected
            self.sock.sendall(driver.data_to_send())
            if completed:
                self._handle(driver.trailing_data)
                return True
            if not data or events:
                return False

    def _serve(self):
        while True:
            self.reading.wait()
            self.sock.settimeout(max(0.01, self._channel.next_deadline() - time.monotonic()))
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                data = None
            with self._lock:
                if data == b"" or any(
                    isinstance(each, ConnectionLost) for each in self._channel.handle_timeout(time.monotonic())
                ):
                    return
            if data:
                self._handle(data)
            self.flush()

    def _handle(self, data):
        with self._lock:
            events = self._channel.receive_data(data, time.monotonic())
        for event in events:
            self.signals.append(event)
            self.peer.on_signal(self, event)

    def send(self, *signals):
        with self._lock:
            for signal in signals:
                self._channel.send(signal)
        self.flush()

    def flush(self):
        with self._lock, contextlib.suppress(OSError):
            self.sock.sendall(self._channel.data_to_send(time.monotonic()))

    @property
    def ticks_in(self):
        return self._channel.statistics().ticks_in

    def close(self):
        self.reading.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class ScriptedPeer:
    """The node ``peer@127.0.0.1``. ``on_signal(connection, signal)`` is called in the thread of the connection."""

    name = "peer@127.0.0.1"
    pid = Pid(Atom(name), 50, 0, 7)
    net_ticktime = 60.0

    def __init__(self, on_signal=None):
        self.on_signal = on_signal or answer_calls
        self.status = Status.OK
        self.connections = []
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def decide(self, _name, _flags):
        status = self.status
        return status(_name) if callable(status) else status

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._start(PeerConnection(self, sock).run)

    @property
    def alive(self):
        return [each for each in self.connections if not each.lost]

    def stop_listening(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def listen_again(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept)

    def lose_all(self):
        for each in self.connections:
            each.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop_listening()
        self.lose_all()
        for thread in self._threads:
            thread.join(10)


def call_in(signal):
    """The caller and the request, if the signal is a call."""
    if isinstance(signal, (Send, SendName)) and isinstance(signal.message, tuple) and len(signal.message) == 3:
        tag, caller, request = signal.message
        if tag is gen.GEN_CALL:
            return caller, request
    return None


def reply(caller, answer):
    """The signal of a reply, as gen_server sends it since OTP 24."""
    to = gen.reply_to(caller)
    assert isinstance(to, Ref)
    return SendAlias(ScriptedPeer.pid, to, (caller[1], answer))


def answer_calls(connection, signal):
    """Echo each call, except those of a name that does not exist."""
    if isinstance(signal, Monitor) and signal.target is Atom("nobody"):
        connection.send(Down(signal.target, signal.sender, signal.ref, Atom("noproc")))
    found = call_in(signal)
    if found is not None and getattr(signal, "name", None) is not Atom("nobody"):
        caller, request = found
        connection.send(reply(caller, request))
