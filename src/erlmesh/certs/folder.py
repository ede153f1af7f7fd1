"""The folder that ``erlmesh certs`` writes::

    certs/ca.crt                                the certificate of the CA
    certs/ca.key                                its key; nodes do not need it
    certs/socrates@127.0.0.1/ca.crt             the same certificate: each node has a complete folder
    certs/socrates@127.0.0.1/tls.crt, tls.key   the certificate of the node and its key
    certs/socrates@127.0.0.1/ssl_dist.conf      the options of OTP's TLS distribution

A Kubernetes secret of the type ``kubernetes.io/tls`` uses the names ca.crt, tls.crt and tls.key, too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from erlmesh.certs.issue import Issued, issue_node_certificate, make_authority
from erlmesh.certs.optfile import optfile_text
from erlmesh.errors import CertificateError

__all__ = ["AUTHORITY", "CERTIFICATE", "KEY", "OPTFILE", "CertificateFolder"]

AUTHORITY: Final = "ca.crt"
AUTHORITY_KEY: Final = "ca.key"
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
OPTFILE: Final = "ssl_dist.conf"

_SECRET: Final = 0o600
_PUBLIC: Final = 0o644


class CertificateFolder:
    """A CA and certificates of nodes in files. Methods raise CertificateError and OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has_authority(self) -> bool:
        """Tell whether there is a CA. Raises CertificateError if only one of its two files is there."""
        present = [name for name in (AUTHORITY, AUTHORITY_KEY) if (self.path / name).exists()]
        if len(present) == 1:
            raise CertificateError(
                f"{self.path} has {present[0]}, but not the other one of {AUTHORITY} and {AUTHORITY_KEY}: copy it "
                "there, or use another folder (--dir)"
            )
        return bool(present)

    def make_authority(self, name: str | None, now: datetime, lifetime: timedelta) -> Issued:
        """Write a new CA. The caller has checked that there is none."""
        authority = make_authority(name, now, lifetime)
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self.path / AUTHORITY_KEY, authority.key, _SECRET)
        _write(self.path / AUTHORITY, authority.certificate, _PUBLIC)
        return authority

    def existing(self, names: Sequence[str]) -> list[str]:
        """Return those of ``names`` that have files already."""
        files = (CERTIFICATE, KEY, AUTHORITY, OPTFILE)
        return [name for name in names if any((self.path / name / file).exists() for file in files)]

    def issue(
        self, name: str, nodes: Sequence[str], now: datetime, lifetime: timedelta, mounted_at: str | None = None
    ) -> Issued:
        """Write the folder ``name`` with a new certificate for ``nodes``, in place of the one that is there.

        Each file is replaced at once, so a node that reads it never finds half of it. ``mounted_at`` is the path of the
        folder as the Erlang node sees it, for ``ssl_dist.conf``. None is the path here.
        """
        authority = self._read_authority()
        issued = issue_node_certificate(authority, nodes, now, lifetime)
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        _write(folder / KEY, issued.key, _SECRET)
        _write(folder / CERTIFICATE, issued.certificate, _PUBLIC)
        _write(folder / AUTHORITY, authority.certificate, _PUBLIC)
        seen_at = folder.resolve() if mounted_at is None else Path(mounted_at)
        options = optfile_text(*(str(seen_at / file) for file in (CERTIFICATE, KEY, AUTHORITY)))
        _write(folder / OPTFILE, options.encode(), _PUBLIC)
        return issued

    def _read_authority(self) -> Issued:
        certificate, key = (self.path / AUTHORITY).read_bytes(), (self.path / AUTHORITY_KEY).read_bytes()
        return Issued(certificate, key, datetime.max)  # noqa: DTZ901 - the end is read from the certificate


def _write(file: Path, content: bytes, mode: int) -> None:
    """Replace ``file`` at once. Nobody can read a key while it is written."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as output:
        os.fchmod(descriptor, mode)  # whatever the umask is
        output.write(content)
    new.replace(file)
