"""The TLS configuration of a node: its certificate, its key, and whom it trusts."""

from __future__ import annotations

import os
from typing import Final, TypeAlias

from erlmesh.records import record

__all__ = ["MINIMUM_VERSIONS", "TlsConfig"]

FilePath: TypeAlias = "str | os.PathLike[str]"

MINIMUM_VERSIONS: Final = ("1.2", "1.3")
"""The versions of TLS that may be the oldest allowed one."""


@record(frozen=True, kw_only=True)
class TlsConfig:
    """What a node needs for TLS connections. All files have PEM format. They are read when the node starts.

    Every connection of the node then uses TLS, as with ``-proto_dist inet_tls`` of OTP. Both sides show a certificate,
    and both check the certificate of the other. When a file changes, the next connection uses the new files. While the
    new files are not valid, the node keeps the old ones and logs why.
    """

    cert: FilePath
    """The certificate of this node, and behind it those of intermediate CAs, if there are any."""
    key: FilePath
    """The private key of the certificate, without a passphrase."""
    ca: FilePath
    """The certificates of the CAs that sign the certificates of nodes."""
    minimum_version: str = "1.2"
    """``1.2`` or ``1.3``. The highest version that both nodes have is used."""
    verify_host: bool = True
    """A node that this node connects to must show a certificate with the host of its node name, as OTP requires it."""
    verify_caller_host: bool = False
    """A node that connects to this node must do the same. With an allow-list it must in any case."""

    def __post_init__(self) -> None:
        for name in ("cert", "key", "ca"):
            value = getattr(self, name)
            if not isinstance(value, str | os.PathLike) or not os.fspath(value):
                raise ValueError(f"{name} of TlsConfig is the path of a PEM file, not {value!r}")
        if self.minimum_version not in MINIMUM_VERSIONS:
            raise ValueError(f"minimum_version of TlsConfig is '1.2' or '1.3', not {self.minimum_version!r}")
