"""Interned atoms."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Final

from erlmesh.terms.printing import ErlangStr

__all__ = ["MAX_ATOM_CHARACTERS", "Atom"]

MAX_ATOM_CHARACTERS: Final = 255
"""OTP's limit (``MAX_ATOM_CHARACTERS`` in ``atom.h``). It counts characters, not bytes."""
RECENT_ATOMS: Final = 1_024
"""Atoms that are kept without a reference to them, about 100 KB: those that were created last."""


class Atom(ErlangStr):
    """An Erlang atom. It is equal only to the atom of the same name, and never to a ``str``.

    Atoms are interned while a reference to them exists, so equality is identity and costs nothing. The last 1,024 new
    atoms are kept in any case, so ``Atom("ok")`` in a loop is not created each time. All others are freed with the last
    reference; a BEAM keeps its atoms forever.

    ``Atom(name)`` takes a ``str``, or an ``Atom``, which it returns unchanged. It raises ``ValueError`` for more than
    255 characters and for a lone surrogate, and ``TypeError`` for any other type. An atom prints as Erlang writes it:
    ``ok``, ``'hello world'``.
    """

    __slots__ = ("__weakref__", "name")
    __match_args__ = ("name",)

    name: str

    def __new__(cls, name: str | Atom) -> Atom:  # noqa: PYI034 - final in all but name
        entry = _atoms.get(name)  # type: ignore[arg-type]  # an Atom is never a key
        if entry is not None:
            atom = entry()  # None if the atom was freed and its entry is not removed yet
            if atom is not None:
                return atom
        return name if type(name) is Atom else _intern(name)

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
_recent: deque[Atom] = deque(maxlen=RECENT_ATOMS)
# Reentrant: a garbage collection inside _intern can free another atom, and its callback takes the lock in this thread.
_atoms_lock = threading.RLock()


def _intern(name: str | Atom) -> Atom:
    if type(name) is Atom:
        return name
    if not isinstance(name, str):
        raise TypeError(f"an atom's name is a str, not {type(name).__name__}")
    name = str(name)  # an instance of a subclass of str becomes a plain str
    if len(name) > MAX_ATOM_CHARACTERS:
        raise ValueError(f"an atom has at most {MAX_ATOM_CHARACTERS} characters, this one has {len(name)}")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"an atom is Unicode text without lone surrogates, not {name!r}")
    with _atoms_lock:  # two threads must never create two atoms of the same name, because equality is identity
        entry = _atoms.get(name)
        atom = entry() if entry is not None else None
        if atom is None:
            atom = object.__new__(Atom)
            object.__setattr__(atom, "name", name)
            _atoms[name] = weakref.ref(atom, _RemoveInterned(name))
            _recent.append(atom)
        return atom


class _RemoveInterned:
    """Weak-reference callback that removes a freed atom. It is an object, not a closure, so it holds only the name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, reference: weakref.ref[Atom]) -> None:
        with _atoms_lock:
            # The name may have been interned again after the atom was freed and before this call.
            if _atoms.get(self.name) is reference:
                del _atoms[self.name]
