"""Pids, references and improper lists in pure Python. The native part has the same three classes.

:mod:`erlmesh.terms.values` has the classes that are in use. These here raise the errors for wrong arguments in both
builds.

A peer chooses the numbers of its pids and references, and they are keys of most tables. So their hash is that of
packed bytes, which Python computes with a secret key (SipHash). The hash of a tuple of integers has no secret: a peer
could send many identifiers that collide.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Any

from erlmesh.records import record
from erlmesh.terms.atoms import Atom
from erlmesh.terms.printing import ErlangRepr, ErlangStr

__all__ = ["ImproperList", "Pid", "Ref", "unchecked_pid", "unchecked_ref"]

_new = object.__new__
_pack_three = Struct(">III").pack
_pack_words = (None, *[Struct(f">{count + 1}I").pack for count in range(1, 6)])  # by number of words; also the creation


class _HashSlot:
    """The slot of a cached hash. It is None until the hash is needed."""

    __slots__ = ("_hash",)

    _hash: int | None


@record(frozen=True, repr=False)
class Pid(_HashSlot, ErlangStr):
    """A process identifier.

    ``creation`` distinguishes the incarnations of a node. Two pids that differ only there print alike but are not
    equal. All numbers are 0 … 2³²-1; others raise ``ValueError``. The ``str`` is ``<0.64.0>``, the ``repr`` is
    ``#PID<0.64.0>``.
    """

    node: Atom
    id: int
    serial: int
    creation: int

    def __init__(self, node: Atom, id: int, serial: int, creation: int) -> None:
        if type(node) is not Atom:
            raise _not_an_atom("pid", node)
        try:
            _pack_three(id, serial, creation)  # the fastest check of three numbers
        except StructError:
            raise _out_of_range("pid", id, serial, creation) from None
        _set_node(self, node)
        _set_id(self, id)
        _set_serial(self, serial)
        _set_creation(self, creation)
        _set_hash(self, None)

    # Pids and references are the keys of most tables. With the methods of a record, a lookup takes 1.5 times as long.

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pid):
            return NotImplemented
        return (self.id, self.serial, self.node, self.creation) == (other.id, other.serial, other.node, other.creation)

    def __hash__(self) -> int:
        found = self._hash
        if found is None:
            found = hash(self.node) ^ hash(_pack_three(self.id, self.serial, self.creation))
            _set_hash(self, found)
        return found

    def __reduce__(self) -> tuple[type[Pid], tuple[Any, ...]]:  # a pickle can be read by both builds
        return type(self), (self.node, self.id, self.serial, self.creation)

    def __copy__(self) -> Pid:
        return self

    def __deepcopy__(self, memo: object) -> Pid:
        return self

    def __repr__(self) -> str:
        return f"#PID{self}"


class _OpenPid(_HashSlot, ErlangStr):
    """A pid while it is made: its slots can be assigned, which is five times as fast as the setters of a frozen record.

    It has the same slots as ``Pid``. So its class can become ``Pid``.
    """

    __slots__ = ("creation", "id", "node", "serial")


def unchecked_pid(node: Atom, id: int, serial: int, creation: int) -> Pid:
    """Make a pid of values that are known to be right: numbers of 32 bits from the wire."""
    pid: Any = _new(_OpenPid)
    pid.node = node
    pid.id = id
    pid.serial = serial
    pid.creation = creation
    pid._hash = None
    pid.__class__ = Pid
    return pid  # type: ignore[no-any-return]


Pid.__module__ = "erlmesh.terms.values"  # where a pickle finds the class in use, in both builds
_set_node, _set_id, _set_serial, _set_creation = (
    getattr(Pid, field).__set__ for field in ("node", "id", "serial", "creation")
)
_set_hash = vars(_HashSlot)["_hash"].__set__


@record(frozen=True, repr=False)
class Ref(_HashSlot, ErlangRepr):
    """A reference. ``words`` holds one to five 32-bit words in wire order; the printed form has them in reverse.

    Numbers that are not 0 … 2³²-1 raise ``ValueError``, and so does another number of words.
    """

    node: Atom
    creation: int
    words: tuple[int, ...]

    def __init__(self, node: Atom, creation: int, words: tuple[int, ...]) -> None:
        if type(node) is not Atom:
            raise _not_an_atom("reference", node)
        if type(words) is not tuple:
            raise TypeError(f"the words of a reference are a tuple, not {type(words).__name__}")
        if not 1 <= len(words) <= 5:
            raise ValueError(f"a reference has 1 to 5 words, not {len(words)}")
        try:
            _pack_words[len(words)](creation, *words)  # type: ignore[misc]  # not None: there is a word
        except StructError:
            raise _out_of_range("reference", creation, *words) from None
        _set_ref_node(self, node)
        _set_ref_creation(self, creation)
        _set_ref_words(self, words)
        _set_hash(self, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return (self.words, self.node, self.creation) == (other.words, other.node, other.creation)

    def __hash__(self) -> int:
        found = self._hash
        if found is None:
            packed: bytes = _pack_words[len(self.words)](self.creation, *self.words)  # type: ignore[misc]  # there is a word
            found = hash(self.node) ^ hash(packed)
            _set_hash(self, found)
        return found

    def __reduce__(self) -> tuple[type[Ref], tuple[Any, ...]]:
        return type(self), (self.node, self.creation, self.words)

    def __copy__(self) -> Ref:
        return self

    def __deepcopy__(self, memo: object) -> Ref:
        return self


class _OpenRef(_HashSlot, ErlangRepr):
    """A reference while it is made, see :class:`_OpenPid`."""

    __slots__ = ("creation", "node", "words")


def unchecked_ref(node: Atom, creation: int, words: tuple[int, ...]) -> Ref:
    """Make a reference of values that are known to be right: one to five words, and all numbers of 32 bits."""
    ref: Any = _new(_OpenRef)
    ref.node = node
    ref.creation = creation
    ref.words = words
    ref._hash = None
    ref.__class__ = Ref
    return ref  # type: ignore[no-any-return]


Ref.__module__ = "erlmesh.terms.values"
_set_ref_node, _set_ref_creation, _set_ref_words = (
    getattr(Ref, field).__set__ for field in ("node", "creation", "words")
)


@record(frozen=True, repr=False)
class ImproperList(ErlangRepr):
    """``[a, b | tail]``: a list with at least one element and a tail that is not a list.

    ``elements`` becomes a tuple. Raises ``ValueError`` without elements, and ``TypeError`` if the tail is a list.
    """

    elements: tuple[Any, ...]
    tail: Any

    def __post_init__(self) -> None:
        if type(self.elements) is not tuple:
            object.__setattr__(self, "elements", tuple(self.elements))
        if not self.elements:
            raise ValueError("an improper list has at least one element before its tail")
        if isinstance(self.tail, (list, ImproperList)):
            raise TypeError("the tail of an improper list cannot be a list: concatenate the two instead")

    def __reduce__(self) -> tuple[type[ImproperList], tuple[Any, ...]]:
        return type(self), (self.elements, self.tail)


ImproperList.__module__ = "erlmesh.terms.values"


def _not_an_atom(kind: str, node: object) -> TypeError:
    return TypeError(f"the node of a {kind} is an Atom, not {type(node).__name__}")


def _out_of_range(kind: str, *numbers: object) -> ValueError | TypeError:
    for number in numbers:
        if not isinstance(number, int):
            return TypeError(f"the numbers of a {kind} are ints, not {type(number).__name__}")
    wrong = next((number for number in numbers if not 0 <= number < 1 << 32), None)  # type: ignore[operator]
    return ValueError(f"the numbers of a {kind} are 0 to 2³²-1, not {wrong}")
