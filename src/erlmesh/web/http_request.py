"""The head of an HTTP request, as the server of the page reads it with h11. No I/O.

A connection carries one request, and a body has a length. So nothing that follows a request can be read as another one
(request smuggling). What is not understood is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

import h11

from erlmesh.records import record
from erlmesh.web.guard import Refusal

__all__ = ["MAX_HEAD", "Request", "parse_head"]

MAX_HEAD: Final = 16 * 1024
"""Bytes of a head, with the empty line at its end."""
MAX_FIELDS: Final = 100
MAX_PARAMETERS: Final = 20
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
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return NOT_HTTP
    if not isinstance(event, h11.Request) or not event.http_version.startswith(b"1."):
        return NOT_HTTP
    if connection.trailing_data[0]:  # for h11, two bare line feeds end a head too
        return NOT_HTTP
    if len(event.headers) > MAX_FIELDS:
        return 431, f"The request has more than {MAX_FIELDS} headers."
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:  # h11 has put the names in lower case
        name, value = raw_name.decode("ascii"), raw_value.decode(errors="surrogateescape")
        separator = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
    if "transfer-encoding" in headers:
        return 501, "The body of a request must have a length."
    target = event.target.decode("ascii")
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        return NOT_HTTP
    try:
        parameters = dict(reversed(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)))
    except ValueError:
        return NOT_HTTP
    cookies = _cookies(headers.get("cookie", ""))
    length = int(headers.get("content-length", "0"))
    return Request(event.method.decode("ascii"), unquote(path), parameters, headers, cookies, length)


def _cookies(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        found.setdefault(name, unquote(value))
    return found
