"""Decides which requests are answered.

On loopback, every program of this machine may look. A page of another origin must not: its author could have a name
that resolves to 127.0.0.1 (DNS rebinding), so the header ``Host`` has to be a name of loopback. On other addresses a
token is needed; then the name does not matter, because a cookie belongs to one name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from erlmesh.web.addresses import host_of_header, is_loopback_name

__all__ = ["HEADERS", "MIN_TOKEN", "Guard", "Refusal"]

Refusal = tuple[int, str]
"""A status, and the sentence for the user."""
MIN_TOKEN: Final = 16
"""Characters of a token. Shorter ones can be guessed."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""The headers of every answer."""


class Guard:
    """Checks requests. ``token`` is None if none is needed. ``csrf`` is the secret of the buttons."""

    def __init__(self, token: str | None, csrf: str, port: int) -> None:
        self._token = token
        self._csrf = csrf
        self.cookie = f"erlmesh_map_{port}"
        """The name of the cookie. Cookies do not tell ports apart, so it has the port."""

    def refusal(
        self, headers: Mapping[str, str], cookies: Mapping[str, str], query_token: str | None
    ) -> Refusal | None:
        """Return why a request is refused; None if it is answered. The names of ``headers`` are lower-case."""
        host = headers.get("host", "")
        if self._token is None and not is_loopback_name(host_of_header(host)):
            return 403, "This page answers only on 127.0.0.1 or localhost. Use one of these names, or a token."
        origin = headers.get("origin")
        if origin is not None and origin.partition("//")[2] != host:
            return 403, "A page of another origin has asked. Open this page by its own address."
        site = headers.get("sec-fetch-site", "none")  # old browsers do not send it
        if site not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            return 403, "A page of another site has asked. Open this page by its own address."
        if self._token is not None and not self._is_known(headers, cookies, query_token):
            return 401, "A token is needed. Open the address that the command has printed: it ends with ?token=…"
        return None

    def _is_known(self, headers: Mapping[str, str], cookies: Mapping[str, str], query_token: str | None) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = (query_token, cookies.get(self.cookie), bearer if scheme.lower() == "bearer" else None)
        return any([self.is_token(each) for each in given if each is not None])  # noqa: C419 - no short cut

    def is_token(self, text: str) -> bool:
        """Compare in a time that does not depend on the text."""
        return self._token is not None and _is_equal(text, self._token)

    def control_refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request that changes something is refused, beside :meth:`refusal`."""
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "The body must be application/json."
        if not _is_equal(headers.get("x-csrf-token", ""), self._csrf):
            return 403, "The request has no valid CSRF token. Load the page again."
        return None


def _is_equal(text: str, secret: str) -> bool:
    # Hashes have one length, so the time tells nothing of the length of the secret either.
    return hmac.compare_digest(_hash(text), _hash(secret))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
