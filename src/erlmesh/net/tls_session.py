"""One TLS connection without its socket: ciphertext in, data out, and the other way round.

OpenSSL works on two buffers in memory. So whoever holds the lock of the socket can encrypt, in any thread, and the
ciphertext leaves in the order in which it was made. The owner of a session holds that lock during every call.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Final

from erlmesh.core.certificate_hosts import Certificate

__all__ = ["NotTls", "TlsSession"]

RECORD_SIZE: Final = 16 * 1024
"""The most data in one TLS record. OpenSSL reads and writes one record at a time."""
_RECORD_TYPES: Final = frozenset({0x15, 0x16})
"""First bytes of a TLS connection: an alert, or a message of the handshake."""
_UNEXPECTED_MESSAGE: Final = bytes.fromhex("1503030002020a")
"""The alert for a peer without TLS, in plain text. It is what OTP sends, and erlmesh recognizes it."""


class NotTls(ssl.SSLError):
    """The peer does not speak TLS."""


class TlsSession:
    """The TLS side of one connection.

    ``host`` is the host of the node name to connect to; None if this node accepts the connection. It is sent as the
    server name (SNI), unless it is an address. It is not checked here.
    """

    def __init__(self, context: ssl.SSLContext, host: str | None) -> None:
        self.is_ready = False
        """The TLS handshake is complete."""
        self.is_ended = False
        """The peer has sent ``close_notify``: it sends no more data."""
        self.error: ssl.SSLError | None = None
        """Why the session has failed. Nothing can be sent or received any more."""
        self._has_received = False
        self._alert = b""
        """Sent in plain text."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._make_object(context, host)
        if host is not None:
            self._run(self._tls.do_handshake)

    def _make_object(self, context: ssl.SSLContext, host: str | None) -> ssl.SSLObject:
        if host is None:
            return context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        try:
            return context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        except ValueError:  # not a host name of the DNS, so there is no server name
            return context.wrap_bio(self._incoming, self._outgoing)

    @property
    def is_open(self) -> bool:
        """Data can be sent."""
        return self.is_ready and self.error is None

    @property
    def certificate(self) -> Certificate:
        """The certificate of the peer. It was verified. Empty before the session is ready."""
        return (self._tls.getpeercert() or {}) if self.is_ready else {}

    def receive(self, data: bytes) -> bytes:
        """Process received ciphertext. Return the data that it completes.

        The handshake goes on with it, too. Afterwards, there may be ciphertext to send (:meth:`take_outgoing`).
        """
        if self.error is not None or self.is_ended or not data:
            return b""
        if not self._has_received and data[0] not in _RECORD_TYPES:
            self.error, self._alert = NotTls("the peer does not speak TLS"), _UNEXPECTED_MESSAGE
            return b""
        self._has_received = True
        self._incoming.write(data)
        if not self.is_ready:
            self.is_ready = self._run(self._tls.do_handshake)
        return self._read() if self.is_ready else b""

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        try:
            while True:
                pieces.append(self._tls.read(RECORD_SIZE))
                if not pieces[-1]:
                    self.is_ended = True
                    break
                if not self._incoming.pending:  # OpenSSL keeps no ciphertext behind a complete record
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error
        return b"".join(pieces)

    def _run(self, step: Callable[[], object]) -> bool:
        """Call ``step``. Return false if it needs more ciphertext, or if it has failed."""
        try:
            step()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self.error = error
            return False
        return True

    def encrypt(self, data: bytes) -> int:
        """Encrypt ``data``. Return how many bytes were encrypted. Raises ``ssl.SSLError`` if the session is broken.

        These are all of them, unless the peer renegotiates (TLS 1.2). Then the rest must wait for its next message.
        """
        done = 0
        with memoryview(data) as view, contextlib.suppress(ssl.SSLWantReadError):
            while done < len(data):  # OpenSSL writes one record for each call
                done += self._tls.write(view[done:])
        return done

    @property
    def has_outgoing(self) -> bool:
        """There is ciphertext to send."""
        return self._outgoing.pending > 0 or bool(self._alert)

    def take_outgoing(self) -> bytes:
        """Return the ciphertext to send: whole records."""
        alert, self._alert = self._alert, b""
        return alert + self._outgoing.read()

    def end(self) -> bytes:
        """Return the record that tells the peer that nothing follows (``close_notify``)."""
        if not self.is_open:
            return b""
        self._run(self._tls.unwrap)
        return self._outgoing.read()
