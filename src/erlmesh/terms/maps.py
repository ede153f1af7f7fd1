"""Maps, and dictionary keys that distinguish terms as Erlang's ``=:=`` does. Each of the two needs the other.

A simple term is its own key, with small changes: a ``str`` becomes ``bytes``, a bool becomes its atom, a large integer
becomes its digits. The key of a term that contains terms is a digest of all its parts. Each part is marked with its
type and length. So a key is small and flat, whatever the size and depth of the term. A term from the wire cannot
overflow the stack.

A peer cannot construct colliding keys. Python hashes ``bytes`` and ``str`` with a secret key (SipHash), and every key
consists of these, of identifiers with a keyed hash, of atoms, whose hash is an address, and of at most one small
``int``. The hash of an ``int`` has no secret. But different ints below 2**60 have different hashes, and so have tuples
that differ in one such int. A dictionary uses all bits of a hash within 13 probes, so a peer gains a small factor only.
Two ints in a tuple could be chosen so that the whole hashes collide; they become digits. A node in whose environment
``PYTHONHASHSEED`` has a value that a peer knows has no such protection.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, ItemsView, Iterable, Iterator, Mapping, Sequence
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from erlmesh import native
from erlmesh.terms.atoms import Atom
from erlmesh.terms.printing import ErlangStr
from erlmesh.terms.values import BitString, Export, Fun, ImproperList, Pid, Port, Ref, Term

__all__ = ["Map", "MapParts", "exact_key"]

_TRUE: Final = Atom("true")
_FALSE: Final = Atom("false")
_SELF_KEYED: Final = frozenset({Atom, bytes, Pid, Port, Ref, Export, BitString})
_FLOAT: Final = object()  # these two mark keys that are not terms: no term from the wire can equal such a key
_DIGEST: Final = object()

_NO_ORIGINAL_KEYS: Final[dict[Hashable, Term]] = {}
"""What maps share whose keys are all their own exact keys. It is never changed."""

_FLAT_LENGTH: Final = 16
"""The elements of a term that is looked at for inner containers before its digest is computed."""

_SMALL: Final = 1 << 60
"""An ``int`` that is less than this, without its sign, is its own hash, but for -1."""

_pack_float = Struct(">d").pack


def exact_key(term: Term) -> Hashable:
    """Return a hashable key. Two keys are equal if and only if the terms are ``=:=`` in Erlang.

    ``1``, ``1.0`` and ``True`` have three different keys. ``0.0`` and ``-0.0`` have two, as in OTP 27. A ``str`` and
    the ``bytes`` of its UTF-8 have the same key. So have ``True`` and ``Atom("true")``, and a ``dict`` and its ``Map``.
    The key of an atom, a binary, a pid or a small integer is the term itself. The same holds for a tuple of these with
    at most one integer. The key of another integer is a ``str``.

    Raises ``TypeError`` for a value that is not a term, also for a list that contains itself. The time is linear in
    the size of the term; a ``Map`` caches its digest.
    """
    kind = type(term)
    if kind in _SELF_KEYED:
        return term  # type: ignore[no-any-return]
    if kind is int:
        return term if -_SMALL < term < _SMALL else hex(term)
    if kind is tuple:
        keys = tuple([_leaf_key(element) for element in term])
        if sum([type(key) is int for key in keys]) > 1:
            keys = tuple([hex(key) if type(key) is int else key for key in keys])
        return (_DIGEST, _digest(term)) if None in keys else keys
    key = None if kind is Map or kind is list else _leaf_key(term)
    return (_DIGEST, _digest(term)) if key is None else key


def _leaf_key(term: Term) -> Hashable:
    """Return the key of a term that contains no terms; None for a container."""
    kind = type(term)
    if kind in _SELF_KEYED:
        return term  # type: ignore[no-any-return]
    if kind is int:
        return term if -_SMALL < term < _SMALL else hex(term)
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


pure_exact_key: Final = exact_key
"""``exact_key`` in Python. The native one calls it for terms that are not simple."""

if not TYPE_CHECKING and native.module is not None:
    exact_key = native.module.exact_key


class Map(ErlangStr, Mapping[Term, Term]):
    """An Erlang map: immutable, in insertion order, with keys that compare as in Erlang.

    ``1``, ``1.0`` and ``True`` are three keys, and lists and maps may be keys; a ``dict`` can do neither. Build a map
    from pairs or from a mapping. If a key is given twice, the last value counts. ``m[key]`` raises ``KeyError`` for a
    missing key. A map is hashable if its values are terms, even if Python cannot hash them.
    """

    __slots__ = ("_digest", "_original_keys", "_values")

    _values: dict[Hashable, Term]  # by exact key
    _original_keys: dict[Hashable, Term]  # by exact key; only the keys that differ from their exact key
    _digest: bytes | None  # computed when it is first needed

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
        """Return the map of these keys and values; None if two keys are the same term.

        Both lists must have the same length.
        """
        made = cls.__new__(cls)
        made._digest = None
        if _SELF_KEYED.issuperset(map(type, keys)):  # the common case, without Python code for each pair
            made._values = dict(zip(keys, values, strict=True))
            made._original_keys = _NO_ORIGINAL_KEYS
        else:
            unique = [*map(exact_key, keys)]
            made._values = dict(zip(unique, values, strict=True))
            made._original_keys = {own: key for own, key in zip(unique, keys, strict=True) if own is not key}
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
        except TypeError:  # the dict contains a value that is not a term
            return False

    def __hash__(self) -> int:
        return hash(_digest(self))

    def __reduce__(self) -> tuple[type[Map], tuple[list[tuple[Term, Term]]]]:
        return Map, ([*self.items()],)  # without the keys, whose marks belong to this process

    def __repr__(self) -> str:
        return f"Map({{{', '.join(f'{key!r}: {value!r}' for key, value in self.items())}}})"


class MapParts:
    """Makes a large map in parts, so that other work can be done between two of them."""

    __slots__ = ("_count", "_original_keys", "_values")

    def __init__(self) -> None:
        self._values: dict[Hashable, Term] = {}
        self._original_keys: dict[Hashable, Term] = {}
        self._count = 0

    def add(self, keys: list[Term], values: list[Term]) -> None:
        """Add the pairs of these keys and values. Both lists must have the same length."""
        unique = [*map(exact_key, keys)]
        self._values.update(zip(unique, values, strict=True))
        self._original_keys.update({own: key for own, key in zip(unique, keys, strict=True) if own is not key})
        self._count += len(keys)

    def finish(self) -> Map | None:
        """Return the map; None if two keys are the same term. Nothing may be added after that."""
        if len(self._values) != self._count:
            return None
        made = Map.__new__(Map)
        made._digest, made._values = None, self._values
        made._original_keys = self._original_keys or _NO_ORIGINAL_KEYS
        return made


class _Items(ItemsView[Term, Term]):
    """The pairs of a map, without a look-up of each key."""

    __slots__ = ()

    def __init__(self, mapping: Map) -> None:
        self._mapping = mapping

    def __iter__(self) -> Iterator[tuple[Term, Term]]:
        return zip(iter(self._mapping), self._mapping._values.values(), strict=True)


def _digest(term: Term) -> bytes:
    """Return the digest of a term that contains terms, built bottom-up. It is a loop because a term may be deep."""
    known: bytes | None = term._digest if type(term) is Map else None
    if known is not None:
        return known
    pending: list[Any] = [term]
    parts: list[bytes] = []
    opened: set[int] = set()
    while pending:
        item = pending.pop()
        if type(item) is _PendingDigest:  # all its children are in `parts` now
            item.finish(parts)
            opened.discard(id(item.term))
            continue
        written = _leaf_bytes(item) or _flat_digest(item)
        if written is not None:
            parts.append(written)
            continue
        opening = _PendingDigest(item)
        if isinstance(item, (list, dict)):  # every cycle goes through one of these
            if id(item) in opened:
                raise TypeError(f"a {type(item).__name__} that contains itself is not an Erlang term")
            opened.add(id(item))
        pending.append(opening)
        pending.extend(opening.children)
    return parts[0]


@cache
def _blake2b() -> Callable[..., Any]:
    from hashlib import blake2b  # noqa: PLC0415 - it is slow to import, and a node compares maps late or never

    return blake2b


class _PendingDigest:
    """Lies on the stack below a term's children, and combines their parts into one.

    The children of a map are its values. Its keys need no visit: an exact key contains no terms, or is a digest.
    """

    __slots__ = ("children", "keys", "mark", "term")

    children: Sequence[Term]

    def __init__(self, term: Term) -> None:
        self.term = term
        self.keys: Iterable[Hashable] | None = None
        if isinstance(term, tuple):
            self.mark, self.children = b"t", term
        elif isinstance(term, list):
            self.mark, self.children = b"l", term
        elif isinstance(term, (Map, dict)):
            values = (term if isinstance(term, Map) else Map(term))._values
            self.mark, self.keys, self.children = b"m", reversed(values), [*values.values()]
        elif isinstance(term, ImproperList):
            self.mark, self.children = b"i", (*term.elements, term.tail)
        elif isinstance(term, Fun):  # the parts that Erlang compares
            self.mark, self.children = b"f", (term.module, term.index, term.old_uniq, *term.free)
        else:
            raise TypeError(f"{type(term).__name__} is not an Erlang term")

    def finish(self, parts: list[bytes]) -> None:
        start = len(parts) - len(self.children)
        parts[start:] = [self.digest(parts[start:])]

    def digest(self, parts: list[bytes]) -> bytes:
        """Return the digest. ``parts`` are those of the children, the last one first."""
        if self.keys is None:
            return _digest_of(self.mark, parts)
        digest = _map_digest(parts, self.keys)
        if type(self.term) is Map:
            self.term._digest = digest
        return digest


def _flat_digest(term: Term) -> bytes | None:
    """Return the digest of a short term without inner containers, with less work; None for any other term.

    A map whose digest is known is no inner container.
    """
    kind = type(term)
    if (kind is not Map and kind is not list and kind is not tuple) or len(term) > _FLAT_LENGTH:
        return None
    parts = [*map(_leaf_bytes, term._values.values() if kind is Map else reversed(term))]
    if None in parts:
        return None
    if kind is not Map:
        return _digest_of(b"t" if kind is tuple else b"l", parts)  # type: ignore[arg-type]  # there is no None
    digest = term._digest = _map_digest(parts, term._values)  # type: ignore[arg-type]
    return digest


def _map_digest(values: list[bytes], keys: Iterable[Hashable]) -> bytes:
    """Return the digest of a map with the parts of its values, and its exact keys in the same order."""
    return _digest_of(b"m", sorted(map(bytes.__add__, values, map(_key_bytes, keys))))  # a map has no order


def _digest_of(mark: bytes, parts: list[bytes]) -> bytes:
    text = b"%b%d:%b" % (mark, len(parts), b"".join(parts))
    return b"D" + _blake2b()(text, digest_size=24).digest()  # type: ignore[no-any-return]


def _key_bytes(key: Hashable) -> bytes:
    """Return the same as ``_leaf_bytes`` or ``_digest`` for the term with this exact key."""
    if type(key) is tuple and (not key or key[0] is not _FLOAT):
        return key[1] if key and key[0] is _DIGEST else _digest_of(b"t", [*map(_key_bytes, reversed(key))])
    writer: Callable[[Any], bytes] = _WRITERS[type(key)]
    return writer(key)


def _leaf_bytes(term: Term) -> bytes | None:
    """Return a leaf as bytes; None for a term with parts whose digest is not known yet.

    No leaf's bytes equal another leaf's bytes or the start of them.
    """
    kind = type(term)
    if kind is int:  # as `_WRITERS` does for its key
        return b"I%#x;" % term
    if kind is Map:
        return term._digest  # type: ignore[no-any-return]
    if kind is list or kind is tuple:
        return None if term else _empty_digest(b"t" if kind is tuple else b"l")
    key = _leaf_key(term)
    if key is None:
        return None
    writer: Callable[[Any], bytes] = _WRITERS[type(key)]
    return writer(key)


@cache
def _empty_digest(mark: bytes) -> bytes:
    return _digest_of(mark, [])


def _write_atom(atom: Atom) -> bytes:
    name = atom.name.encode()
    return b"a%d:%b" % (len(name), name)


_WRITERS: Final[dict[type, Any]] = {
    Atom: _write_atom,
    int: lambda number: b"I%#x;" % number,
    str: lambda digits: b"I%b;" % digits.encode(),  # an int
    tuple: lambda marked: b"F%b" % marked[1],  # a float
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
