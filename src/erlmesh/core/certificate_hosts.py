"""Decides whether a certificate fits the host of a node name. No I/O.

OTP's client does the same with ``public_key:pkix_verify_hostname/3``: the host must be one of the names of the
certificate. For an address OTP 25 takes a DNS entry with its text, and OTP 27 also an IP entry, so both are taken here.
In addition to OTP, ``*`` as the first label of a DNS entry stands for exactly one label (RFC 6125).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Certificate", "fits_host", "hosts_of"]

Certificate = Mapping[str, object]
"""What ``ssl.SSLObject.getpeercert()`` returns."""


def hosts_of(certificate: Certificate) -> list[str]:
    """Return the hosts that the certificate is for: its DNS and IP entries, or its common name if it has neither."""
    entries = _pairs(certificate.get("subjectAltName"))
    found = [value for kind, value in entries if kind in ("DNS", "IP Address")]
    if found:
        return list(dict.fromkeys(found))
    subject = certificate.get("subject")
    names = [pair for part in (subject if isinstance(subject, Sequence) else ()) for pair in _pairs(part)]
    return [value for kind, value in names if kind == "commonName"]


def fits_host(certificate: Certificate, host: str) -> bool:
    """Return whether the certificate is for ``host``, the part of a node name after the ``@``."""
    return any(_matches(each, host) for each in hosts_of(certificate))


def _pairs(value: object) -> list[tuple[str, str]]:
    items = value if isinstance(value, Iterable) and not isinstance(value, str) else ()
    return [(str(item[0]), str(item[1])) for item in items if isinstance(item, tuple) and len(item) == 2]


def _matches(entry: str, host: str) -> bool:
    address = _address(host)
    if address is not None:
        return _address(entry) == address
    entry, host = entry.lower().rstrip("."), host.lower().rstrip(".")
    if entry.startswith("*."):
        first, _, rest = host.partition(".")
        return bool(first) and "." in rest and entry[2:] == rest
    return entry == host


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
