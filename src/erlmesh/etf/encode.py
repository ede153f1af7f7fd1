"""The encoder of the external term format: one table with a short writer for each type.

A writer is called as ``writer(term, add, atoms)`` and passes its pieces to ``add``. Containers are written by
recursion. If a term is too deep for that, :func:`encode_term` starts again with :func:`_write_deep`. It uses the same
leaf writers but keeps the open containers in a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from math import isfinite
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Any, Final, TypeAlias

from erlmesh.collector import without_collector
from erlmesh.errors import EncodeError
from erlmesh.etf import tags
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, Term

__all__ = ["EncodedTerm", "encode", "encode_into", "encode_term"]

Add: TypeAlias = "Callable[[bytes], object]"
Atoms: TypeAlias = "Mapping[Atom, int]"
Writer: TypeAlias = "Callable[[Any, Add, Atoms], None]"
Opened: TypeAlias = "tuple[bytes, Iterable[Term]]"  # the header of a container and its children

_TRUE: Final = Atom("true")
_FALSE: Final = Atom("false")
_NO_ATOMS: Final[dict[Atom, int]] = {}
_VERSION: Final = bytes([tags.VERSION])
_NIL: Final = bytes([tags.NIL_EXT])
_STRING_LENGTH_LIMIT: Final = 65536  # STRING_EXT has a length of 16 bits; longer lists are written as LIST_EXT

_tag_i32 = Struct(">Bi").pack
_tag_u32 = Struct(">BI").pack
_tag_u16 = Struct(">BH").pack
_tag_f64 = Struct(">Bd").pack
_small_big = Struct(">BBB").pack
_large_big = Struct(">BIB").pack
_bits_head = Struct(">BIB").pack
_pid_numbers = Struct(">III").pack
_cached_pid = Struct(">BBBIII").pack
_v4_port_numbers = Struct(">QI").pack
_port_numbers = Struct(">II").pack
_fun_head = Struct(">IB16sII").pack
_FUN_HEAD_LENGTH: Final = 29  # size, arity, uniq, index and number of free variables; the size field counts itself

_SMALL_INTEGERS: Final = [bytes([tags.SMALL_INTEGER_EXT, number]) for number in range(256)]
_SMALL_TUPLES: Final = [bytes([tags.SMALL_TUPLE_EXT, arity]) for arity in range(256)]
_CACHE_REFS: Final = [bytes([tags.ATOM_CACHE_REF, index]) for index in range(256)]


def encode(term: Term) -> bytes:
    """Encode a standalone term, as ``term_to_binary(Term, [{minor_version, 2}])`` does. Raises ``EncodeError``."""
    return _VERSION + encode_term(term)


def encode_term(term: Term, atoms: Atoms | None = None) -> bytes:
    """Encode a term inside a distribution frame, without byte 131.

    ``atoms.get(atom)`` is called for every occurrence of an atom, in the order of the bytes. If it returns an index
    (0 … 255), the atom becomes a cache reference. If it returns None, the atom is written in full. Raises
    ``EncodeError``, which names the value that is not a term.
    """
    pieces: list[bytes] = []
    encode_into(term, pieces, _NO_ATOMS if atoms is None else atoms)
    return b"".join(pieces)


def encode_into(term: Term, pieces: list[bytes], atoms: Atoms) -> None:
    """Do the same as :func:`encode_term`, but append the bytes to ``pieces``. A binary is one piece, not a copy.

    If this raises, ``pieces`` may have got a part of the term.
    """
    start = len(pieces)
    try:
        try:
            _WRITERS[type(term)](term, pieces.append, atoms)
        except RecursionError:
            del pieces[start:]  # start again; `atoms` may be asked for the same atoms again
            # The garbage collector would look at all open containers again and again.
            without_collector(_write_deep, term, pieces, atoms)
    except StructError as error:
        raise EncodeError(f"a number or a length is out of range: {error}") from None


class EncodedTerm:
    """A term that is encoded once and sent to many. It may stand for ``term`` in :func:`encode_term`.

    ``data`` has no byte 131 and no cache references, so it fits into any frame of any connection. Raises
    ``EncodeError`` if ``term`` is not a term.
    """

    __slots__ = ("data", "term")

    def __init__(self, term: Term) -> None:
        self.term = term
        self.data = encode_term(term)

    @classmethod
    def of_data(cls, data: bytes) -> EncodedTerm:
        """The term that ``data`` is the encoding of. Its attribute ``term`` is None."""
        encoded = cls.__new__(cls)
        encoded.term = None
        encoded.data = data
        return encoded


def _write_encoded(encoded: EncodedTerm, add: Add, _atoms: Atoms) -> None:
    add(encoded.data)


# Atoms


def _write_atom(atom: Atom, add: Add, atoms: Atoms) -> None:
    index = atoms.get(atom)
    if index is not None:
        add(_CACHE_REFS[index])
        return
    name = atom.name.encode()
    length = len(name)
    if length <= 255:
        add(b"w%c%b" % (length, name))  # SMALL_ATOM_UTF8_EXT
    else:
        add(_tag_u16(tags.ATOM_UTF8_EXT, length) + name)


def _write_bool(truth: bool, add: Add, atoms: Atoms) -> None:
    _write_atom(_TRUE if truth else _FALSE, add, atoms)


# Numbers


def _write_integer(number: int, add: Add, _: Atoms) -> None:
    if 0 <= number <= 255:
        add(_SMALL_INTEGERS[number])
    elif -0x80000000 <= number <= 0x7FFFFFFF:
        add(_tag_i32(tags.INTEGER_EXT, number))
    else:
        _write_big(number, add)


def _write_big(number: int, add: Add) -> None:
    magnitude = abs(number)
    length = (magnitude.bit_length() + 7) // 8
    if length <= 255:
        add(_small_big(tags.SMALL_BIG_EXT, length, number < 0))
    else:
        add(_large_big(tags.LARGE_BIG_EXT, length, number < 0))
    add(magnitude.to_bytes(length, "little"))


def _write_float(number: float, add: Add, _: Atoms) -> None:
    if not isfinite(number):
        raise EncodeError(f"Erlang has no float {number}: its floats are finite")
    add(_tag_f64(tags.NEW_FLOAT_EXT, number))


# Binaries


def _write_bytes(data: bytes, add: Add, _: Atoms) -> None:
    add(_tag_u32(tags.BINARY_EXT, len(data)))
    add(data)


def _write_buffer(data: bytearray | memoryview, add: Add, atoms: Atoms) -> None:
    _write_bytes(bytes(data), add, atoms)


def _write_str(text: str, add: Add, atoms: Atoms) -> None:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"a str is sent as UTF-8, and this one cannot be encoded: {error}") from None
    _write_bytes(data, add, atoms)


def _write_bits(bits: BitString, add: Add, _: Atoms) -> None:
    add(_bits_head(tags.BIT_BINARY_EXT, len(bits.data), bits.bits))
    add(bits.data)


# Identifiers


def _write_pid(pid: Pid, add: Add, atoms: Atoms) -> None:
    index = atoms.get(pid.node)
    if index is not None:  # in one piece for speed: every control tuple contains one or two pids
        add(_cached_pid(tags.NEW_PID_EXT, tags.ATOM_CACHE_REF, index, pid.id, pid.serial, pid.creation))
        return
    add(b"X")
    _write_atom(pid.node, add, _NO_ATOMS)
    add(_pid_numbers(pid.id, pid.serial, pid.creation))


def _write_port(port: Port, add: Add, atoms: Atoms) -> None:
    is_long = port.id >= 1 << 28  # peers without DFLAG_V4_NC read only NEW_PORT_EXT, whose ids have 28 bits
    add(b"x" if is_long else b"Y")
    _write_atom(port.node, add, atoms)
    add((_v4_port_numbers if is_long else _port_numbers)(port.id, port.creation))


def _write_ref(ref: Ref, add: Add, atoms: Atoms) -> None:
    count = len(ref.words)
    if not 1 <= count <= 5:
        raise EncodeError(f"a reference has 1 to 5 words, not {count}")
    add(_tag_u16(tags.NEWER_REFERENCE_EXT, count))
    _write_atom(ref.node, add, atoms)
    add(_WORDS[count](ref.creation, *ref.words))


_WORDS: Final = [Struct(f">{count + 1}I").pack for count in range(6)]


def _write_export(export: Export, add: Add, atoms: Atoms) -> None:
    if not 0 <= export.arity <= 255:
        raise EncodeError(f"the arity of an export must be 0 to 255, not {export.arity}")
    add(b"q")
    _write_atom(export.module, add, atoms)
    _write_atom(export.function, add, atoms)
    add(_SMALL_INTEGERS[export.arity])


# Containers


def _write_tuple(term: tuple[Term, ...], add: Add, atoms: Atoms) -> None:
    count = len(term)
    add(_SMALL_TUPLES[count] if count <= 255 else _tag_u32(tags.LARGE_TUPLE_EXT, count))
    for item in term:
        _WRITERS[type(item)](item, add, atoms)


def _write_list(term: list[Term], add: Add, atoms: Atoms) -> None:
    string = _as_string(term)
    if string is not None:
        add(string)
        return
    add(_tag_u32(tags.LIST_EXT, len(term)))
    for item in term:
        _WRITERS[type(item)](item, add, atoms)
    add(_NIL)


def _as_string(term: list[Term]) -> bytes | None:
    """Return a list as NIL_EXT or STRING_EXT if Erlang does so: an empty list, or a list of bytes only. Else None."""
    if not term:
        return _NIL
    if not isinstance(term[0], int) or len(term) >= _STRING_LENGTH_LIMIT:  # most lists leave here, at low cost
        return None
    try:
        data = bytes(term)
    except (TypeError, ValueError):
        return None
    # bytes() also accepts bools, which are atoms, and objects with __index__, which are not terms.
    if not all(issubclass(kind, int) and kind is not bool for kind in set(map(type, term))):
        return None
    return _tag_u16(tags.STRING_EXT, len(data)) + data


def _write_map(term: Map | dict[Term, Term], add: Add, atoms: Atoms) -> None:
    header, children = _open_map(term)
    add(header)
    for item in children:
        _WRITERS[type(item)](item, add, atoms)


def _write_improper(term: ImproperList, add: Add, atoms: Atoms) -> None:
    add(_tag_u32(tags.LIST_EXT, len(term.elements)))
    for item in chain(term.elements, (term.tail,)):
        _WRITERS[type(item)](item, add, atoms)


def _write_fun(fun: Fun, add: Add, atoms: Atoms) -> None:
    pieces: list[bytes] = []
    _write_fun_names(fun, pieces.append, atoms)
    for item in fun.free:
        _WRITERS[type(item)](item, pieces.append, atoms)
    add(_fun_header(fun, sum(map(len, pieces))))  # the header contains the size of all that follows
    for piece in pieces:
        add(piece)


def _fun_header(fun: Fun, length: int) -> bytes:
    """Return the head of a NEW_FUN_EXT. ``length`` is the size of all that follows, cache references as sent."""
    return b"p" + _fun_head(_FUN_HEAD_LENGTH + length, fun.arity, fun.uniq, fun.index, len(fun.free))


def _write_fun_names(fun: Fun, add: Add, atoms: Atoms) -> None:
    _write_atom(fun.module, add, atoms)
    _write_integer(fun.old_index, add, atoms)
    _write_integer(fun.old_uniq, add, atoms)
    _write_pid(fun.pid, add, atoms)


def _open_map(term: Map | dict[Term, Term]) -> Opened:
    if type(term) is not Map and not has_distinct_keys(term):  # a BEAM closes the connection for a duplicate key
        raise EncodeError("two keys of the dict are the same term, such as 'a' and b'a', or True and Atom('true')")
    return _tag_u32(tags.MAP_EXT, len(term)), chain.from_iterable(term.items())


def has_distinct_keys(term: Mapping[Term, Term]) -> bool:
    """Return whether no two keys of a dict are the same term."""
    kinds = set(map(type, term))
    return (len(kinds) == 1 and kinds <= _DISTINCT_KINDS) or len(Map(term)) == len(term)


_DISTINCT_KINDS: Final = frozenset({str, bytes, Atom, int, Pid})  # two keys of one such type differ as in Erlang


class _Writers(dict[type, Writer]):
    """The writers by type. For a subclass it returns the writer of its base: IntEnum is an int, NamedTuple a tuple."""

    def __missing__(self, kind: type) -> Writer:
        if kind is type(None):
            raise EncodeError("None is not an Erlang term: send Atom('undefined') to Erlang, or Atom('nil') to Elixir")
        for ancestor in kind.__mro__:
            if ancestor in self:
                return self[ancestor]
        raise EncodeError(f"{kind.__module__}.{kind.__qualname__} is not an Erlang term; erlmesh.terms lists all terms")


_LEAVES: Final[dict[type, Writer]] = {
    Atom: _write_atom,
    bool: _write_bool,
    int: _write_integer,
    float: _write_float,
    bytes: _write_bytes,
    str: _write_str,
    bytearray: _write_buffer,
    memoryview: _write_buffer,
    BitString: _write_bits,
    Pid: _write_pid,
    Port: _write_port,
    Ref: _write_ref,
    Export: _write_export,
    EncodedTerm: _write_encoded,
}
_WRITERS: Final = _Writers(
    _LEAVES
    | {
        tuple: _write_tuple,
        list: _write_list,
        Map: _write_map,
        dict: _write_map,
        ImproperList: _write_improper,
        Fun: _write_fun,
    }
)


# Terms of any depth


class _Output:
    """The pieces written so far and their total length, because a fun's header contains the length of the fun."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.length = 0

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.length += len(piece)


class _OpenContainer:
    """A container whose header is written, and whose children are not all written yet. ``end`` follows the last one."""

    __slots__ = ("children", "close", "end", "term")

    def __init__(
        self, term: Term, children: Iterable[Term], end: bytes = b"", close: Callable[[], object] | None = None
    ) -> None:
        self.term = term
        self.children: Iterator[Term] = iter(children)
        self.end = end
        self.close = close


def _write_deep(term: Term, pieces: list[bytes], atoms: Atoms) -> None:
    """Write a term of any depth. Raises EncodeError for a term that contains itself: it always ends up here."""
    output = _Output(pieces)
    opened = [_OpenContainer(None, (term,))]
    inside: set[int] = set()
    while opened:
        for item in opened[-1].children:
            container = _open(item, output, atoms)
            if container is None:
                _WRITERS[type(item)](item, output.add, atoms)
                continue
            if id(item) in inside:
                raise EncodeError(f"a {type(item).__name__} that contains itself is not an Erlang term")
            inside.add(id(item))
            opened.append(container)
            break
        else:
            done = opened.pop()
            inside.discard(id(done.term))
            if done.end:
                output.add(done.end)
            if done.close is not None:
                done.close()


def _open(term: Term, output: _Output, atoms: Atoms) -> _OpenContainer | None:
    """Write the header of a container and return it. For a term without children, write nothing and return None."""
    if type(term) in _LEAVES:
        return None
    if isinstance(term, tuple):
        output.add(_SMALL_TUPLES[len(term)] if len(term) <= 255 else _tag_u32(tags.LARGE_TUPLE_EXT, len(term)))
        return _OpenContainer(term, term)
    if isinstance(term, list):
        if _as_string(term) is not None:
            return None
        output.add(_tag_u32(tags.LIST_EXT, len(term)))
        return _OpenContainer(term, term, _NIL)
    match term:
        case ImproperList():
            output.add(_tag_u32(tags.LIST_EXT, len(term.elements)))
            return _OpenContainer(term, chain(term.elements, (term.tail,)))
        case Map() | dict():
            header, children = _open_map(term)
            output.add(header)
            return _OpenContainer(term, children)
        case Fun():
            return _open_fun(term, output, atoms)
    return None


def _open_fun(fun: Fun, output: _Output, atoms: Atoms) -> _OpenContainer:
    at, start = len(output.pieces), output.length
    output.add(b"")  # the place of the header, which `close` fills in when the length is known
    _write_fun_names(fun, output.add, atoms)

    def close() -> None:
        output.pieces[at] = _fun_header(fun, output.length - start)
        output.length += len(output.pieces[at])

    return _OpenContainer(fun, fun.free, close=close)
