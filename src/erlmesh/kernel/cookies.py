"""The cookies of one node: one for all, and others for single peers, as ``auth.erl`` keeps them."""

from __future__ import annotations

from collections.abc import Mapping

from erlmesh.errors import HandshakeRefused

__all__ = ["Cookies"]


class Cookies:
    """``default`` is for every peer that ``others`` do not name; None if there is none for them."""

    def __init__(self, default: str | None, others: Mapping[str, str]) -> None:
        """Raises ``ValueError`` if there is no cookie at all, or one that can be none."""
        if default is None and not others:
            raise ValueError("a node needs a cookie, the secret its cluster shares; there is no default on purpose")
        self._default = None if default is None else _checked(default)
        self._others = {name: _checked(cookie) for name, cookie in others.items()}

    def set(self, name: str | None, cookie: str) -> None:
        """The cookie for the node ``name`` (None: for all that have none of their own). Raises ``ValueError``."""
        if name is None:
            self._default = _checked(cookie)
        else:
            self._others[name] = _checked(cookie)

    def cookie_for(self, name: str) -> str:
        """The cookie to use with that node, in both directions. Raises HandshakeRefused if there is none for it."""
        cookie = self._others.get(name, self._default)
        if cookie is None:
            raise HandshakeRefused(f"there is no cookie for {name} here, and none for all nodes: set one for it")
        return cookie


def _checked(cookie: str) -> str:
    if not isinstance(cookie, str):
        raise ValueError(f"a cookie is text, not {type(cookie).__name__}")  # noqa: TRY004 - one kind of error for all
    if not 0 < len(cookie) <= 255 or not cookie.isascii():
        raise ValueError("a cookie is one or more ASCII characters, at most 255")
    return cookie
