"""Erlang terms that Python has no type for: frozen values, no behaviour beyond equality, order and print.

How every term looks in Python (the codec in :mod:`erlmesh.etf` keeps this table, both ways):

==================  =========================================  =================================
Erlang              arrives as                                 is also accepted when sending
==================  =========================================  =================================
integer             ``int``                                    ``IntEnum``
float               ``float`` (finite)
atom                :class:`Atom`
``true``/``false``  ``True`` / ``False``                       ``Atom("true")``, ``Atom("false")``
tuple               ``tuple``
list                ``list`` (a "string" is a list of ints)
improper list       :class:`ImproperList`
binary              ``bytes``                                  ``str`` (UTF-8), ``bytearray``, ``memoryview``
bitstring           :class:`BitString`
map                 :class:`Map`                               ``dict``
pid, port, ref      :class:`Pid`, :class:`Port`, :class:`Ref`
fun, export         :class:`Fun`, :class:`Export`
==================  =========================================  =================================

``None`` is no term: Erlang says ``undefined`` and Elixir ``nil``, so the sender has to choose an :class:`Atom`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

__all__ = [
    "Atom",
    "BitString",
    "Export",
    "Fun",
    "ImproperList",
    "Map",
    "Pid",
    "Port",
    "Ref",
    "Term",
]

Term: TypeAlias = Any
"""Any value of the table above. (A precise recursive alias would help nobody who pattern-matches messages.)"""

MAX_ATOM_CHARACTERS: Final = 255


class Atom:
    """An Erlang atom: a name that is equal to itself and to nothing else, least of all to a ``str``.

    Atoms are interned for as long as somebody holds them, so equality is identity and costs nothing; names read
    from the wire are forgotten with the last reference (a BEAM keeps them for ever). ``Atom(name)`` raises
    ``ValueError`` for more than 255 characters and ``TypeError`` for anything but a ``str`` (or an ``Atom``,
    which is returned as it is).
    """

    __slots__ = ("__weakref__", "name")
    __match_args__ = ("name",)

    name: str

    def __new__(cls, name: str | Atom) -> Atom:
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

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415 - printing is the floor's other half

        return erlang(self)


_atoms: dict[str, weakref.ref[Atom]] = {}
_atoms_lock = threading.Lock()


def _intern(name: str | Atom) -> Atom:
    if type(name) is Atom:
        return name
    if not isinstance(name, str):
        raise TypeError(f"an atom's name is a str, not {type(name).__name__}")
    name = str(name)
    if len(name) > MAX_ATOM_CHARACTERS:
        raise ValueError(f"an atom has at most {MAX_ATOM_CHARACTERS} characters, this one has {len(name)}")
    with _atoms_lock:  # two threads must never hold two atoms of one name: equality is identity
        entry = _atoms.get(name)
        atom = entry() if entry is not None else None
        if atom is None:
            atom = object.__new__(Atom)
            object.__setattr__(atom, "name", name)
            _atoms[name] = weakref.ref(atom, _Forget(name))
        return atom


class _Forget:
    """Weak-reference callback; an object and not a closure, so that it holds the name alone."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, reference: weakref.ref[Atom]) -> None:
        # The name may have been interned anew between the atom's death and this call.
        if _atoms.get(self.name) is reference:
            del _atoms[self.name]


@dataclass(frozen=True, slots=True)
class Pid:
    """A process identifier. ``creation`` tells a node's life from its former ones: pids that differ only there
    print alike and are not equal. All numbers are 0 … 2³²-1. Prints as ``<0.64.0>``, ``repr`` as ``#PID<0.64.0>``.
    """

    node: Atom
    id: int
    serial: int
    creation: int

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)

    def __repr__(self) -> str:
        return f"#PID{self}"


@dataclass(frozen=True, slots=True)
class Port:
    """A port identifier of another node; opaque. ``id`` is 0 … 2⁶⁴-1."""

    node: Atom
    id: int
    creation: int

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference. ``words`` holds one to five 32-bit words in wire order; printing shows them in reverse."""

    node: Atom
    creation: int
    words: tuple[int, ...]

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Export:
    """``fun Module:Function/Arity``; opaque, never called by name from the wire."""

    module: Atom
    function: Atom
    arity: int

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Fun:
    """A closure of another node (tag 112): opaque, kept in its parts so that it can be sent on unchanged."""

    arity: int
    uniq: bytes
    index: int
    module: Atom
    old_index: int
    old_uniq: int
    pid: Pid
    free: tuple[Term, ...] = ()

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class ImproperList:
    """``[a, b | tail]``: at least one element, and a tail that is no list."""

    elements: tuple[Term, ...]
    tail: Term

    def __post_init__(self) -> None:
        if not self.elements:
            raise ValueError("an improper list has at least one element before its tail")
        if isinstance(self.tail, (list, ImproperList)):
            raise TypeError("the tail of an improper list is no list: join the two instead")

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)


@dataclass(frozen=True, slots=True)
class BitString:
    """A bitstring whose length is no multiple of eight: ``bits`` (1 … 7) of the last byte count, from the top.

    The unused low bits of the last byte must be zero, so that equal bitstrings are equal values.
    """

    data: bytes
    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:
            raise ValueError("a BitString uses 1 to 7 bits of its last byte; whole bytes are bytes")
        if not self.data:
            raise ValueError("a BitString has at least one byte")
        if self.data[-1] & ((1 << (8 - self.bits)) - 1):
            raise ValueError("the unused bits of the last byte must be zero")

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)


class Map(Mapping[Term, Term]):
    """An Erlang map: immutable, in the order it came, its keys told apart as Erlang does.

    ``1``, ``1.0`` and ``True`` are three keys, and lists and maps may be keys, neither of which a ``dict`` can do.
    Build one from pairs or from a mapping; a key given twice keeps its last value. ``m[key]`` raises ``KeyError``.
    Hashable when its values are terms, whether or not Python could hash them.
    """

    __slots__ = ("_hash", "_pairs")

    def __init__(self, items: Mapping[Term, Term] | Any = ()) -> None:
        from erlmesh.order import exact  # noqa: PLC0415

        pairs = items.items() if isinstance(items, Mapping) else items
        self._pairs: dict[Any, tuple[Term, Term]] = {exact(key): (key, value) for key, value in pairs}

    def __getitem__(self, key: Term) -> Term:
        from erlmesh.order import exact  # noqa: PLC0415

        try:
            return self._pairs[exact(key)][1]
        except KeyError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        from erlmesh.order import exact  # noqa: PLC0415

        return exact(key) in self._pairs

    def __iter__(self) -> Iterator[Term]:
        return (key for key, _ in self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Map, dict)):
            return NotImplemented
        from erlmesh.order import exact  # noqa: PLC0415

        return bool(exact(self) == exact(other))

    def __hash__(self) -> int:
        from erlmesh.order import exact  # noqa: PLC0415

        return hash(exact(self))

    def __repr__(self) -> str:
        return f"Map({{{', '.join(f'{key!r}: {value!r}' for key, value in self._pairs.values())}}})"

    def __str__(self) -> str:
        from erlmesh.notation import erlang  # noqa: PLC0415

        return erlang(self)
