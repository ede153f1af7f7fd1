"""The head of an HTTP request, as the server of the page reads it. No I/O.

A connection carries one request, and a body has a length. So nothing that follows a request can be read as another one
(request smuggling). What is not understood is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

from erlmesh.records import record

__all__ = ["MAX_HEAD", "Refusal", "Request", "parse_head"]

MAX_HEAD: Final = 16 * 1024
"""Bytes of a head, with the empty line at its end."""
MAX_FIELDS: Final = 100
MAX_PARAMETERS: Final = 20
_REQUEST_LINE: Final = re.compile(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.([01])")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")

Refusal = tuple[int, str]
"""A status, and the sentence for the user."""
NOT_HTTP: Final = 400, "This is not an HTTP request that the map understands."


@record(frozen=True)
class Request:
    """One request. The names of ``headers`` are lower-case; a header that came twice has both values."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    body_length: int


def parse_head(head: bytes) -> Request | Refusal:
    """Return the request with this head, which ends with an empty line, or why it is refused."""
    first, *lines = head[:-4].decode(errors="surrogateescape").split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        return NOT_HTTP
    method, target, minor = match.groups()
    if len(lines) > MAX_FIELDS:
        return 431, f"The request has more than {MAX_FIELDS} headers."
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return NOT_HTTP
        name, value = field[1].lower(), field[2].rstrip(" \t")
        separator = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
    if minor == "1" and "host" not in headers:
        return NOT_HTTP
    if "transfer-encoding" in headers:
        return 501, "The body of a request must have a length."
    length = headers.get("content-length", "0")
    if _LENGTH.fullmatch(length) is None:
        return NOT_HTTP
    path, _, query = target.partition("?")
    try:
        parameters = dict(reversed(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)))
    except ValueError:
        return NOT_HTTP
    return Request(method, unquote(path), parameters, headers, _cookies(headers.get("cookie", "")), int(length))


def _cookies(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        found.setdefault(name, unquote(value))
    return found
