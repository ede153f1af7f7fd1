"""The cookies of one node: one for all, and others for single peers, as ``auth.erl`` keeps them."""

from __future__ import annotations

from collections.abc import Mapping

from erlmesh.errors import HandshakeRefused
from erlmesh.terms import Atom

__all__ = ["Cookies"]


class Cookies:
    """``default`` is for every peer that ``others`` do not name; None if there is none for them."""

    def __init__(self, default: str | None, by_node: Mapping[Atom, str] | Mapping[str, str]) -> None:
        """Raises ``ValueError`` if there is no cookie at all, or one that can be none."""
        if default is None and not by_node:
            raise ValueError("a node needs a cookie, the secret its cluster shares; there is no default on purpose")
        self._default = None if default is None else _validated(default)
        self._by_node = {Atom(name).name: _validated(cookie) for name, cookie in by_node.items()}

    def set(self, name: str | None, cookie: str) -> None:
        """The cookie for the node ``name`` (None: for all that have none of their own). Raises ``ValueError``."""
        if name is None:
            self._default = _validated(cookie)
        else:
            self._by_node[name] = _validated(cookie)

    def cookie_for(self, name: str) -> str:
        """The cookie to use with that node, in both directions. Raises HandshakeRefused if there is none for it."""
        cookie = self._by_node.get(name, self._default)
        if cookie is None:
            raise HandshakeRefused(f"there is no cookie for {name} here, and none for all nodes: set one for it")
        return cookie


def _validated(cookie: str) -> str:
    if not isinstance(cookie, str):
        raise ValueError(f"a cookie is text, not {type(cookie).__name__}")  # noqa: TRY004 - one kind of error for all
    if not 0 < len(cookie) <= 255 or not cookie.isascii():
        raise ValueError("a cookie is one or more ASCII characters, at most 255")
    return cookie
