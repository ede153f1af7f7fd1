"""The decoder of the external term format: one table with a short reader for each tag.

The readers of terms without parts are in :mod:`erlmesh.etf.decode_leaves`. Readers do not slice the rest of the data;
an offset moves through it. The error for truncated data has the offset of its end. Every other error has the offset of
the tag at fault. Any error inside a compressed term has the offset of its tag 80.

Containers are read by recursion. If a term is too deep for that, :func:`decode_term` starts again with
:func:`decode_in_slices`. It uses the same readers but keeps the open containers in a list. So it can also pause.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Final, NoReturn, TypeAlias

from erlmesh.errors import DecodeError
from erlmesh.etf import tags
from erlmesh.etf.decode_leaves import (
    LEAVES,
    Atoms,
    Reader,
    build_table,
    raise_truncated,
    read_integer,
    read_name,
    read_pid,
)
from erlmesh.terms import Fun, ImproperList, Map, Term
from erlmesh.terms.maps import MapParts

__all__ = ["DEFAULT_MAX_LENGTH", "SLICE_ITEMS", "decode", "decode_in_slices", "decode_term"]

DEFAULT_MAX_LENGTH: Final = 128 * 1024 * 1024
"""Bytes that a compressed term may inflate to."""
SLICE_ITEMS: Final = 1 << 14
"""Terms that are begun or made in one slice, also those inside of others. It takes 5 to 60 ms in Python."""
STRING_BYTES_OF_ITEM: Final = 1 << 8
"""So many bytes of a list of bytes (STRING_EXT) count as one more term of a slice."""
MAP_PART: Final = 1 << 13
"""Keys and values after which a part of a large map is made, so that no slice has to make all of it."""

# A header reader returns the number of elements, the function that builds the container, and the offset of the first
# element.
Build: TypeAlias = "Callable[[list[Term]], Term]"
Header: TypeAlias = "Callable[[bytes, int, Atoms], tuple[int, Build, int]]"

_u32 = Struct(">I").unpack_from
_fun_head = Struct(">IB16sII").unpack_from


def decode(data: bytes | bytearray | memoryview, *, max_length: int = DEFAULT_MAX_LENGTH) -> Term:
    """Decode a standalone term: byte 131 and the term. Bytes after the term are ignored.

    ``max_length`` is the maximum size, in bytes, that a compressed term may claim. Raises ``DecodeError`` for any
    invalid data.
    """
    data = bytes(data)
    if not data or data[0] != tags.VERSION:
        raise DecodeError("a standalone term starts with byte 131", 0)
    if data[1:2] == b"P":  # tag 80; a compressed term is only valid as a standalone term
        return _decode_compressed(data, max_length)
    return decode_term(data, 1)[0]


def decode_term(data: bytes, offset: int, atoms: Atoms = ()) -> tuple[Term, int]:
    """Decode the term at ``offset``, which starts with its tag (no byte 131). Return it and the offset after it.

    ``atoms`` are the atoms that the frame's header lists; cache references are indexes into them. Raises
    ``DecodeError`` for any invalid data. A compressed term is invalid here.
    """
    try:
        return _READERS[data[offset]](data, offset + 1, atoms)
    except (IndexError, StructError):
        raise_truncated(data)
    except RecursionError:
        pass  # start again below, outside of the handler: its exception would keep the deep stack alive
    try:
        return _read_deep(data, offset, atoms)
    except (IndexError, StructError):
        raise_truncated(data)


def _decode_compressed(data: bytes, max_length: int) -> Term:
    try:
        (size,) = _u32(data, 2)
    except StructError:
        raise_truncated(data)
    if size > max_length:
        raise DecodeError(f"a compressed term claims {size} bytes, more than the {max_length} allowed", 1)
    inflater = zlib.decompressobj()
    try:
        # One byte more than claimed is enough to detect a longer term without inflating all of it.
        inflated = inflater.decompress(memoryview(data)[6:], size + 1)
    except zlib.error as error:
        raise DecodeError(f"a compressed term does not inflate: {error}", 1) from None
    if len(inflated) != size or not inflater.eof:
        raise DecodeError(f"a compressed term does not inflate to the {size} bytes it claims", 1)
    try:
        return decode_term(inflated, 0)[0]
    except DecodeError as error:
        raise DecodeError(f"inside a compressed term: {error}", 1) from None


# Containers


def _small_tuple_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Build, int]:
    return data[offset], tuple, offset + 1


def _large_tuple_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Build, int]:
    (arity,) = _u32(data, offset)
    return _check_count(arity, data, offset + 4), tuple, offset + 4


def _check_count(count: int, data: bytes, offset: int) -> int:
    """Return ``count``, or raise if the rest of the data cannot hold that many elements.

    Every element takes at least one byte. So a false count is refused before anything is allocated.
    """
    if count > len(data) - offset:
        raise_truncated(data)
    return count


def _list_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Build, int]:
    (length,) = _u32(data, offset)
    return _check_count(length + 1, data, offset + 4), _list_of, offset + 4  # the tail is one element more


def _list_of(items: list[Term]) -> Term:
    tail = items.pop()
    if not items:  # LIST_EXT of length 0 is its tail
        return tail
    if type(tail) is list:
        items += tail
        return items
    return ImproperList(tuple(items), tail)


def _map_of(items: list[Term], tag_at: int) -> Map:
    made = Map.from_distinct(items[::2], items[1::2])
    if made is None:
        raise DecodeError("a map has the same key twice", tag_at)
    return made


def _map_header(data: bytes, offset: int, _: Atoms) -> tuple[int, Build, int]:
    def map_of(items: list[Term]) -> Map:
        return _map_of(items, offset - 1)

    (size,) = _u32(data, offset)
    return _check_count(size * 2, data, offset + 4), map_of, offset + 4


def _fun_header(data: bytes, offset: int, atoms: Atoms) -> tuple[int, Build, int]:
    _, arity, uniq, index, free_count = _fun_head(data, offset)
    module, offset = read_name(data, offset + 29, atoms)
    old_index, offset = read_integer(data, offset)
    old_uniq, offset = read_integer(data, offset)
    pid, offset = read_pid(data, offset, atoms)

    def fun_of(free: list[Term]) -> Fun:
        return Fun(arity, uniq, index, module, old_index, old_uniq, pid, tuple(free))

    return _check_count(free_count, data, offset), fun_of, offset


_HEADERS: Final[dict[int, Header]] = {
    tags.SMALL_TUPLE_EXT: _small_tuple_header,
    tags.LARGE_TUPLE_EXT: _large_tuple_header,
    tags.LIST_EXT: _list_header,
    tags.MAP_EXT: _map_header,
    tags.NEW_FUN_EXT: _fun_header,
}


def _small_tuple(data: bytes, offset: int, atoms: Atoms) -> tuple[tuple[Term, ...], int]:
    """Read a small tuple. Almost every message is one, and most are pairs and triples.

    So these two are written out by hand, without a header, a loop and a list.
    """
    count = data[offset]
    if count == 2:
        first, offset = _READERS[data[offset + 1]](data, offset + 2, atoms)
        second, offset = _READERS[data[offset]](data, offset + 1, atoms)
        return (first, second), offset
    if count == 3:
        first, offset = _READERS[data[offset + 1]](data, offset + 2, atoms)
        second, offset = _READERS[data[offset]](data, offset + 1, atoms)
        third, offset = _READERS[data[offset]](data, offset + 1, atoms)
        return (first, second, third), offset
    items, offset = _read_many(data, offset + 1, atoms, count)
    return tuple(items), offset


def _read_many(data: bytes, offset: int, atoms: Atoms, count: int) -> tuple[list[Term], int]:
    items = []
    for _ in range(count):
        item, offset = _READERS[data[offset]](data, offset + 1, atoms)
        items.append(item)
    return items, offset


def _container(read_header: Header) -> Reader:
    def read(data: bytes, offset: int, atoms: Atoms) -> tuple[Term, int]:
        count, build, offset = read_header(data, offset, atoms)
        items, offset = _read_many(data, offset, atoms, count)
        return build(items), offset

    return read


def _map(data: bytes, offset: int, atoms: Atoms) -> tuple[Map, int]:
    """Read a map. It does what a container of ``_map_header`` does, with less work for each map."""
    (size,) = _u32(data, offset)
    items, end = _read_many(data, offset + 4, atoms, _check_count(size * 2, data, offset + 4))
    return _map_of(items, offset - 1), end


def _list(data: bytes, offset: int, atoms: Atoms) -> tuple[Term, int]:
    """Read a list. While its tail is another LIST_EXT, append to the same list.

    So a list in many segments takes linear time: no step copies the elements before it, and none recurses.
    """
    items: list[Term] = []
    tag = tags.LIST_EXT
    while tag == tags.LIST_EXT:
        count, _, offset = _list_header(data, offset, atoms)
        more, offset = _read_many(data, offset, atoms, count - 1)
        items += more
        tag = data[offset]
        offset += 1
    tail, offset = _READERS[tag](data, offset, atoms)
    items.append(tail)
    return _list_of(items), offset


def _read_deep(data: bytes, offset: int, atoms: Atoms) -> tuple[Term, int]:
    """Read a term of any depth."""
    slices = decode_in_slices(data, offset, atoms)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def decode_in_slices(data: bytes, offset: int, atoms: Atoms = ()) -> Generator[None, None, tuple[Term, int]]:
    """Do the same as ``decode_term``, and yield after each SLICE_ITEMS terms.

    The containers that are still open are in a list instead of on Python's stack.
    """
    try:
        return (yield from _decode_in_slices(data, offset, atoms))
    except (IndexError, StructError):
        raise_truncated(data)


def _decode_in_slices(data: bytes, offset: int, atoms: Atoms) -> Generator[None, None, tuple[Term, int]]:
    outer: list[tuple[list[Term], int, Build]] = []
    items: list[Term] = []  # these three are the innermost container; the outermost one holds the whole term
    count = 1
    build: Build = list.pop
    left = SLICE_ITEMS
    while True:
        tag = data[offset]
        if tag == tags.SMALL_TUPLE_EXT:  # without a header, for speed
            outer.append((items, count, build))
            items, count, build = [], data[offset + 1], tuple
            offset += 2
        elif tag in _HEADERS:
            tag_at = offset
            inner_count, inner_build, offset = _HEADERS[tag](data, offset + 1, atoms)
            if inner_build is _list_of and build is _list_of and len(items) == count - 1:
                count += inner_count - 1  # it is the tail of a list: extend the same list, as `_list` does
            else:
                outer.append((items, count, build))
                items, count, build = [], inner_count, inner_build
                if tag == tags.MAP_EXT and count > MAP_PART:
                    outer += _later_parts(count, tag_at)
                    count, build = MAP_PART, _first_part
        else:
            item, offset = _READERS[tag](data, offset + 1, atoms)
            items.append(item)
            if tag == tags.STRING_EXT:
                left -= len(item) // STRING_BYTES_OF_ITEM
        while len(items) == count:
            item = build(items)
            if not outer:
                return item, offset
            items, count, build = outer.pop()
            items.append(item)
            left -= 1
            if left <= 0:
                yield
                left = SLICE_ITEMS
        left -= 1
        if left <= 0:
            yield
            left = SLICE_ITEMS


def _first_part(items: list[Term]) -> MapParts:
    parts = MapParts()
    parts.add(items[::2], items[1::2])
    return parts


def _next_part(items: list[Term]) -> MapParts:
    """Add keys and values to the parts before them, which are the first item."""
    parts: MapParts = items[0]
    parts.add(items[1::2], items[2::2])
    return parts


def _later_parts(count: int, tag_at: int) -> list[tuple[list[Term], int, Build]]:
    """Return the open containers for all but the first part of a map, the last part first.

    Each contains the part before it as its first item.
    """

    def map_of(items: list[Term]) -> Map:
        made = _next_part(items).finish()
        if made is None:
            raise DecodeError("a map has the same key twice", tag_at)
        return made

    last = (count - 1) % MAP_PART + 1
    parts: list[tuple[list[Term], int, Build]] = [([], last + 1, map_of)]
    parts += [([], MAP_PART + 1, _next_part) for _ in range((count - last) // MAP_PART - 1)]
    return parts


def _unknown_tag(data: bytes, offset: int, _: Atoms) -> NoReturn:
    raise DecodeError(f"tag {data[offset - 1]} is not the tag of a term here", offset - 1)


_READERS: Final = build_table(LEAVES | {tag: _container(header) for tag, header in _HEADERS.items()}, _unknown_tag)
_READERS[tags.SMALL_TUPLE_EXT] = _small_tuple
_READERS[tags.LIST_EXT] = _list
_READERS[tags.MAP_EXT] = _map
