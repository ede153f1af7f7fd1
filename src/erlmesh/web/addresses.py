"""Where the page listens, and by which names a browser may ask for it."""

from __future__ import annotations

import ipaddress
import re

from erlmesh.errors import NodeStartError

__all__ = ["LOOPBACK", "MapAddress", "host_of_header", "is_loopback_name", "parse_address"]

LOOPBACK = "127.0.0.1"

MapAddress = tuple[str, int]


def parse_address(text: str, source: str) -> MapAddress:
    """Return host and port of ``[HOST:]PORT``. Without a host it is this machine only. Raises NodeStartError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]:|([A-Za-z0-9_.-]+):)?(\d{1,5})", text.strip())
    if match is None or int(match[3]) > 65535:
        raise NodeStartError(f"{source} is {text!r}: it looks like 8080, 0.0.0.0:8080 or [::1]:8080")
    return match[1] or match[2] or LOOPBACK, int(match[3])


def is_loopback_name(host: str) -> bool:
    """Whether only this machine can reach ``host``. Another name than ``localhost`` may mean any address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of_header(header: str) -> str:
    """Return the host of the header ``Host``, or of an origin: without scheme, port and brackets."""
    host = header.partition("//")[2] or header
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
