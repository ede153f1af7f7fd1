"""Read what an X.509 certificate says (RFC 5280), without a check of its signature. No I/O.

:mod:`ssl` gives the content of a certificate only if it was verified. But a certificate that was refused is the one to
explain. So this reads the few fields that an explanation needs from its bytes (DER).
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from erlmesh.errors import CertificateError
from erlmesh.records import record
from erlmesh.terms.foreign_text import MAX_LENGTH, printable

__all__ = ["CertificateInfo", "pem_certificates", "read_certificate"]

_OBJECT_IDENTIFIER: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_EXTENSIONS: Final = 0xA3
_VERSION: Final = 0xA0
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87

_COMMON_NAME: Final = bytes.fromhex("550403")
_SUBJECT_ALTERNATIVE_NAME: Final = bytes.fromhex("551d11")
_EXTENDED_KEY_USAGE: Final = bytes.fromhex("551d25")
_PURPOSES: Final = {
    bytes.fromhex("2b06010505070301"): "serverAuth",
    bytes.fromhex("2b06010505070302"): "clientAuth",
}


@record(frozen=True)
class CertificateInfo:
    """The fields of a certificate that matter to nodes. Nothing of it is verified. Texts are printable."""

    subject: str
    """The common name; empty if there is none."""
    issuer: str
    """The common name of the CA."""
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...]
    """The DNS and IP entries, each once."""
    purposes: tuple[str, ...] | None
    """``serverAuth``, ``clientAuth``, if the certificate is limited to purposes; None if it is not."""


def pem_certificates(text: bytes) -> list[bytes]:
    """Return the DER bytes of each certificate in a PEM file. Raises CertificateError if one is damaged."""
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, re.DOTALL)
    try:
        return [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    except ValueError:
        raise CertificateError("a certificate in the file is damaged") from None


def read_certificate(der: bytes) -> CertificateInfo:
    """Return the fields of a certificate. Raises CertificateError if the bytes are not a certificate."""
    try:
        return _read(der)
    except (ValueError, IndexError, StopIteration, OverflowError):
        raise CertificateError("the bytes are not a certificate that can be read") from None


def _read(der: bytes) -> CertificateInfo:
    (_, certificate), *_ = _elements(der)
    (_, body), *_ = _elements(certificate)
    fields = list(_elements(body))
    if fields[0][0] == _VERSION:
        del fields[0]
    _serial, _algorithm, (_, issuer), (_, validity), (_, subject), *rest = fields
    start, end = (_read_time(tag, value) for tag, value in _elements(validity))
    extensions = dict(_extensions(rest))
    return CertificateInfo(
        _common_name(subject),
        _common_name(issuer),
        start,
        end,
        _hosts(extensions.get(_SUBJECT_ALTERNATIVE_NAME)),
        _purposes(extensions.get(_EXTENDED_KEY_USAGE)),
    )


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element. Raises ValueError if a length is wrong."""
    position = 0
    while position < len(data):
        tag, size, position = data[position], data[position + 1], position + 2
        if size & 0x80:
            digits = size & 0x7F
            if not 0 < digits <= 4:
                raise ValueError(size)
            size, position = int.from_bytes(data[position : position + digits], "big"), position + digits
        content = data[position : position + size]
        if len(content) != size:
            raise ValueError(size)
        yield tag, content
        position += size


def _extensions(fields: list[tuple[int, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the identifier and the value of each extension."""
    for tag, content in fields:
        if tag == _EXTENSIONS:
            ((_, extensions),) = _elements(content)
            for _, extension in _elements(extensions):
                (_, identifier), *_, (_, value) = _elements(extension)
                yield identifier, value


def _read_time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 to 99 are the last century
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(tag)
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _common_name(name: bytes) -> str:
    for _, relative in _elements(name):
        for _, attribute in _elements(relative):
            (tag, identifier), (_, value) = _elements(attribute)
            if tag == _OBJECT_IDENTIFIER and identifier == _COMMON_NAME:
                return _printable(value.decode("utf-8", "replace"))
    return ""


def _hosts(extension: bytes | None) -> tuple[str, ...]:
    if extension is None:
        return ()
    ((_, names),) = _elements(extension)
    found = []
    for tag, value in _elements(names):
        if tag == _DNS_NAME:
            found.append(_printable(value.decode("latin-1")))
        elif tag == _IP_ADDRESS:
            found.append(str(ipaddress.ip_address(value)))
    return tuple(dict.fromkeys(found))


def _printable(text: str) -> str:
    """Return the text of a certificate that may be another's, as it may be shown on a terminal."""
    return printable(text[:MAX_LENGTH])


def _purposes(extension: bytes | None) -> tuple[str, ...] | None:
    if extension is None:
        return None
    ((_, identifiers),) = _elements(extension)
    return tuple(_PURPOSES[value] for _, value in _elements(identifiers) if value in _PURPOSES)
