"""Finds out at the start what other nodes will say about this node's certificate."""

from __future__ import annotations

import ssl

from erlmesh.core.certificate_hosts import fits_host, hosts_of
from erlmesh.net.tls_contexts import ContextPair
from erlmesh.net.tls_errors import certificate_problem
from erlmesh.net.tls_session import TlsSession

__all__ = ["own_certificate_problem"]


def own_certificate_problem(contexts: ContextPair, host: str, *, is_called: bool = True) -> str | None:
    """Return why a node with the same CAs would refuse this node, which is on ``host``; None if it would not.

    The node connects to itself, in memory. So OpenSSL applies all its rules, for both directions. The host counts only
    if other nodes connect to this node (``is_called``).
    """
    accepting, initiating = TlsSession(contexts.accepting, None), TlsSession(contexts.initiating, host)
    for _ in range(4):  # more than a handshake needs
        accepting.receive(initiating.take_outgoing())
        initiating.receive(accepting.take_outgoing())
    # Whichever side checks first ends the handshake, so there is one error of a certificate.
    for error in (initiating.error, accepting.error):
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"this node's TLS certificate {certificate_problem(error)}. Other nodes will refuse it"
    certificate = initiating.certificate
    if is_called and initiating.is_ready and not fits_host(certificate, host):
        names = ", ".join(hosts_of(certificate)[:4]) or "no host"
        return (
            f"this node's TLS certificate is for {names}, and not for {host}, the host of its name. Other nodes will "
            "refuse to connect to it, unless they do not check that"
        )
    return None
