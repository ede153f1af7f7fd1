"""Identifiers, funs, bitstrings and improper lists.

All are frozen and compare by value. They are opaque where Erlang's are.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from erlmesh.records import field, record
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


@record(frozen=True, repr=False)
class Pid(ErlangStr):
    """A process identifier.

    ``creation`` distinguishes the incarnations of a node. Two pids that differ only there print alike but are not
    equal. All numbers are 0 … 2³²-1. The ``str`` is ``<0.64.0>``, the ``repr`` is ``#PID<0.64.0>``.
    """

    node: Atom
    id: int
    serial: int
    creation: int

    def __repr__(self) -> str:
        return f"#PID{self}"

    # Pids and references are the keys of most tables, so these two are written out: they take half as long.

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pid):
            return NotImplemented
        return (self.id, self.serial, self.node, self.creation) == (other.id, other.serial, other.node, other.creation)

    def __hash__(self) -> int:
        return hash((self.node, self.id, self.serial, self.creation))


@record(frozen=True, repr=False)
class Port(_ErlangRepr):
    """A port identifier. Ports exist on BEAM nodes only, so the value is opaque. ``id`` is 0 … 2⁶⁴-1."""

    node: Atom
    id: int
    creation: int


@record(frozen=True, repr=False)
class Ref(_ErlangRepr):
    """A reference. ``words`` holds one to five 32-bit words in wire order; the printed form has them in reverse."""

    node: Atom
    creation: int
    words: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return (self.words, self.node, self.creation) == (other.words, other.node, other.creation)

    def __hash__(self) -> int:
        return hash((self.node, self.creation, self.words))


@record(frozen=True, repr=False)
class Export(_ErlangRepr):
    """``fun Module:Function/Arity``. It is opaque: a name from the wire is never called. ``arity`` is 0 … 255."""

    module: Atom
    function: Atom
    arity: int


@record(frozen=True, repr=False)
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


@record(frozen=True, repr=False)
class ImproperList(_ErlangRepr):
    """``[a, b | tail]``: a list with at least one element and a tail that is not a list."""

    elements: tuple[Term, ...]
    tail: Term

    def __post_init__(self) -> None:
        if not self.elements:
            raise ValueError("an improper list has at least one element before its tail")
        if isinstance(self.tail, (list, ImproperList)):
            raise TypeError("the tail of an improper list cannot be a list: concatenate the two instead")


@record(frozen=True, repr=False)
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
