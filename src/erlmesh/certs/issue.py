"""Make a certificate authority (CA), and certificates of nodes that it signs. No files and no clock.

This is the only module that needs the package ``cryptography``.

What OTP and OpenSSL require of the certificate of a node:

* The host of the node name is in it. OTP 25 compares it with the DNS entries, also if it is an address. OpenSSL
  compares an address with the IP entries. So an address is in both.
* A node uses one certificate as a client and as a server. So both are in the extended key usage.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from erlmesh.errors import CertificateError
from erlmesh.records import record

__all__ = ["Issued", "issue_certificate", "issue_node_certificate", "make_authority", "subject_names"]

CLOCK_SKEW: Final = timedelta(minutes=5)
"""A certificate is valid this long before it is made, because the clocks of machines differ."""

_COMMON_NAME_LIMIT: Final = 64
"""RFC 5280, ub-common-name."""


@record(frozen=True)
class Issued:
    """A certificate and its key, both PEM. The key is not encrypted (PKCS #8)."""

    certificate: bytes
    key: bytes
    expires: datetime
    """The end of the validity, in UTC."""


def make_authority(name: str | None, now: datetime, lifetime: timedelta) -> Issued:
    """Return a new CA that signs itself. It signs nodes only, and no further CAs.

    Without a name it gets one with a part of its key's identifier. So two CAs are not mistaken for each other.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    subject = _subject(name or f"erlmesh CA {identifier[:4].hex()}")
    builder = (
        _builder(subject, subject, key.public_key(), now, now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return _signed(builder, key, key)


def issue_node_certificate(authority: Issued, nodes: Iterable[str], now: datetime, lifetime: timedelta) -> Issued:
    """Return a certificate for the hosts of ``nodes``, with a new key.

    It ends with the CA at the latest. Raises CertificateError if the CA cannot sign it; the text says why.
    """
    names = list(nodes)
    return issue_certificate(authority, names[0], subject_names(names), now, lifetime)


def issue_certificate(
    authority: Issued, common_name: str, names: Iterable[x509.GeneralName], now: datetime, lifetime: timedelta
) -> Issued:
    """Do the same as :func:`issue_node_certificate` for any subject. Without ``names`` the certificate has none."""
    issuer, issuer_key = _load_authority(authority)
    if issuer.not_valid_after_utc <= now:
        raise CertificateError(
            f"the CA expired on {issuer.not_valid_after_utc:%Y-%m-%d}: make a new one in another folder (--dir), "
            "and give its certificates to all nodes"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    expires = min(now + lifetime, issuer.not_valid_after_utc)
    builder = (
        _builder(_subject(common_name), issuer.subject, key.public_key(), now, expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    alternatives = list(names)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _signed(builder, key, issuer_key)


def subject_names(nodes: Iterable[str]) -> list[x509.GeneralName]:
    """Return the subject alternative names for the hosts of ``nodes``: a DNS entry, and for an address an IP entry."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(node.partition("@")[2] for node in nodes):
        names.append(x509.DNSName(host))
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host.partition("%")[0])))
        except ValueError:
            continue  # a host name
    return names


def _load_authority(authority: Issued) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate)
        key = serialization.load_pem_private_key(authority.key, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"the certificate or the key of the CA is damaged: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the key of the CA is not an EC key: `erlmesh certs` uses only a CA that it has made")
    if certificate.public_key() != key.public_key():
        raise CertificateError("ca.key is not the key of ca.crt: copy both from the same place")
    return certificate, key


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_LIMIT])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, expires: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(expires)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> Issued:
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.not_valid_after_utc,
    )
