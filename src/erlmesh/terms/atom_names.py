"""Atoms as attributes of one name."""

from __future__ import annotations

from erlmesh.terms.atoms import Atom

__all__ = ["a"]


class AtomNames:
    """``a.ok`` is ``Atom("ok")``. It can stand in ``match`` patterns, also as a key of a mapping. ::

        match reply:
            case (a.ok, {a.id: int(number)}):
                ...

    A name that is not a Python identifier, or that is a keyword, is written ``a["Elixir.Shop.Order"]``; in a pattern
    such an atom is written ``Atom("in")``. Each atom that was used once is kept for the life of the program.
    """

    __slots__ = ("__dict__",)

    def __getattr__(self, name: str) -> Atom:
        if name.startswith("__") and name.endswith("__"):  # Python's own, which copy, pickle and inspect ask for
            raise AttributeError(name)
        atom = self.__dict__[name] = Atom(name)
        return atom

    def __getitem__(self, name: str) -> Atom:
        return Atom(name)

    def __repr__(self) -> str:
        return "a"


a = AtomNames()
