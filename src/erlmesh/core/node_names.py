"""Lists and dictionaries of node names that also find an :class:`Atom`."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, SupportsIndex, TypeVar, overload

from erlmesh.terms import Atom

__all__ = ["NodeNames", "NodeTable"]

D = TypeVar("D")
V = TypeVar("V")


class _NamesOrAtoms(Container[Atom | str]):
    """For type checkers: ``pid.node in names`` is a sensible question, although the items are texts."""

    __slots__ = ()


class NodeNames(_NamesOrAtoms, list[str]):
    """A list of node names (``str``). ``in``, ``index``, ``count`` and ``remove`` also accept an :class:`Atom`.

    An Atom is never equal to a ``str``, so in a plain list ``pid.node in node.nodes()`` would be False without a
    warning. Equality is that of a list: ``node.nodes() == ["plato@127.0.0.1"]``.
    """

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        return list.__contains__(self, _as_text(name))

    def index(self, name: Atom | str, start: SupportsIndex = 0, stop: SupportsIndex = 1 << 31, /) -> int:
        """The position of ``name``. Raises ``ValueError`` if it is not in the list."""
        return list.index(self, _as_text(name), start, stop)

    def count(self, name: Atom | str, /) -> int:
        """How often ``name`` is in the list."""
        return list.count(self, _as_text(name))

    def remove(self, name: Atom | str, /) -> None:
        """Removes ``name`` from this list (and disconnects nothing). Raises ``ValueError`` if it is not in the list."""
        list.remove(self, _as_text(name))


class NodeTable(_NamesOrAtoms, dict[str, V]):
    """A dictionary by node name (``str``). ``in``, ``[…]`` and ``get`` also accept an :class:`Atom`."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, _as_text(name))

    def __getitem__(self, name: Atom | str, /) -> V:
        return dict.__getitem__(self, _as_text(name))

    @overload
    def get(self, name: Atom | str, default: None = None, /) -> V | None: ...
    @overload
    def get(self, name: Atom | str, default: V | D, /) -> V | D: ...
    def get(self, name: Atom | str, default: Any = None, /) -> Any:
        """The value of ``name``, or ``default``."""
        return dict.get(self, _as_text(name), default)


def _as_text(name: object) -> str:
    text: object = name.name if isinstance(name, Atom) else name
    return text  # type: ignore[return-value]  # another type is equal to no name, which is what `in` has to find
