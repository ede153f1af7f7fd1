"""Reads maps and keyword lists, and the texts in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from erlmesh.terms import Atom, Map, Term
from erlmesh.terms.foreign_text import ForeignText, foreign_text
from erlmesh.typed.convert_error import Misfit
from erlmesh.typed.structs import STRUCT, module_name

__all__ = ["described", "field_name", "is_mapping", "pairs", "require_new_key", "text"]


def is_mapping(term: Term) -> bool:
    """True for a map and for a keyword list, also an empty one."""
    return isinstance(term, Map) or (isinstance(term, list) and all(map(_is_option, term)))


def pairs(term: Term) -> Iterable[tuple[Term, Term]]:
    """Return the pairs of a map or of a keyword list. Raises Misfit for anything else, and for a repeated key."""
    if isinstance(term, Map):
        return term.items()
    if not isinstance(term, list) or not all(map(_is_option, term)):
        raise Misfit(f"Expected a map or a keyword list, got {described(term)}")
    counts = Counter(key for key, _ in term)
    if len(counts) < len(term):
        repeated = next(key for key, count in counts.items() if count > 1)
        raise Misfit(f"the keyword list has the key {foreign_text(repeated.name)} more than once")
    return term


def require_new_key(key: Any, made: dict[Any, Any]) -> None:
    """Raise Misfit if the key cannot be in a dict, or is there already: ``1`` and ``1.0`` are one key in Python."""
    try:
        repeated = key in made
    except TypeError:
        raise Misfit(f"Expected a hashable key, got {described(key)}") from None
    if repeated:
        raise Misfit(f"the map has two keys that become {ForeignText(key)}")


def field_name(key: Term) -> str:
    """Return the name of a field. Raises Misfit for a key that is neither an atom nor a binary with UTF-8."""
    if type(key) is Atom:
        return key.name
    if isinstance(key, bytes):
        return str(text(key))
    raise Misfit(f"Expected atoms or strings as keys, got {described(key)}")


def text(term: Term) -> Any:
    """Return a binary with UTF-8 as text, and anything else as it is. Raises Misfit for any other binary."""
    if not isinstance(term, bytes):
        return term
    try:
        return term.decode()
    except UnicodeDecodeError:
        raise Misfit("Expected `str`, got a binary that is not UTF-8") from None


def described(term: Term) -> str:
    """Name the kind of a term, without its content."""
    if isinstance(term, Map) and type(term.get(STRUCT)) is Atom:
        return f"`{foreign_text(module_name(term[STRUCT]))}`"
    return f"`{foreign_text(term.name)}`, an atom" if type(term) is Atom else f"`{type(term).__name__}`"


def _is_option(term: Term) -> bool:
    return isinstance(term, tuple) and len(term) == 2 and type(term[0]) is Atom
