"""By which names a browser may ask for the page."""

from __future__ import annotations

import ipaddress

__all__ = ["LOOPBACK", "host_of_header", "is_loopback_name"]

LOOPBACK = "127.0.0.1"


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
