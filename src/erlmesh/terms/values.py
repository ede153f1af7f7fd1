"""Identifiers, funs, bitstrings and improper lists: frozen, compared by value, opaque where Erlang's are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from erlmesh.terms.atoms import Atom
from erlmesh.terms.printing import ErlangStr

__all__ = ["BitString", "Export", "Fun", "ImproperList", "Pid", "Port", "Ref", "Term"]

Term: TypeAlias = Any
"""Any value of the table in :mod:`erlmesh.terms`. (A precise recursive alias would help nobody.)"""


class _ErlangRepr(ErlangStr):
    """Prints alike in a list and alone."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Pid(ErlangStr):
    """A process identifier. ``creation`` tells a node's life from its former ones: pids that differ only there
    print alike and are not equal. All numbers are 0 … 2³²-1. Prints as ``<0.64.0>``, ``repr`` as ``#PID<0.64.0>``.
    """

    node: Atom
    id: int
    serial: int
    creation: int

    def __init__(self, node: Atom, id: int, serial: int, creation: int) -> None:
        # Pids come in by the hundred thousand, and the frozen dataclass's own way takes half as long again.
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
    """A port identifier of another node; opaque. ``id`` is 0 … 2⁶⁴-1."""

    node: Atom
    id: int
    creation: int


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Ref(_ErlangRepr):
    """A reference. ``words`` holds one to five 32-bit words in wire order; printing shows them in reverse."""

    node: Atom
    creation: int
    words: tuple[int, ...]

    def __init__(self, node: Atom, creation: int, words: tuple[int, ...]) -> None:  # as in Pid: every call makes one
        _set_ref_node(self, node)
        _set_ref_creation(self, creation)
        _set_ref_words(self, words)


_set_ref_node, _set_ref_creation, _set_ref_words = (
    getattr(Ref, field).__set__ for field in ("node", "creation", "words")
)


@dataclass(frozen=True, slots=True, repr=False)
class Export(_ErlangRepr):
    """``fun Module:Function/Arity``; opaque, never called by name from the wire. ``arity`` is 0 … 255."""

    module: Atom
    function: Atom
    arity: int


@dataclass(frozen=True, slots=True, repr=False)
class Fun(_ErlangRepr):
    """A closure of another node (tag 112): opaque, kept in its parts so that it can be sent on unchanged.

    ``uniq`` is the 16-byte MD5 of its module's code, ``free`` are the values of its free variables. As in Erlang, two
    funs are equal if they stand at the same place of the same module and hold the same values, whoever made them.
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
    """``[a, b | tail]``: at least one element, and a tail that is no list."""

    elements: tuple[Term, ...]
    tail: Term

    def __post_init__(self) -> None:
        if not self.elements:
            raise ValueError("an improper list has at least one element before its tail")
        if isinstance(self.tail, (list, ImproperList)):
            raise TypeError("the tail of an improper list is no list: join the two instead")


@dataclass(frozen=True, slots=True, repr=False)
class BitString(_ErlangRepr):
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
