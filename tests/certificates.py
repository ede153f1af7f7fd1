"""Certificates for tests: CAs and the certificates that they sign, as PEM files."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from erlmesh import TlsConfig
from erlmesh.certs.issue import issue_certificate, make_authority, subject_names

DAY = dt.timedelta(days=1)


class Authority:
    """A CA, whose files are in ``folder``. Each certificate that it signs has an EC key."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._start = dt.datetime.now(dt.UTC) - 9 * DAY
        self._authority = make_authority(name, self._start, 18 * DAY)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._authority.certificate)

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
        entries = [entry for host in hosts for entry in _entries(host)]
        lifetime = (8 if expired else 18) * DAY
        issued = issue_certificate(self._authority, common_name or label, entries, self._start, lifetime)
        cert_path, key_path = self.folder / f"{label}.pem", self.folder / f"{label}.key"
        _replace(cert_path, issued.certificate)
        _replace(key_path, _encrypted(issued.key, password) if password else issued.key)
        return cert_path, key_path


def _encrypted(key: bytes, password: bytes) -> bytes:
    loaded = serialization.load_pem_private_key(key, None)
    encryption = serialization.BestAvailableEncryption(password)
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _replace(path: Path, data: bytes) -> None:
    """Replace a file by another, as tools that renew certificates do it."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def _entries(host: str) -> list[x509.GeneralName]:
    kind, _, value = host.partition(":")
    if kind == "DNS":
        return [x509.DNSName(value)]
    if kind == "IP":
        return [x509.IPAddress(ipaddress.ip_address(value))]
    return subject_names([f"node@{host}"])
