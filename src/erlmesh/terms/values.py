"""Identifiers, funs, bitstrings and improper lists.

All are frozen and compare by value. They are opaque where Erlang's are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from erlmesh.terms.atoms import Atom
from erlmesh.terms.printing import ErlangStr

__all__ = ["BitString", "Export", "Fun", "ImproperList", "Pid", "Port", "Ref", "Term"]

Term: TypeAlias = Any
"""Any value of the table in :mod:`erlmesh.terms`. A precise recursive alias would not make type checks more useful."""


class _ErlangRepr(ErlangStr):
    """Base of terms whose ``repr`` equals their ``str``, so that they print alike alone and inside a list."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Pid(ErlangStr):
    """A process identifier.

    ``creation`` distinguishes the incarnations of a node. Two pids that differ only there print alike but are not
    equal. All numbers are 0 … 2³²-1. The ``str`` is ``<0.64.0>``, the ``repr`` is ``#PID<0.64.0>``.
    """

    node: Atom
    id: int
    serial: int
    creation: int

    def __init__(self, node: Atom, id: int, serial: int, creation: int) -> None:
        # A connection can carry hundreds of thousands of pids. The generated __init__ of a frozen dataclass takes 1.5
        # times as long, because it sets each field through object.__setattr__.
        _set_node(self, node)
        _set_id(self, id)
        _set_serial(self, serial)
        _set_creation(self, creation)

    def __repr__(self) -> str:
        return f"#PID{self}"


_set_node, _set_id, _set_serial, _set_creation = (
    getattr(Pid, field).__set__ for field in ("node", "id", "serial", "creation")
)


@dataclass(frozen=True, slots=True, repr=False)
class Port(_ErlangRepr):
    """A port identifier. Ports exist on BEAM nodes only, so the value is opaque. ``id`` is 0 … 2⁶⁴-1."""

    node: Atom
    id: int
    creation: int


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Ref(_ErlangRepr):
    """A reference. ``words`` holds one to five 32-bit words in wire order; the printed form has them in reverse."""

    node: Atom
    creation: int
    words: tuple[int, ...]

    def __init__(
        self, node: Atom, creation: int, words: tuple[int, ...]
    ) -> None:  # for speed, as in Pid: every call makes a reference
        _set_ref_node(self, node)
        _set_ref_creation(self, creation)
        _set_ref_words(self, words)


_set_ref_node, _set_ref_creation, _set_ref_words = (
    getattr(Ref, field).__set__ for field in ("node", "creation", "words")
)


@dataclass(frozen=True, slots=True, repr=False)
class Export(_ErlangRepr):
    """``fun Module:Function/Arity``. It is opaque: a name from the wire is never called. ``arity`` is 0 … 255."""

    module: Atom
    function: Atom
    arity: int


@dataclass(frozen=True, slots=True, repr=False)
class Fun(_ErlangRepr):
    """A closure of another node (NEW_FUN_EXT, tag 112). It is opaque, but its parts are kept so that it can be sent on.

    ``uniq`` is the 16-byte MD5 of the module's code. ``free`` holds the values of the free variables. As in Erlang, two
    funs are equal if they have the same place in the same module and the same values. The creator does not matter.
    """

    arity: int = field(compare=False)
    uniq: bytes = field(compare=False)
    index: int
    module: Atom
    old_index: int = field(compare=False)
    old_uniq: int
    pid: Pid = field(compare=False)
    free: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class ImproperList(_ErlangRepr):
    """``[a, b | tail]``: a list with at least one element and a tail that is not a list."""

    elements: tuple[Term, ...]
    tail: Term

    def __post_init__(self) -> None:
        if not self.elements:
            raise ValueError("an improper list has at least one element before its tail")
        if isinstance(self.tail, (list, ImproperList)):
            raise TypeError("the tail of an improper list cannot be a list: concatenate the two instead")


@dataclass(frozen=True, slots=True, repr=False)
class BitString(_ErlangRepr):
    """A bitstring whose length is not a multiple of eight bits.

    ``bits`` (1 … 7) is the number of bits used in the last byte, from the most significant bit down. The unused low
    bits must be zero, so that equal bitstrings are equal values.
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
