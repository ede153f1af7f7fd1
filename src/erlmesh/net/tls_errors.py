"""Sentences for TLS connections that fail: what is wrong, and what to do."""

from __future__ import annotations

import ssl
from typing import Final

from erlmesh.core.certificate_hosts import Certificate, hosts_of
from erlmesh.errors import ConnectError, ErlmeshError, HandshakeRefused, HandshakeTimeout
from erlmesh.net.tls_session import NotTls

__all__ = ["certificate_problem", "closed_after_tls", "handshake_error", "misnamed", "stream_error", "unfinished"]

_VERIFY_PROBLEMS: Final = {
    9: "is not valid yet: compare the clocks of both machines",
    10: "has expired: renew it",
    18: "is signed by itself, and not by a CA that this node trusts: sign it with the CA of the cluster",
    26: "is not made for this purpose: it needs both serverAuth and clientAuth in its extended key usage, or neither",
}
"""By the ``X509_V_ERR`` numbers of OpenSSL."""
_UNTRUSTED: Final = (
    "is not signed by a CA that this node trusts: sign it with the CA of the cluster, or add its CA to this node's file"
)
_UNTRUSTED_CODES: Final = frozenset({2, 7, 19, 20, 21, 27})  # 7: a CA of the same name has another key

_REFUSED_BY_PEER: Final = {
    "CERTIFICATE_EXPIRED": "our certificate has expired: renew it",
    "UNKNOWN_CA": "our certificate is not signed by a CA that it trusts: both nodes need the CAs of each other",
    "BAD_CERTIFICATE": "our certificate: it may be signed by a CA that it does not trust, or not carry our host",
    "CERTIFICATE_UNKNOWN": "our certificate: its log says why",
    "CERTIFICATE_REVOKED": "our certificate was revoked: give this node a new one",
    "UNSUPPORTED_CERTIFICATE": "our certificate is not made for this purpose: its extended key usage needs both "
    "serverAuth and clientAuth",
    "CERTIFICATE_REQUIRED": "it requires a certificate",
    "PROTOCOL_VERSION": "it does not support a version of TLS that this node allows",
    "HANDSHAKE_FAILURE": "the two nodes have no cipher or version of TLS in common, or it got no certificate from us",
    "ACCESS_DENIED": "our certificate is not allowed there",
    "UNEXPECTED_MESSAGE": "it does not speak TLS as this node does",
}
"""By the end of OpenSSL's name of the alert (``SSLV3_ALERT_CERTIFICATE_EXPIRED``)."""

_LOCAL_PROBLEMS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no certificate: give it one of the cluster's CA, as all nodes have",
    "UNSUPPORTED_PROTOCOL": "it offers only versions of TLS that this node does not allow",
    "NO_SHARED_CIPHER": "the two nodes have no cipher in common",
    "VERSION_TOO_LOW": "it offers only versions of TLS that this node does not allow",
}


def certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    """Return what is wrong with a certificate, as words behind *the certificate*."""
    if error.verify_code in _UNTRUSTED_CODES:
        return _UNTRUSTED
    return _VERIFY_PROBLEMS.get(error.verify_code, f"is not valid: {error.verify_message}")


def handshake_error(error: ssl.SSLError, *, is_initiating: bool) -> ConnectError:
    """Return the error of a TLS handshake that failed with ``error``."""
    if isinstance(error, NotTls):
        return HandshakeRefused(
            "the peer does not speak TLS, and this node takes only TLS connections: "
            "start it with TLS (-proto_dist inet_tls), or this node without"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return HandshakeRefused(f"the certificate of the {_peer(is_initiating)} {certificate_problem(error)}")
    reason = error.reason or ""
    if "ALERT_" in reason:
        return HandshakeRefused(f"the {_peer(is_initiating)} refused the TLS connection: {_alert(reason)}")
    text = _LOCAL_PROBLEMS.get(reason) or f"TLS reports {reason.replace('_', ' ').lower() or error}"
    return HandshakeRefused(f"no TLS connection with the {_peer(is_initiating)}: {text}")


def unfinished(error: ErlmeshError, *, is_initiating: bool) -> ErlmeshError:
    """Return the error of a TLS handshake that did not end, because of ``error``."""
    if isinstance(error, HandshakeTimeout):
        return HandshakeTimeout(
            "the TLS handshake did not end in time: a node without TLS says nothing. Does the other node use TLS?"
        )
    if not isinstance(error, HandshakeRefused):
        return error
    if is_initiating:
        return HandshakeRefused(
            "the node closed the connection during the TLS handshake: does it use TLS (-proto_dist inet_tls)? "
            "If it does, its log says why"
        )
    return HandshakeRefused("the peer closed the connection during the TLS handshake: its log says why")


def closed_after_tls(*, is_initiating: bool) -> HandshakeRefused:
    """Return the error for a peer that has completed TLS and then closed, without a packet."""
    return HandshakeRefused(
        f"the {_peer(is_initiating)} closed the connection right after the TLS handshake: it may not accept our "
        "certificate. Does that carry the host of this node's name?"
    )


def misnamed(certificate: Certificate, host: str, whose: str = "node") -> HandshakeRefused:
    """Return the error for a certificate that is for other hosts than ``host``. ``whose`` is who has shown it."""
    names = hosts_of(certificate)
    found = f"is for {', '.join(names[:4])}" if names else "names no host"
    return HandshakeRefused(
        f"the certificate of the {whose} {found}, and not for {host}, the host of its name: "
        f"give it a certificate with {host} among its names"
    )


def stream_error(error: OSError) -> str:
    """Return why an established connection broke."""
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason is None:
        return str(error)
    if "ALERT_" in reason:
        return f"the peer ended TLS: {_alert(reason)}"
    return f"TLS reports {reason.replace('_', ' ').lower()}"


def _peer(is_initiating: bool) -> str:
    return "node" if is_initiating else "peer"


def _alert(reason: str) -> str:
    name = reason.partition("ALERT_")[2]
    return _REFUSED_BY_PEER.get(name, name.replace("_", " ").lower())
