"""Maps, and the dictionary keys that tell terms apart as Erlang's ``=:=`` does. Each needs the other.

A simple term is its own key (or nearly: a ``str`` becomes ``bytes``, a bool its atom). A term that contains terms is
told by a digest of all it holds, each part marked with its type and length. So a key is small and flat however
large and deep the term is, and a term from the wire can neither overflow the stack nor be made to collide.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, ItemsView, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from struct import Struct
from typing import Any, Final

from erlmesh.terms.atoms import Atom
from erlmesh.terms.printing import ErlangStr
from erlmesh.terms.values import BitString, Export, Fun, ImproperList, Pid, Port, Ref, Term

__all__ = ["Map", "exact_key"]

_TRUE: Final = Atom("true")
_FALSE: Final = Atom("false")
_SELF_KEYED: Final = frozenset({Atom, bytes, Pid, Port, Ref, Export, BitString})
_FLOAT: Final = object()  # marks the keys that are no terms themselves: no term from the wire is equal to one
_BIG: Final = object()
_DIGEST: Final = object()
_SMALL_INT_LIMIT: Final = 1 << 60  # Python's hash folds longer integers, so a peer could choose many that collide

_pack_float = Struct(">d").pack


def exact_key(term: Term) -> Hashable:
    """A hashable key: two keys are equal if and only if the terms are ``=:=`` in Erlang.

    ``1``, ``1.0`` and ``True`` have three keys, and so have ``0.0`` and ``-0.0`` (as in OTP 27). A ``str`` and the
    ``bytes`` of its UTF-8 have one, like ``True`` and ``Atom("true")``, or a ``dict`` and its ``Map``. The key of a
    plain atom, small integer, binary or pid, or of a tuple of such, is the term itself. ``TypeError`` for what is
    no term. Its time is linear in the size of the term, and a ``Map`` remembers its part.
    """
    kind = type(term)
    if kind in _SELF_KEYED:
        return term  # type: ignore[no-any-return]
    if kind is int:
        return term if -_SMALL_INT_LIMIT < term < _SMALL_INT_LIMIT else (_BIG, b"%x" % term)
    if kind is tuple:
        keys = tuple([_leaf_key(element) for element in term])
        return (_DIGEST, _digest(term)) if None in keys else keys
    key = _leaf_key(term)
    return (_DIGEST, _digest(term)) if key is None else key


def _leaf_key(term: Term) -> Hashable:
    """The key of a term that holds no terms; None for one that does."""
    kind = type(term)
    if kind in _SELF_KEYED:
        return term  # type: ignore[no-any-return]
    if kind is int:
        return term if -_SMALL_INT_LIMIT < term < _SMALL_INT_LIMIT else (_BIG, b"%x" % term)
    if kind is bool:
        return _TRUE if term else _FALSE
    if isinstance(term, str):
        return term.encode()
    if isinstance(term, float):
        return (_FLOAT, _pack_float(term))
    if isinstance(term, int):
        return _leaf_key(int(term))
    if isinstance(term, (bytes, bytearray, memoryview)):
        return bytes(term)
    return None


class Map(ErlangStr, Mapping[Term, Term]):
    """An Erlang map: immutable, in the order it came, its keys told apart as Erlang does.

    ``1``, ``1.0`` and ``True`` are three keys, and lists and maps may be keys, neither of which a ``dict`` can do.
    Build one from pairs or from a mapping; a key given twice keeps its last value. ``m[key]`` raises ``KeyError``.
    Hashable when its values are terms, whether or not Python could hash them.
    """

    __slots__ = ("_digest", "_original_keys", "_values")

    _values: dict[Hashable, Term]  # by the exact key
    _original_keys: dict[Hashable, Term]  # how the keys came that are not their own exact key
    _digest: bytes | None

    def __init__(self, items: Mapping[Term, Term] | Iterable[tuple[Term, Term]] = ()) -> None:
        self._values = {}
        self._original_keys = {}
        self._digest = None
        for key, value in items.items() if isinstance(items, Mapping) else items:
            unique = exact_key(key)
            self._values[unique] = value
            if unique is not key:
                self._original_keys[unique] = key

    @classmethod
    def from_distinct(cls, keys: list[Term], values: list[Term]) -> Map | None:
        """The map of as many keys as values; None if two of the keys are one term."""
        made = cls(zip(keys, values, strict=True))
        return made if len(made._values) == len(keys) else None

    def __getitem__(self, key: Term) -> Term:
        try:
            return self._values[exact_key(key)]
        except (KeyError, TypeError):
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        try:
            return exact_key(key) in self._values
        except TypeError:
            return False

    def __iter__(self) -> Iterator[Term]:
        if not self._original_keys:
            return iter(self._values)
        return (self._original_keys.get(key, key) for key in self._values)

    def items(self) -> ItemsView[Term, Term]:
        return _Items(self)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, (Map, dict)):
            return NotImplemented
        if len(self) != len(other):
            return False
        try:
            return _digest(self) == _digest(other)
        except TypeError:  # a dict that holds what is no term
            return False

    def __hash__(self) -> int:
        return hash(_digest(self))

    def __repr__(self) -> str:
        return f"Map({{{', '.join(f'{key!r}: {value!r}' for key, value in self.items())}}})"


class _Items(ItemsView[Term, Term]):
    """Pairs without looking each key up."""

    __slots__ = ()

    def __init__(self, mapping: Map) -> None:
        self._mapping = mapping

    def __iter__(self) -> Iterator[tuple[Term, Term]]:
        return zip(iter(self._mapping), self._mapping._values.values(), strict=True)


def _digest(term: Term) -> bytes:
    """The digest of a term that contains terms, from its parts upwards; a loop, for terms of any depth."""
    pending: list[Any] = [term]
    parts: list[bytes] = []
    while pending:
        item = pending.pop()
        if type(item) is _PendingDigest:  # all its children have become parts
            item.finish(parts)
            continue
        written = _leaf_bytes(item)
        if written is not None:
            parts.append(written)
            continue
        mark, children = _mark_and_children(item)
        pending.append(_PendingDigest(item, mark, len(children)))
        pending.extend(children)
    return parts[0]


class _PendingDigest:
    """Waits below a term's children, to make one part of theirs."""

    __slots__ = ("count", "mark", "term")

    def __init__(self, term: Term, mark: bytes, count: int) -> None:
        self.term = term
        self.mark = mark
        self.count = count

    def finish(self, parts: list[bytes]) -> None:
        start = len(parts) - self.count
        mine = parts[start:]
        if self.mark == b"m":  # a map has no order: sort its pairs
            mine = sorted(value + key for value, key in zip(mine[::2], mine[1::2], strict=True))
        text = b"%b%d:%b" % (self.mark, len(mine), b"".join(mine))
        parts[start:] = [b"D" + blake2b(text, digest_size=24).digest()]
        if type(self.term) is Map:
            self.term._digest = parts[-1]


def _mark_and_children(term: Term) -> tuple[bytes, Any]:
    """The mark and the children of a term that contains terms."""
    if isinstance(term, tuple):
        return b"t", term
    if isinstance(term, list):
        return b"l", term
    if isinstance(term, ImproperList):
        return b"i", (*term.elements, term.tail)
    if isinstance(term, Map):
        return b"m", [*chain.from_iterable(term.items())]
    if isinstance(term, dict):
        return b"m", [*chain.from_iterable(Map(term).items())]
    if isinstance(term, Fun):
        return b"f", (term.module, term.index, term.old_uniq, *term.free)  # as Erlang compares them
    raise TypeError(f"{type(term).__name__} is no Erlang term")


def _leaf_bytes(term: Term) -> bytes | None:
    """A leaf as bytes that no other leaf, and no start of one, is equal to; None for a term with parts."""
    key = _leaf_key(term)
    if key is None:
        return term._digest if type(term) is Map else None
    writer: Callable[[Any], bytes] = _WRITERS[type(key)]
    return writer(key)


def _write_atom(atom: Atom) -> bytes:
    name = atom.name.encode()
    return b"a%d:%b" % (len(name), name)


def _write_marked(key: tuple[object, bytes]) -> bytes:
    mark, data = key
    return b"F%b" % data if mark is _FLOAT else b"I%b;" % data


_WRITERS: Final[dict[type, Any]] = {
    Atom: _write_atom,
    int: lambda number: b"I%x;" % number,
    tuple: _write_marked,
    bytes: lambda data: b"b%d:%b" % (len(data), data),
    BitString: lambda bits: b"B%d,%d:%b" % (len(bits.data), bits.bits, bits.data),
    Pid: lambda pid: b"p%x,%x,%x;%b" % (pid.id, pid.serial, pid.creation, _write_atom(pid.node)),
    Port: lambda port: b"o%x,%x;%b" % (port.id, port.creation, _write_atom(port.node)),
    Ref: lambda ref: (
        b"r%x,%d:%b%b"
        % (ref.creation, len(ref.words), b"".join(b"%x," % word for word in ref.words), _write_atom(ref.node))
    ),
    Export: lambda export: b"e%x;%b%b" % (export.arity, _write_atom(export.module), _write_atom(export.function)),
}
