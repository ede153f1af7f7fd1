"""The form in which Phoenix.Presence shows entries: grouped by key, ``%{key => %{metas: [meta]}}``.

Source: phoenix, ``lib/phoenix/presence.ex``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from erlmesh.terms import Atom, Map, Term

__all__ = ["Metas", "Presences", "grouped", "key_text"]

Metas: TypeAlias = "dict[str, list[Map]]"
"""``{"metas": [meta, ...]}``."""
Presences: TypeAlias = "dict[str, Metas]"


def grouped(entries: Iterable[tuple[Term, Map]]) -> Presences:
    """Group pairs of a key and a meta by the text of the key."""
    found: Presences = {}
    for key, meta in entries:
        found.setdefault(key_text(key), {"metas": []})["metas"].append(meta)
    return found


def key_text(key: Term) -> str:
    """The key as a text, as Elixir's ``to_string`` makes it. Keys that have none there get their printed form."""
    match key:
        case bytes():
            return key.decode("utf-8", "backslashreplace")
        case bool():
            return "true" if key else "false"
        case Atom():
            return "" if key.name == "nil" else key.name
        case list() if key and all(type(each) is int and 0 < each < 0x110000 for each in key):
            return "".join(map(chr, key))
    return str(key)
