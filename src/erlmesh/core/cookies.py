"""The cookies of one node: a default, and others for single peers, as in ``auth.erl``."""

from __future__ import annotations

from collections.abc import Mapping

from erlmesh.errors import HandshakeRefused
from erlmesh.terms import Atom

__all__ = ["Cookies"]


class Cookies:
    """``default`` is for each peer that ``by_node`` does not name; None if there is no cookie for these."""

    def __init__(self, default: str | None, by_node: Mapping[Atom, str] | Mapping[str, str]) -> None:
        """Raises ``ValueError`` if there is no cookie at all, or if one is not valid."""
        if default is None and not by_node:
            raise ValueError("a node needs a cookie, the secret its cluster shares; there is no default on purpose")
        self._default = None if default is None else _validated(default)
        self._by_node = {Atom(name).name: _validated(cookie) for name, cookie in by_node.items()}

    def set(self, name: str | None, cookie: str) -> None:
        """Set the cookie for the node ``name`` (None: the default). Raises ``ValueError`` if it is not valid."""
        if name is None:
            self._default = _validated(cookie)
        else:
            self._by_node[name] = _validated(cookie)

    def cookie_for(self, name: str) -> str:
        """Return the cookie for connections to and from the node ``name``. Raises HandshakeRefused if there is none."""
        cookie = self._by_node.get(name, self._default)
        if cookie is None:
            raise HandshakeRefused(f"there is no cookie for {name} on this node, and no default: set one for it")
        return cookie


def _validated(cookie: str) -> str:
    if not isinstance(cookie, str):
        raise ValueError(f"a cookie is text, not {type(cookie).__name__}")  # noqa: TRY004 - one kind of error for all
    if not 0 < len(cookie) <= 255 or not cookie.isascii():
        raise ValueError("a cookie is one or more ASCII characters, at most 255")
    return cookie
