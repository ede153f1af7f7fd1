"""The ``ssl.SSLContext`` objects of a node. They follow the files of its :class:`TlsConfig`."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from erlmesh.errors import NodeStartError
from erlmesh.net.event_log import event_log
from erlmesh.net.tls_config import TlsConfig

__all__ = ["ContextPair", "TlsContexts"]

log = event_log("erlmesh")

Signature: TypeAlias = tuple[tuple[int, int, int, int], ...]

ALLOW_CLIENT_RENEGOTIATION: Final = 1 << 8
"""OpenSSL's ``SSL_OP_ALLOW_CLIENT_RENEGOTIATION``, which the ``ssl`` module does not name. OTP renegotiates TLS 1.2
after 2^28 records, and ends the connection if the other node refuses. Only a peer with a certificate gets so far.
"""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ContextPair(NamedTuple):
    """The two contexts that come from the same files."""

    accepting: ssl.SSLContext
    """For connections that this node accepts."""
    initiating: ssl.SSLContext
    """For connections that this node opens. The host of the peer is not checked by OpenSSL."""


class TlsContexts:
    """The contexts of one node. Call :meth:`load` once, and then :meth:`current` for each connection.

    ``on_load(contexts)`` is called with contexts that were read, before they are used.
    """

    def __init__(self, config: TlsConfig, on_load: Callable[[ContextPair], object] = lambda _: None) -> None:
        self.config = config
        self._on_load = on_load
        self._files = tuple(Path(path) for path in (config.cert, config.key, config.ca))
        self._signature: Signature = ()
        """What the files were when they were last read, with or without success."""
        self._pair: ContextPair | None = None

    def load(self) -> ContextPair:
        """Read the files. Raises NodeStartError, whose text says which file is wrong and what to do."""
        signature = self._sign()  # before the files are read: a change meanwhile is found at the next connection
        self._pair = self._make_pair()
        self._signature = signature
        return self._pair

    def current(self) -> ContextPair:
        """Return the contexts for a new connection. If a file has changed, they come from the new files.

        If the new files are not valid, they are still the old contexts, and the log says why, once for each change.
        Raises NodeStartError if nothing was ever loaded.
        """
        if self._pair is None:
            return self.load()
        signature = self._sign()
        if signature != self._signature:
            self._signature = signature
            self._reload()
        return self._pair

    def _reload(self) -> None:
        try:
            self._pair = self._make_pair()
        except NodeStartError as error:
            log.warning(
                "tls_reload_failed",
                "the TLS files have changed and cannot be used, so the old ones stay in use: %s",
                error,
                reason=error,
            )
            return
        log.info("tls_reloaded", "the TLS files have changed: new connections use the new ones")

    def _sign(self) -> Signature:
        """Return what changes when a file is written or replaced."""
        return tuple(_sign_file(path) for path in self._files)

    def _make_pair(self) -> ContextPair:
        cert, key, ca = self._files
        for path, content in ((cert, "certificate"), (key, "key"), (ca, "CA certificates")):
            _check_readable(path, content)
        contexts = []
        for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(protocol)
            context.check_hostname = False  # done after the handshake, as OTP does it: see core/certificate_hosts.py
            context.verify_mode = ssl.CERT_REQUIRED
            context.minimum_version = _VERSIONS[self.config.minimum_version]
            context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
            _load_own_certificate(context, cert, key)
            _load_authorities(context, ca)
            contexts.append(context)
        accepting, initiating = contexts
        accepting.num_tickets = 0
        accepting.options |= ALLOW_CLIENT_RENEGOTIATION
        pair = ContextPair(accepting, initiating)
        self._on_load(pair)
        return pair


def _sign_file(path: Path) -> tuple[int, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _check_readable(path: Path, content: str) -> None:
    """Raise NodeStartError if the file cannot be read. OpenSSL would not say which file it is."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise NodeStartError(f"the TLS {content} file {path} does not exist") from None
    except PermissionError:
        raise NodeStartError(
            f"the TLS {content} file {path} cannot be read by this user (id {os.geteuid()}): change its owner or mode"
        ) from None
    except OSError as error:
        raise NodeStartError(f"the TLS {content} file {path} cannot be read: {error.strerror or error}") from None


def _load_own_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=_refuse_passphrase)
    except _PassphraseNeeded:
        raise NodeStartError(
            f"the TLS key {key} has a passphrase, which a node cannot enter: decrypt it with "
            "`openssl pkey -in KEY -out NEWKEY`"
        ) from None
    except ssl.SSLError as error:
        raise NodeStartError(_own_certificate_problem(cert, key, error)) from None


def _own_certificate_problem(cert: Path, key: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the TLS key {key} does not belong to the certificate {cert}: give the two that were made together"
    if not _has_pem(cert, b"CERTIFICATE-----"):
        return f"the TLS certificate file {cert} has no certificate in PEM format (-----BEGIN CERTIFICATE-----)"
    if not _has_pem(key, b"PRIVATE KEY-----"):
        return f"the TLS key file {key} has no private key in PEM format (-----BEGIN PRIVATE KEY-----)"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return f"the TLS certificate {cert} with the key {key} cannot be used: {reason}"


def _load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise NodeStartError(
            f"the TLS CA file {ca} has no valid certificate in PEM format: {error.reason or error}"
        ) from None
    if not context.cert_store_stats()["x509_ca"]:
        raise NodeStartError(
            f"no certificate in the TLS CA file {ca} is one of a CA: give that of the CA which signs the nodes' "
            "certificates"
        )


class _PassphraseNeeded(Exception):
    """The key is encrypted."""


def _refuse_passphrase() -> str:
    raise _PassphraseNeeded  # otherwise OpenSSL asks on the terminal


def _has_pem(path: Path, ending: bytes) -> bool:
    return ending in path.read_bytes()
