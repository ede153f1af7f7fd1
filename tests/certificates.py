"""Certificates for tests: CAs and the certificates that they sign, as PEM files."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from erlmesh import TlsConfig

DAY = dt.timedelta(days=1)


class Authority:
    """A CA, whose files are in ``folder``. Each certificate that it signs has an EC key."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        certificate = (
            _builder(self._name, self._name, self._key, expired=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def tls(self, label: str, *hosts: str, expired: bool = False, **options: object) -> TlsConfig:
        """Write the files of a node with a certificate for ``hosts``.

        An address is a DNS entry and an IP entry. ``DNS:10.0.0.7`` and ``IP:10.0.0.7`` are one of them only.
        """
        cert, key = self.write(label, *hosts, expired=expired)
        return TlsConfig(cert=cert, key=key, ca=self.ca, **options)

    def write(
        self, label: str, *hosts: str, expired: bool = False, password: bytes | None = None, common_name: str = ""
    ) -> tuple[Path, Path]:
        """Write ``label.pem`` and ``label.key``. Return both paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(common_name or label), self._name, key, expired=expired)
        if hosts:
            entries = [entry for host in hosts for entry in _entries(host)]
            builder = builder.add_extension(x509.SubjectAlternativeName(entries), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        cert_path, key_path = self.folder / f"{label}.pem", self.folder / f"{label}.key"
        _replace(cert_path, certificate.public_bytes(serialization.Encoding.PEM))
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        _replace(
            key_path,
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
        )
        return cert_path, key_path


def _replace(path: Path, data: bytes) -> None:
    """Replace a file by another, as tools that renew certificates do it."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 9 * DAY)
        .not_valid_after(now - DAY if expired else now + 9 * DAY)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _entries(host: str) -> list[x509.GeneralName]:
    kind, _, value = host.partition(":")
    if kind == "DNS":
        return [x509.DNSName(value)]
    if kind == "IP":
        return [x509.IPAddress(ipaddress.ip_address(value))]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [x509.DNSName(host)]
    return [x509.DNSName(host), x509.IPAddress(address)]
