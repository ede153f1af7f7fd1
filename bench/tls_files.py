"""The certificate with which all nodes of a benchmark connect over TLS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from erlmesh.certs.folder import AUTHORITY, CERTIFICATE, KEY, OPTFILE, CertificateFolder

__all__ = ["TlsFiles"]

NODE = "bench@127.0.0.1"
LIFETIME = timedelta(days=2)


class TlsFiles:
    """The files, which are made below ``folder``."""

    def __init__(self, folder: Path) -> None:
        certificates, now = CertificateFolder(folder), datetime.now(UTC)
        certificates.make_authority(None, now, LIFETIME)
        certificates.issue(NODE, [NODE], now, LIFETIME)
        self._folder = folder / NODE

    @property
    def beam_arguments(self) -> tuple[str, ...]:
        """The arguments of ``erl``."""
        return ("-proto_dist", "inet_tls", "-ssl_dist_optfile", str(self._folder / OPTFILE))

    @property
    def node_options(self) -> dict[str, str]:
        """The fields of the :class:`TlsConfig` of an erlmesh node."""
        return {
            name: str(self._folder / file) for name, file in (("cert", CERTIFICATE), ("key", KEY), ("ca", AUTHORITY))
        }
