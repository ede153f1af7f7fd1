"""Bytes to terms: one short reader for each tag, in one table.

A reader is called as ``reader(data, offset, atoms)`` with the offset after its tag, and returns the term and the
offset after that. Nothing is cut off the rest. A read past the end raises IndexError or struct.error, whichever
comes cheapest; the doors turn both into a DecodeError at the end of the data. All other faults are reported at the
tag (or, for a compressed term, at tag 80 whatever is wrong inside).

Containers are read by recursion. For terms that are too deep for it, the doors begin again with :func:`_read_deep`,
which shares every reader but keeps the open containers in a list.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from math import isfinite
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Any, Final, NoReturn, TypeAlias

from erlmesh.errors import DecodeError
from erlmesh.etf import tags
from erlmesh.terms import MAX_ATOM_CHARACTERS, Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, Term

__all__ = ["DEFAULT_MAX_LENGTH", "MAX_BIG_BYTES", "decode", "decode_term"]

DEFAULT_MAX_LENGTH: Final = 128 * 1024 * 1024
MAX_BIG_BYTES: Final = 512 * 1024  # 4 Mbit, as much as any OTP release calculates with
MAX_REFERENCE_WORDS: Final = 5

Atoms: TypeAlias = "Sequence[Atom]"
Reader: TypeAlias = "Callable[[bytes, int, Atoms], tuple[Any, int]]"
Header: TypeAlias = "Callable[[bytes, int, Atoms], tuple[int, Callable[[list[Term]], Term], int]]"

_TRUE: Final = Atom("true")
_FALSE: Final = Atom("false")

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from
_f64 = Struct(">d").unpack_from
_u32_u8 = Struct(">IB").unpack_from
_u32_u32 = Struct(">II").unpack_from
_u64_u32 = Struct(">QI").unpack_from
_pid_numbers = Struct(">III").unpack_from
_old_pid_numbers = Struct(">IIB").unpack_from
_fun_head = Struct(">IB16sII").unpack_from
_old_float = re.compile(rb"[ ]*([+-]?[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?)\0*\Z").match


def decode(data: bytes | bytearray | memoryview, *, max_length: int = DEFAULT_MAX_LENGTH) -> Term:
    """The term of ``data``, which starts with 131; bytes after the term are ignored.

    ``max_length`` bounds, in bytes, what a compressed term may claim to inflate to. ``DecodeError`` for anything
    that is no term.
    """
    data = bytes(data)
    if not data or data[0] != tags.VERSION:
        raise DecodeError("a term that stands alone starts with byte 131", 0)
    if data[1:2] == b"P":
        return _decode_compressed(data, max_length)
    return decode_term(data, 1)[0]


def decode_term(data: bytes, offset: int, atoms: Atoms = ()) -> tuple[Term, int]:
    """The term that starts at ``offset`` (with its tag: no 131), and the offset after it.

    ``atoms`` are what the cache references of the frame stand for. ``DecodeError`` for anything that is no term;
    a compressed term is none here.
    """
    try:
        return _READERS[data[offset]](data, offset + 1, atoms)
    except (IndexError, StructError):
        _ends_early(data)
    except RecursionError:
        pass
    try:
        return _read_deep(data, offset, atoms)
    except (IndexError, StructError):
        _ends_early(data)


def _decode_compressed(data: bytes, max_length: int) -> Term:
    try:
        (size,) = _u32(data, 2)
    except StructError:
        _ends_early(data)
    if size > max_length:
        raise DecodeError(f"a compressed term claims {size} bytes, more than the {max_length} allowed", 1)
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(memoryview(data)[6:], size + 1)
    except zlib.error as error:
        raise DecodeError(f"a compressed term does not inflate: {error}", 1) from None
    if len(inflated) != size or not inflater.eof:
        raise DecodeError(f"a compressed term does not inflate to the {size} bytes it claims", 1)
    try:
        return decode_term(inflated, 0)[0]
    except DecodeError as error:
        raise DecodeError(f"inside a compressed term: {error}", 1) from None


def _ends_early(data: bytes) -> NoReturn:
    raise DecodeError("the data ends inside a term", len(data)) from None


def _slice(data: bytes, start: int, length: int) -> bytes:
    end = start + length
    if end > len(data):
        _ends_early(data)
    return data[start:end]


def _check_count(data: bytes, offset: int, count: int) -> None:
    """Every element takes a byte at least, so a count beyond the end is a lie, refused before anything is built."""
    if count > len(data) - offset:
        _ends_early(data)


# Numbers


def _small_integer(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    return data[offset], offset + 1


def _integer(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    return _i32(data, offset)[0], offset + 4


def _float(data: bytes, offset: int, _: Atoms) -> tuple[float, int]:
    (number,) = _f64(data, offset)
    if not isfinite(number):
        raise DecodeError(f"a float is finite, not {number}", offset - 1)
    return number, offset + 8


def _text_float(data: bytes, offset: int, _: Atoms) -> tuple[float, int]:
    match = _old_float(_slice(data, offset, 31))
    number = float(match[1]) if match else float("nan")
    if not isfinite(number):
        raise DecodeError("the text of an old float is no finite number", offset - 1)
    return number, offset + 31


def _small_big(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    return _big(data, offset + 2, data[offset], data[offset + 1])


def _large_big(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    length, sign = _u32_u8(data, offset)
    if length > MAX_BIG_BYTES:
        raise DecodeError(f"an integer of {length} bytes, more than the {MAX_BIG_BYTES} allowed", offset - 1)
    return _big(data, offset + 5, length, sign)


def _big(data: bytes, start: int, length: int, sign: int) -> tuple[int, int]:
    magnitude = int.from_bytes(_slice(data, start, length), "little")
    return -magnitude if sign else magnitude, start + length


# Atoms: first the name itself, as identifiers need it; then as a term, in which true and false are bools


def _utf8_atom(data: bytes, start: int, length: int, tag_at: int) -> tuple[Atom, int]:
    try:
        name = _slice(data, start, length).decode()
    except UnicodeDecodeError:
        raise DecodeError("the name of an atom is no UTF-8", tag_at) from None
    return _named(name, tag_at), start + length


def _latin1_atom(data: bytes, start: int, length: int, tag_at: int) -> tuple[Atom, int]:
    return _named(_slice(data, start, length).decode("latin-1"), tag_at), start + length


def _named(name: str, tag_at: int) -> Atom:
    if len(name) > MAX_ATOM_CHARACTERS:
        raise DecodeError(f"an atom of {len(name)} characters, more than {MAX_ATOM_CHARACTERS}", tag_at)
    return Atom(name)


def _name_small_utf8(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    return _utf8_atom(data, offset + 1, data[offset], offset - 1)


def _name_utf8(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    return _utf8_atom(data, offset + 2, _u16(data, offset)[0], offset - 1)


def _name_small_latin1(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    return _latin1_atom(data, offset + 1, data[offset], offset - 1)


def _name_latin1(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    return _latin1_atom(data, offset + 2, _u16(data, offset)[0], offset - 1)


def _name_cached(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom, int]:
    index = data[offset]
    if index >= len(atoms):
        raise DecodeError(f"atom cache reference {index}, but there are {len(atoms)} in this frame", offset - 1)
    return atoms[index], offset + 1


def _as_term(read_name: Reader) -> Reader:
    def read(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom | bool, int]:
        atom, offset = read_name(data, offset, atoms)
        if atom is _TRUE:
            return True, offset
        if atom is _FALSE:
            return False, offset
        return atom, offset

    return read


def _cached(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom | bool, int]:
    """The way most atoms come in: the two steps of the others in one."""
    index = data[offset]
    if index >= len(atoms):
        _name_cached(data, offset, atoms)
    atom = atoms[index]
    if atom is _TRUE or atom is _FALSE:
        return atom is _TRUE, offset + 1
    return atom, offset + 1


def _not_an_atom(data: bytes, offset: int, _: Atoms) -> NoReturn:
    raise DecodeError(f"an atom is wanted here, not tag {data[offset - 1]}", offset - 1)


def _name(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom, int]:
    return _NAMES[data[offset]](data, offset + 1, atoms)


# Binaries and strings


def _binary(data: bytes, offset: int, _: Atoms) -> tuple[bytes, int]:
    start = offset + 4
    end = start + _u32(data, offset)[0]
    if end > len(data):
        _ends_early(data)
    return data[start:end], end


def _bit_binary(data: bytes, offset: int, _: Atoms) -> tuple[bytes | BitString, int]:
    length, bits = _u32_u8(data, offset)
    whole = _slice(data, offset + 5, length)
    end = offset + 5 + length
    if bits > 8 or (bits == 0) != (length == 0):
        raise DecodeError(f"a bitstring of {length} bytes cannot use {bits} bits of the last", offset - 1)
    if bits in (0, 8):
        return whole, end
    return BitString(whole[:-1] + bytes([whole[-1] & (0xFF00 >> bits)]), bits), end


def _string(data: bytes, offset: int, _: Atoms) -> tuple[list[int], int]:
    (length,) = _u16(data, offset)
    return list(_slice(data, offset + 2, length)), offset + 2 + length


def _nil(_data: bytes, offset: int, _: Atoms) -> tuple[list[Term], int]:
    return [], offset


# Identifiers


def _new_pid(data: bytes, offset: int, atoms: Atoms) -> tuple[Pid, int]:
    node, offset = _NAMES[data[offset]](data, offset + 1, atoms)
    return Pid(node, *_pid_numbers(data, offset)), offset + 12


def _old_pid(data: bytes, offset: int, atoms: Atoms) -> tuple[Pid, int]:
    node, offset = _name(data, offset, atoms)
    return Pid(node, *_old_pid_numbers(data, offset)), offset + 9


def _v4_port(data: bytes, offset: int, atoms: Atoms) -> tuple[Port, int]:
    node, offset = _name(data, offset, atoms)
    return Port(node, *_u64_u32(data, offset)), offset + 12


def _new_port(data: bytes, offset: int, atoms: Atoms) -> tuple[Port, int]:
    node, offset = _name(data, offset, atoms)
    return Port(node, *_u32_u32(data, offset)), offset + 8


def _old_port(data: bytes, offset: int, atoms: Atoms) -> tuple[Port, int]:
    node, offset = _name(data, offset, atoms)
    return Port(node, *_u32_u8(data, offset)), offset + 5


def _newer_reference(data: bytes, offset: int, atoms: Atoms) -> tuple[Ref, int]:
    count = _word_count(data, offset)
    node, offset = _name(data, offset + 2, atoms)
    creation, *words = _CREATION_WORDS[count].unpack_from(data, offset)
    return Ref(node, creation, tuple(words)), offset + 4 + 4 * count


def _new_reference(data: bytes, offset: int, atoms: Atoms) -> tuple[Ref, int]:
    count = _word_count(data, offset)
    node, offset = _name(data, offset + 2, atoms)
    return Ref(node, data[offset], _WORDS[count].unpack_from(data, offset + 1)), offset + 1 + 4 * count


def _word_count(data: bytes, offset: int) -> int:
    count: int = _u16(data, offset)[0]
    if not 1 <= count <= MAX_REFERENCE_WORDS:
        raise DecodeError(f"a reference has 1 to {MAX_REFERENCE_WORDS} words, not {count}", offset - 1)
    return count


_WORDS: Final = [Struct(f">{count}I") for count in range(MAX_REFERENCE_WORDS + 1)]
_CREATION_WORDS: Final = [Struct(f">{count + 1}I") for count in range(MAX_REFERENCE_WORDS + 1)]


def _old_reference(data: bytes, offset: int, atoms: Atoms) -> tuple[Ref, int]:
    node, offset = _name(data, offset, atoms)
    word, creation = _u32_u8(data, offset)
    return Ref(node, creation, (word,)), offset + 5


def _export(data: bytes, offset: int, atoms: Atoms) -> tuple[Export, int]:
    module, offset = _name(data, offset, atoms)
    function, offset = _name(data, offset, atoms)
    if data[offset] != tags.SMALL_INTEGER_EXT:
        raise DecodeError("the arity of an export is a small integer", offset)
    return Export(module, function, data[offset + 1]), offset + 2


# Containers. A header gives the count of the elements, what to make of them, and where they begin


def _small_tuple_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Callable[[list[Term]], Term], int]:
    return data[offset], tuple, offset + 1


def _large_tuple_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Callable[[list[Term]], Term], int]:
    return _u32(data, offset)[0], tuple, offset + 4


def _list_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Callable[[list[Term]], Term], int]:
    return _u32(data, offset)[0] + 1, _list_of, offset + 4


def _list_of(items: list[Term]) -> Term:
    tail = items.pop()
    if not items:
        return tail
    if type(tail) is list:
        items += tail
        return items
    if type(tail) is ImproperList:
        return ImproperList((*items, *tail.elements), tail.tail)
    return ImproperList(tuple(items), tail)


def _map_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Callable[[list[Term]], Term], int]:
    def map_of(items: list[Term]) -> Map:
        made = Map.of_distinct(items[::2], items[1::2])
        if made is None:
            raise DecodeError("a map with the same key twice", offset - 1)
        return made

    return _u32(data, offset)[0] * 2, map_of, offset + 4


def _fun_header(data: bytes, offset: int, atoms: Atoms) -> tuple[int, Callable[[list[Term]], Term], int]:
    _, arity, uniq, index, free_count = _fun_head(data, offset)
    module, offset = _name(data, offset + 29, atoms)
    old_index, offset = _fun_number(data, offset)
    old_uniq, offset = _fun_number(data, offset)
    if data[offset] not in (tags.NEW_PID_EXT, tags.PID_EXT):
        raise DecodeError("the creator of a fun is a pid", offset)
    pid, offset = _READERS[data[offset]](data, offset + 1, atoms)

    def fun_of(free: list[Term]) -> Fun:
        return Fun(arity, uniq, index, module, old_index, old_uniq, pid, tuple(free))

    return free_count, fun_of, offset


def _fun_number(data: bytes, offset: int) -> tuple[int, int]:
    if data[offset] not in (tags.SMALL_INTEGER_EXT, tags.INTEGER_EXT):
        raise DecodeError("the old numbers of a fun are integers", offset)
    return _READERS[data[offset]](data, offset + 1, ())


_HEADERS: Final[dict[int, Header]] = {
    tags.SMALL_TUPLE_EXT: _small_tuple_header,
    tags.LARGE_TUPLE_EXT: _large_tuple_header,
    tags.LIST_EXT: _list_header,
    tags.MAP_EXT: _map_header,
    tags.NEW_FUN_EXT: _fun_header,
}


def _small_tuple(data: bytes, offset: int, atoms: Atoms) -> tuple[tuple[Term, ...], int]:
    """What almost every message is, so without its header."""
    count = data[offset]
    offset += 1
    items = []
    for _ in range(count):
        item, offset = _READERS[data[offset]](data, offset + 1, atoms)
        items.append(item)
    return tuple(items), offset


def _container(read_header: Header) -> Reader:
    def read(data: bytes, offset: int, atoms: Atoms) -> tuple[Term, int]:
        count, build, offset = read_header(data, offset, atoms)
        _check_count(data, offset, count)
        items = []
        for _ in range(count):
            item, offset = _READERS[data[offset]](data, offset + 1, atoms)
            items.append(item)
        return build(items), offset

    return read


def _read_deep(data: bytes, offset: int, atoms: Atoms) -> tuple[Term, int]:
    """As the readers do, for terms of any depth: the containers that are still open wait in a list."""
    opened: list[tuple[list[Term], int, Callable[[list[Term]], Term]]] = []
    while True:
        read_header = _HEADERS.get(data[offset])
        if read_header is not None:
            count, build, offset = read_header(data, offset + 1, atoms)
            _check_count(data, offset, count)
            opened.append(([], count, build))
        else:
            item, offset = _READERS[data[offset]](data, offset + 1, atoms)
            if not opened:
                return item, offset
            opened[-1][0].append(item)
        while len(opened[-1][0]) == opened[-1][1]:
            items, _, build = opened.pop()
            item = build(items)
            if not opened:
                return item, offset
            opened[-1][0].append(item)


def _refuse(data: bytes, offset: int, _: Atoms) -> NoReturn:
    raise DecodeError(f"tag {data[offset - 1]} starts no term here", offset - 1)


def _table(readers: dict[int, Reader], otherwise: Reader) -> list[Reader]:
    return [readers.get(tag, otherwise) for tag in range(256)]


_NAMES_BY_TAG: Final[dict[int, Reader]] = {
    tags.ATOM_CACHE_REF: _name_cached,
    tags.SMALL_ATOM_UTF8_EXT: _name_small_utf8,
    tags.ATOM_UTF8_EXT: _name_utf8,
    tags.SMALL_ATOM_EXT: _name_small_latin1,
    tags.ATOM_EXT: _name_latin1,
}
_NAMES: Final = _table(_NAMES_BY_TAG, _not_an_atom)
_READERS: Final = _table(
    {tag: _container(read_header) for tag, read_header in _HEADERS.items()}
    | {tag: _as_term(read_name) for tag, read_name in _NAMES_BY_TAG.items()}
    | {
        tags.ATOM_CACHE_REF: _cached,
        tags.SMALL_TUPLE_EXT: _small_tuple,
        tags.SMALL_INTEGER_EXT: _small_integer,
        tags.INTEGER_EXT: _integer,
        tags.NEW_FLOAT_EXT: _float,
        tags.FLOAT_EXT: _text_float,
        tags.SMALL_BIG_EXT: _small_big,
        tags.LARGE_BIG_EXT: _large_big,
        tags.BINARY_EXT: _binary,
        tags.BIT_BINARY_EXT: _bit_binary,
        tags.STRING_EXT: _string,
        tags.NIL_EXT: _nil,
        tags.NEW_PID_EXT: _new_pid,
        tags.PID_EXT: _old_pid,
        tags.V4_PORT_EXT: _v4_port,
        tags.NEW_PORT_EXT: _new_port,
        tags.PORT_EXT: _old_port,
        tags.NEWER_REFERENCE_EXT: _newer_reference,
        tags.NEW_REFERENCE_EXT: _new_reference,
        tags.REFERENCE_EXT: _old_reference,
        tags.EXPORT_EXT: _export,
    },
    _refuse,
)
