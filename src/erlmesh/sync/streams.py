"""The bytes of a connection while it is set up: a plain socket, or TLS on it. Deadlines are of ``time.monotonic``."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol

from erlmesh.errors import HandshakeRefused
from erlmesh.proto.channel import Channel
from erlmesh.proto.handshake import HandshakeCompleted
from erlmesh.sync.peer_link import PeerLink

if TYPE_CHECKING:
    from erlmesh.net.tls_contexts import TlsContexts
    from erlmesh.net.tls_session import TlsSession

__all__ = ["PlainStream", "Stream", "TlsStream", "time_left"]

READ_SIZE = 1 << 16


class Stream(Protocol):
    """What the handshake needs. The methods raise OSError, which is TimeoutError at the deadline."""

    is_tls: bool

    def send(self, data: bytes, deadline: float) -> None:
        """Send all of ``data``."""

    def receive(self, deadline: float) -> bytes:
        """Return received data; empty at the end of the connection."""

    def make_link(self, channel: Channel, completed: HandshakeCompleted, trailing: bytes) -> PeerLink:
        """Return the established connection."""


class PlainStream(Stream):
    """A TCP connection."""

    is_tls = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes, deadline: float) -> None:
        self._sock.settimeout(time_left(deadline))
        self._sock.sendall(data)

    def receive(self, deadline: float) -> bytes:
        self._sock.settimeout(time_left(deadline))
        return self._sock.recv(READ_SIZE)

    def make_link(self, channel: Channel, completed: HandshakeCompleted, trailing: bytes) -> PeerLink:
        return PeerLink(self._sock, channel, completed, trailing)


class TlsStream(Stream):
    """TLS on a TCP connection to a node on ``host``."""

    is_tls = True

    def __init__(self, sock: socket.socket, contexts: TlsContexts, host: str, deadline: float) -> None:
        """Run the TLS handshake. Raises HandshakeRefused with what is wrong, and OSError."""
        from erlmesh.core.certificate_hosts import fits_host  # noqa: PLC0415 - only programs with TLS load ssl
        from erlmesh.net.tls_errors import handshake_error, misnamed  # noqa: PLC0415
        from erlmesh.net.tls_session import TlsSession  # noqa: PLC0415

        self._sock, self._plain = sock, PlainStream(sock)
        self._session: TlsSession = TlsSession(contexts.current().initiating, host)
        self._received = b""
        while not self._session.is_ready:
            self._plain.send(self._session.take_outgoing(), deadline)
            data = self._plain.receive(deadline)
            self._received += self._session.receive(data)
            if self._session.error is not None:
                self._plain.send(self._session.take_outgoing(), deadline)
                raise handshake_error(self._session.error, is_initiating=True)
            if not data:
                raise HandshakeRefused("the node closed the connection during the TLS handshake: does it use TLS?")
        self._plain.send(self._session.take_outgoing(), deadline)
        if contexts.config.verify_host and not fits_host(self._session.certificate, host):
            raise misnamed(self._session.certificate, host)

    def send(self, data: bytes, deadline: float) -> None:
        if data:
            self._session.encrypt(data)
        self._plain.send(self._session.take_outgoing(), deadline)

    def receive(self, deadline: float) -> bytes:
        while not self._received:
            data = self._plain.receive(deadline)
            self._received = self._session.receive(data)
            if not data or self._session.is_ended:
                break
            if self._session.error is not None:
                raise self._session.error
        found, self._received = self._received, b""
        return found

    def make_link(self, channel: Channel, completed: HandshakeCompleted, trailing: bytes) -> PeerLink:
        from erlmesh.sync.tls_link import TlsLink  # noqa: PLC0415 - only programs with TLS load ssl

        return TlsLink(self._sock, channel, completed, trailing, self._session)


def time_left(deadline: float) -> float:
    """Return the seconds until ``deadline``. Raises TimeoutError if it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
