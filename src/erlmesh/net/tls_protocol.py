"""The asyncio protocol of a TLS connection: the TLS handshake, and then what every connection does.

TLS starts with the first byte, on the port that EPMD knows. The handshake of the distribution and all frames are inside
(``inet_tls_dist.erl``). The time limit of that handshake includes the TLS handshake.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from erlmesh.core.certificate_hosts import Certificate, fits_host
from erlmesh.errors import ErlmeshError, HandshakeRefused
from erlmesh.net.dist_protocol import ConnectionDelegate, DistProtocol
from erlmesh.net.event_log import event_log
from erlmesh.net.tls_config import TlsConfig
from erlmesh.net.tls_contexts import ContextPair, TlsContexts
from erlmesh.net.tls_errors import closed_after_tls, handshake_error, misnamed, stream_error, unfinished
from erlmesh.net.tls_self_check import own_certificate_problem
from erlmesh.net.tls_session import TlsSession
from erlmesh.net.tls_socket import TlsSharedSocket
from erlmesh.proto.handshake import HandshakeCompleted
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed

__all__ = ["TlsConnections", "TlsProtocol"]

log = event_log("erlmesh")


class TlsProtocol(DistProtocol):
    """Runs TLS on a TCP connection, and a :class:`DistProtocol` on the data.

    ``host`` is that of the node to connect to; None if this node accepts the connection. With ``verify_host`` the
    certificate must be for it.
    """

    def __init__(
        self,
        handshake: HandshakeDriver,
        delegate: ConnectionDelegate,
        session: TlsSession,
        host: str | None,
        *,
        verify_host: bool,
        **options: Any,
    ) -> None:
        super().__init__(handshake, delegate, **options)
        self._session = session
        self._host = host
        self._verify_host = verify_host
        self._has_received = False
        """The peer has sent data inside TLS."""
        self._make_shared = partial(TlsSharedSocket, session=session)

    @property
    def certificate(self) -> Certificate:
        """The certificate of the peer, which was verified."""
        return self._session.certificate

    def data_received(self, data: bytes) -> None:
        """Handle ciphertext that the transport has read: in the handshakes, and without a free descriptor."""
        if self._closed or self._socket is None:
            return
        shared = self._socket.shared
        assert isinstance(shared, TlsSharedSocket)
        was_ready = self._session.is_ready
        received = shared.receive(data)
        if self.handshake is not None and (error := self._refusal(was_ready=was_ready)) is not None:
            shared.take_first()  # our name is not for this peer
            super()._handshake_events(self.handshake, [HandshakeFailed(error)], self._loop.time())
            return
        self._socket.flush()  # the first packet of the handshake has waited for TLS
        if received:
            self._has_received = True
            self.stream_received(received)

    def _refusal(self, *, was_ready: bool) -> ErlmeshError | None:
        """Return why the connection ends after the last data; None if it does not."""
        session = self._session
        if session.error is not None:
            return handshake_error(session.error, is_initiating=self._host is not None)
        if session.is_ready and not was_ready and self._host is not None and self._verify_host:
            certificate = session.certificate
            return None if fits_host(certificate, self._host) else misnamed(certificate, self._host)
        return None

    def connection_lost(self, exception: Exception | None) -> None:
        if self._socket is not None and isinstance(error := self._socket.error, OSError):
            exception = OSError(stream_error(error))
        super().connection_lost(exception)

    def _handshake_events(
        self, handshake: HandshakeDriver, events: list[HandshakeCompleted | HandshakeFailed], now: float
    ) -> None:
        if events and isinstance(failed := events[-1], HandshakeFailed):
            events = [HandshakeFailed(self._explained(failed.error))]
        super()._handshake_events(handshake, events, now)

    def _explained(self, error: ErlmeshError) -> ErlmeshError:
        """Return ``error`` in words that name TLS, if that is why the handshake has not begun."""
        is_initiating = self._host is not None
        if not self._session.is_ready:
            return unfinished(error, is_initiating=is_initiating)
        if not self._has_received and isinstance(error, HandshakeRefused):
            return closed_after_tls(is_initiating=is_initiating)
        return error


class TlsConnections:
    """What all TLS connections of the node ``name`` have in common.

    ``is_called`` is false for a node that no other node connects to: it only asks another one.
    """

    def __init__(self, config: TlsConfig, name: str, *, is_called: bool = True) -> None:
        self.config = config
        self._host = name.partition("@")[2]
        self._is_called = is_called
        self._contexts = TlsContexts(config, self._check)

    def load(self) -> None:
        """Read the files. Raises NodeStartError. What other nodes will refuse is only logged."""
        self._contexts.load()

    def _check(self, contexts: ContextPair) -> None:
        problem = own_certificate_problem(contexts, self._host, is_called=self._is_called)
        if problem is not None:
            log.warning("tls_certificate_problem", "%s", problem, reason=problem)

    def make_protocol(
        self, handshake: HandshakeDriver, delegate: ConnectionDelegate, *, host: str, **options: Any
    ) -> TlsProtocol:
        """Return the protocol of a connection to a node on ``host``, the part of its name after the ``@``.

        Without a host it is that of a connection which this node accepts.
        """
        contexts = self._contexts.current()
        if host:
            session = TlsSession(contexts.initiating, host)
            return TlsProtocol(handshake, delegate, session, host, verify_host=self.config.verify_host, **options)
        session = TlsSession(contexts.accepting, None)
        return TlsProtocol(handshake, delegate, session, None, verify_host=False, **options)

    def refusal(self, protocol: DistProtocol | None, name: str, *, is_restricted: bool) -> ErlmeshError | None:
        """Return why the node ``name`` may not connect with the certificate that it has shown; None if it may.

        The certificate must be for the host of the name if the configuration says so, or if this node accepts only some
        nodes (``is_restricted``). OTP's ``inet_tls_dist`` does the latter, too.
        """
        host = name.partition("@")[2]
        if not (is_restricted or self.config.verify_caller_host) or not isinstance(protocol, TlsProtocol):
            return None
        return None if fits_host(protocol.certificate, host) else misnamed(protocol.certificate, host, f"caller {name}")
