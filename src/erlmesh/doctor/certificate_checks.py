"""Findings about TLS: this node's own certificate, and the TLS connection with the other node. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from erlmesh.certs.certificate import CertificateInfo
from erlmesh.core.certificate_hosts import fits_host
from erlmesh.doctor.findings import Finding, failed, note, ok
from erlmesh.records import record

__all__ = ["EXPIRY_WARNING", "OwnCertificate", "TlsOutcome", "check_own_certificate", "check_tls"]

EXPIRY_WARNING: Final = timedelta(days=30)
"""A certificate that expires within this time is worth a note."""

EXPIRED: Final = 10
NOT_YET_VALID: Final = 9
UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21, 27})
WRONG_PURPOSE: Final = 26
"""OpenSSL's numbers of problems with a certificate (``X509_V_ERR``)."""

_MAKE_ONE: Final = "For a trial,  erlmesh certs NODE…  makes a CA and certificates of nodes."


@record(frozen=True)
class OwnCertificate:
    """What was read from the files of ``--tls-cert``, ``--tls-key`` and ``--tls-ca``."""

    problem: str = ""
    """Why the files cannot be used; empty if they can be used."""
    info: CertificateInfo | None = None
    """The certificate; None if there is a problem."""
    authorities: Sequence[str] = ()
    """The names of the CAs in the file of ``--tls-ca``."""
    verify_code: int = 0
    """The problem that OpenSSL finds in our certificate with our own CAs; 0 for none."""
    key_file: str = ""
    is_key_exposed: bool = False
    """Other users can read the key."""


@record(frozen=True)
class TlsOutcome:
    """The result of a TLS connection with the other node."""

    version: str | None = None
    """``TLSv1.3``; None if the TLS handshake did not complete."""
    info: CertificateInfo | None = None
    """The certificate of the node, if it sent one."""
    verify_code: int = 0
    """The problem that OpenSSL finds in the certificate of the node; 0 for none."""
    verify_message: str = ""
    alert: str | None = None
    """The alert with which the node refused us: ``CERTIFICATE_REQUIRED``."""
    error: str = ""
    """Another error of TLS."""
    is_plain: bool = False
    """The node does not answer in TLS, but it answers a plain connection."""


def check_own_certificate(own: OwnCertificate, local_name: str | None, now: datetime) -> Finding:
    """Check that other nodes can accept our certificate. ``local_name`` is the node that uses it, if known."""
    info = own.info
    if own.problem or info is None:
        return failed(
            "certificate",
            own.problem or "the certificate cannot be read",
            "With TLS, every node shows a certificate to every other node.",
            "Give the files that belong together: --tls-cert, --tls-key and --tls-ca.",
            _MAKE_ONE,
        )
    facts = {**_facts(info), "authorities": list(own.authorities)}
    if (problem := _validity_problem(info, now)) is not None:
        return failed(
            "certificate",
            f"our certificate {problem}",
            "Every other node refuses it.",
            "Renew it. erlmesh nodes use the new files at the next connection.",
            "Is the clock of this machine right?",
            **facts,
        )
    remarks = _remarks(own, info, local_name, now)
    summary = (
        f"our certificate is for {_listed(info.hosts)}, from {info.issuer!r}, valid until {info.not_after:%Y-%m-%d}"
    )
    if not remarks:
        return ok("certificate", summary, **facts)
    texts, advice = zip(*remarks, strict=True)
    return note("certificate", summary, " ".join(texts), *advice, **facts)


def _remarks(
    own: OwnCertificate, info: CertificateInfo, local_name: str | None, now: datetime
) -> list[tuple[str, str]]:
    """Return what is worth knowing about a valid certificate, each with an advice."""
    found = []
    if info.not_after - now < EXPIRY_WARNING:
        found.append((f"It expires in {(info.not_after - now).days} days.", "Renew it in time."))
    host = (local_name or "").partition("@")[2]
    if local_name is not None and not _is_for(info, host):
        found.append(
            (
                f"It is not for {host}, the host of {local_name}, so nodes that connect to that node refuse it.",
                f"Use a certificate with {host} among its names (an address as a DNS entry and as an IP entry).",
            )
        )
    if own.verify_code:
        found.append(
            (
                f"Our own CAs ({_listed(own.authorities)}) do not accept it, so nodes with the same file refuse it.",
                "--tls-ca needs the CA that signs the certificates. These are for both server and client.",
            )
        )
    if own.is_key_exposed:
        found.append(
            (f"Other users of this machine can read the key {own.key_file}.", f"Protect it:  chmod 600 {own.key_file}")
        )
    return found


def check_tls(
    target: str, outcome: TlsOutcome, authorities: Sequence[str], now: datetime, *, verify_host: bool = True
) -> Finding:
    """Check the TLS connection with ``target``. ``authorities`` are the CAs that this node trusts.

    With ``verify_host`` the host of the name must be in the certificate of the node.
    """
    host = target.partition("@")[2]
    info = outcome.info
    facts: dict[str, Any] = {"version": outcome.version, **(_facts(info) if info else {})}
    if outcome.is_plain:
        return failed(
            "tls",
            "the node expects plain TCP, but we connected with TLS",
            "It runs without TLS. Such a node accepts only plain connections.",
            "Start it with TLS (erl -proto_dist inet_tls; erlmesh: --tls-cert), or omit the --tls options here.",
            "All nodes of a cluster use TLS, or none does.",
            **facts,
        )
    if outcome.verify_code:
        return _refused_by_us(target, outcome, authorities, facts)
    if outcome.alert is not None:
        return _refused_by_peer(target, outcome.alert, facts)
    if outcome.version is None:
        return failed(
            "tls",
            f"the TLS handshake failed: {outcome.error}",
            "The node, or something between, does not speak TLS as a node does.",
            "Read the log of that node.",
            "Does the node use TLS (erl -proto_dist inet_tls; erlmesh: --tls-cert)?",
            **facts,
        )
    if verify_host and info is not None and not _is_for(info, host):
        return failed(
            "tls",
            f"the certificate of the node is for {_listed(info.hosts)}, not for {host}",
            "The host of the node name must be in the certificate. Otherwise another machine could take its place.",
            f"Give that node a certificate with {host} among its names (an address as a DNS entry and as an IP entry).",
            "Or use the name that is in the certificate.",
            **facts,
        )
    version = outcome.version.replace("TLSv", "TLS ")
    if info is None:
        return ok("tls", version, **facts)
    summary = f"{version}; its certificate is from {info.issuer!r}, valid until {info.not_after:%Y-%m-%d}"
    if info.not_after - now < EXPIRY_WARNING:
        remark = f"The certificate of {target} expires in {(info.not_after - now).days} days."
        return note("tls", summary, remark, "Renew it in time.", **facts)
    return ok("tls", summary, **facts)


def _refused_by_us(target: str, outcome: TlsOutcome, authorities: Sequence[str], facts: dict[str, Any]) -> Finding:
    """Return the finding for a certificate of the node that this node does not accept."""
    info, code = outcome.info, outcome.verify_code
    ends = f" on {info.not_after:%Y-%m-%d}" if info else ""
    starts = f" before {info.not_before:%Y-%m-%d %H:%M} UTC" if info else ""
    facts = {**facts, "verify_code": code}
    if code == EXPIRED:
        return failed(
            "tls",
            f"the certificate of the node, or its CA, expired{ends}",
            "No node may accept it any more.",
            f"Renew the certificate of {target}. erlmesh nodes use the new files at the next connection.",
            "Is the clock of this machine right?",
            **facts,
        )
    if code == NOT_YET_VALID:
        return failed(
            "tls",
            f"the certificate of the node is not valid{starts}",
            "It was made for a later time, or a clock is wrong.",
            "Compare the clocks of this machine, of that node, and of the machine that made the certificate.",
            **facts,
        )
    if code in UNTRUSTED:
        issuer = repr(info.issuer) if info else "another CA"
        return failed(
            "tls",
            f"the certificate of the node is signed by {issuer}, which is not one of our CAs ({_listed(authorities)})",
            "A node accepts only certificates of the CAs in its file. Two different CAs may have the same name.",
            "Give both nodes certificates of one CA.",
            "Or add the certificate of the other CA to the file of --tls-ca, on both sides.",
            **facts,
        )
    if code == WRONG_PURPOSE:
        return failed(
            "tls",
            "the certificate of the node is not for a TLS server",
            "A node is a server for some connections and a client for others.",
            "Make it again with both serverAuth and clientAuth in its extended key usage.",
            **facts,
        )
    return failed(
        "tls",
        f"the certificate of the node is not valid: {outcome.verify_message}",
        "OpenSSL refuses it.",
        f"Make a new certificate for {target}. {_MAKE_ONE}",
        **facts,
    )


_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": (
        "the node requires a certificate, and we sent none",
        "Give  --tls-cert  and  --tls-key.",
    ),
    "CERTIFICATE_EXPIRED": ("our certificate has expired", "Renew it, and check both clocks."),
    "UNKNOWN_CA": (
        "the node does not know the CA of our certificate",
        "Give both nodes certificates of one CA, or add our CA to the file of that node (cacertfile; --tls-ca).",
    ),
    "BAD_CERTIFICATE": (
        "the node does not accept our certificate",
        "It may be of a CA that the node does not know, or damaged. The log of that node says more.",
    ),
    "UNSUPPORTED_CERTIFICATE": (
        "our certificate is not for a TLS client",
        "Make it again with both serverAuth and clientAuth in its extended key usage.",
    ),
    "PROTOCOL_VERSION": (
        "the node has no version of TLS that we allow",
        "Allow the same versions on both sides: --tls-minimum-version here, versions in the options file there.",
    ),
    "HANDSHAKE_FAILURE": (
        "the two nodes have no cipher in common, or the node got no certificate from us",
        "Give  --tls-cert  and  --tls-key, and compare the versions and ciphers in the options file of the node.",
    ),
}


def _refused_by_peer(target: str, alert: str, facts: dict[str, Any]) -> Finding:
    """Return the finding for an alert: the reason that the node gave."""
    name = alert.replace("_", " ").lower()
    unknown = f"the node refused the connection: {name}", "The log of that node says more."
    summary, advice = _ALERTS.get(alert, unknown)
    return failed(
        "tls",
        summary,
        f"{target} ended the TLS handshake with the alert '{name}'.",
        advice,
        **facts,
        alert=alert,
    )


def _validity_problem(info: CertificateInfo, now: datetime) -> str | None:
    if info.not_after <= now:
        return f"expired on {info.not_after:%Y-%m-%d}"
    if info.not_before > now:
        return f"is not valid before {info.not_before:%Y-%m-%d %H:%M} UTC"
    return None


def _is_for(info: CertificateInfo, host: str) -> bool:
    names = tuple(("DNS", each) for each in info.hosts)
    return fits_host({"subjectAltName": names, "subject": ((("commonName", info.subject),),)}, host)


def _facts(info: CertificateInfo) -> dict[str, Any]:
    return {
        "subject": info.subject,
        "issuer": info.issuer,
        "hosts": list(info.hosts),
        "not_before": info.not_before.isoformat(),
        "not_after": info.not_after.isoformat(),
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "") or "no host"
