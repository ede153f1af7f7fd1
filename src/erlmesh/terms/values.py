"""Identifiers, funs, bitstrings and improper lists.

All are frozen and compare by value. They are opaque where Erlang's are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from erlmesh import native
from erlmesh.records import field, record
from erlmesh.terms.atoms import Atom
from erlmesh.terms.identifiers import ImproperList, Pid, Ref, unchecked_pid, unchecked_ref
from erlmesh.terms.printing import ErlangRepr

if not TYPE_CHECKING and native.module is not None:
    # The same classes in Rust. Type checkers see the Python classes.
    ImproperList, Pid, Ref = native.module.ImproperList, native.module.Pid, native.module.Ref
    unchecked_pid, unchecked_ref = Pid, Ref  # the native check costs nothing

__all__ = [
    "BitString",
    "Export",
    "Fun",
    "ImproperList",
    "Pid",
    "Port",
    "Ref",
    "Term",
    "unchecked_pid",
    "unchecked_ref",
]

Term: TypeAlias = Any
"""Any value of the table in :mod:`erlmesh.terms`. A precise recursive alias would not make type checks more useful."""


@record(frozen=True, repr=False)
class Port(ErlangRepr):
    """A port identifier. Ports exist on BEAM nodes only, so the value is opaque. ``id`` is 0 … 2⁶⁴-1."""

    node: Atom
    id: int
    creation: int

    def __hash__(self) -> int:  # keyed, like the hash of a pid
        return hash(self.node) ^ hash(f"{self.id:x} {self.creation:x}")


@record(frozen=True, repr=False)
class Export(ErlangRepr):
    """``fun Module:Function/Arity``. It is opaque: a name from the wire is never called. ``arity`` is 0 … 255."""

    module: Atom
    function: Atom
    arity: int


@record(frozen=True, repr=False)
class Fun(ErlangRepr):
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
class BitString(ErlangRepr):
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
