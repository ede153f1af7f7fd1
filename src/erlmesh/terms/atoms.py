"""Atoms, interned."""

from __future__ import annotations

import threading
import weakref
from typing import Final

from erlmesh.terms.printing import ErlangStr

__all__ = ["MAX_ATOM_CHARACTERS", "Atom"]

MAX_ATOM_CHARACTERS: Final = 255


class Atom(ErlangStr):
    """An Erlang atom: a name that is equal to itself and to nothing else, least of all to a ``str``.

    Atoms are interned for as long as somebody holds them, so equality is identity and costs nothing; names read
    from the wire are forgotten with the last reference (a BEAM keeps them for ever). ``Atom(name)`` raises
    ``ValueError`` for more than 255 characters or a lone surrogate, and ``TypeError`` for anything but a ``str`` (or
    an ``Atom``, which is returned as it is). Prints as Erlang writes it: ``ok``, ``'hello world'``.
    """

    __slots__ = ("__weakref__", "name")
    __match_args__ = ("name",)

    name: str

    def __new__(cls, name: str | Atom) -> Atom:  # noqa: PYI034 - final in all but name
        entry = _atoms.get(name)  # type: ignore[arg-type]
        if entry is not None:
            atom = entry()
            if atom is not None:
                return atom
        return _intern(name)

    def __setattr__(self, attribute: str, value: object) -> None:
        raise AttributeError(f"an Atom is immutable: cannot set {attribute!r}")

    def __delattr__(self, attribute: str) -> None:
        raise AttributeError(f"an Atom is immutable: cannot delete {attribute!r}")

    def __reduce__(self) -> tuple[type[Atom], tuple[str]]:
        return Atom, (self.name,)

    def __copy__(self) -> Atom:
        return self

    def __deepcopy__(self, memo: object) -> Atom:
        return self

    def __repr__(self) -> str:
        return f"Atom({self.name!r})"


_atoms: dict[str, weakref.ref[Atom]] = {}
_atoms_lock = threading.RLock()  # an atom may die, and be forgotten, while its thread interns another one


def _intern(name: str | Atom) -> Atom:
    if type(name) is Atom:
        return name
    if not isinstance(name, str):
        raise TypeError(f"an atom's name is a str, not {type(name).__name__}")
    name = str(name)
    if len(name) > MAX_ATOM_CHARACTERS:
        raise ValueError(f"an atom has at most {MAX_ATOM_CHARACTERS} characters, this one has {len(name)}")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"an atom is Unicode text, and a lone surrogate is none: {name!r}")
    with _atoms_lock:  # two threads must never hold two atoms of one name: equality is identity
        entry = _atoms.get(name)
        atom = entry() if entry is not None else None
        if atom is None:
            atom = object.__new__(Atom)
            object.__setattr__(atom, "name", name)
            _atoms[name] = weakref.ref(atom, _RemoveInterned(name))
        return atom


class _RemoveInterned:
    """Weak-reference callback; an object and not a closure, so that it holds the name alone."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, reference: weakref.ref[Atom]) -> None:
        with _atoms_lock:
            # The name may have been interned anew between the atom's death and this call.
            if _atoms.get(self.name) is reference:
                del _atoms[self.name]
