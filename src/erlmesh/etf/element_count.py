"""Counts the elements of a message before it is decoded, so that a message with too many is refused unbuilt.

Each term is an element: an atom, a number, a binary, an identifier, and also each list, tuple, map and fun. Each 16
bytes of a list of bytes (STRING_EXT) count as one more. The bytes of a binary do not count: they cost what they occupy
in the frame. So the decoded form takes at most about 128 bytes for each element, besides the binaries.

Some terms take several times as long to decode as others, and count as that many more elements: maps and their keys,
atoms that are spelt out (a BEAM does this for few atoms of a message only: it refers to its atom cache), and the kinds
that real messages have few of.

A container in a key of a map counts for more elements, because the map needs a digest of the key. The digest of one key
is not computed in slices, so the elements of a long container in a key count several times.

Tags are in prefix order, so the data is read as a flat sequence of tags. The nesting is followed only in a message that
would have too many elements if each container that can be in a key was in one. Nothing is checked. At a byte that is
not the start of a term the count ends, and the decoder raises the error later.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Final

from erlmesh.etf import tags

__all__ = ["first_beyond", "first_beyond_in_slices"]

STRING_BYTES_OF_ELEMENT: Final = 16
MAP_SURCHARGE: Final = 2
"""Elements that a map counts for, besides its keys and values."""
ELEMENTS_OF_PAIR: Final = 6
"""Elements that a key of a map and its value count for together."""
ATOM_SURCHARGE: Final = 7
"""Elements that an atom which is spelt out counts for as well, also as the node of an identifier."""
RARE_SURCHARGE: Final = 7
"""Elements that a port, an export, a fun, a bitstring, a long integer or an old form of a term counts for as well."""
KEY_SURCHARGE: Final = 6
"""Elements that a tuple, list, map or fun in a key of a map counts for as well."""
SHORT_KEY: Final = 16
"""Elements of a container in a key, from which on each counts for LONG_KEY_SURCHARGE more."""
LONG_KEY_SURCHARGE: Final = 8
SLICE_BYTES: Final = 1 << 16
"""Bytes that are counted in one slice."""

_TUPLE: Final = tags.SMALL_TUPLE_EXT
_LIST: Final = tags.LIST_EXT
_MAP: Final = tags.MAP_EXT
_BINARY: Final = tags.BINARY_EXT
_PID: Final = tags.NEW_PID_EXT
_CACHE_REF: Final = tags.ATOM_CACHE_REF

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from

_FIXED_SIZES: Final = {
    tags.VERSION: 1,  # without a header, each of the two terms of a frame has it
    tags.SMALL_INTEGER_EXT: 2,
    tags.INTEGER_EXT: 5,
    tags.NEW_FLOAT_EXT: 9,
    tags.NIL_EXT: 1,
    tags.ATOM_CACHE_REF: 2,
}
_SIZES: Final = [_FIXED_SIZES.get(tag, 0) for tag in range(256)]
# By tag: the size of the bytes before the node, and of those after it without the words of a reference.
_IDENTIFIERS: Final = {
    tags.NEW_PID_EXT: (1, 12),
    tags.PID_EXT: (1, 9),
    tags.V4_PORT_EXT: (1, 12),
    tags.NEW_PORT_EXT: (1, 8),
    tags.PORT_EXT: (1, 5),
    tags.REFERENCE_EXT: (1, 5),
    tags.NEW_REFERENCE_EXT: (3, 1),
    tags.NEWER_REFERENCE_EXT: (3, 4),
}
_COMMON_IDENTIFIERS: Final = (tags.NEW_PID_EXT, tags.NEWER_REFERENCE_EXT)
_FUN_HEAD: Final = 30  # with the tag; the module, two integers, a pid and the free variables follow
_FUN_PARTS: Final = 4
_EXPORT_PARTS: Final = 3
_CACHED_PID_SIZE: Final = 15
_CONTAINERS: Final = frozenset(
    {tags.SMALL_TUPLE_EXT, tags.LARGE_TUPLE_EXT, tags.LIST_EXT, tags.MAP_EXT, tags.NEW_FUN_EXT}
)
_ENDLESS: Final = 1 << 62
"""The terms left outside all maps."""
_LONG: Final = 64
"""Elements of a container from which on it is worth to look for a run of leaves."""


def first_beyond(data: bytes, offset: int, limit: int) -> int | None:
    """Return the offset of the container with which the terms from ``offset`` on have more than ``limit`` elements.

    None if they have not, or if the data ends inside a term or has an unknown tag before. A call is not needed for data
    of at most a quarter of ``limit`` bytes: so few bytes are decoded quickly.
    """
    slices = first_beyond_in_slices(data, offset, limit)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def first_beyond_in_slices(data: bytes, offset: int, limit: int) -> Generator[None, None, int | None]:
    """Do the same as ``first_beyond``, and yield after each SLICE_BYTES."""
    try:
        beyond, may_exceed = yield from _first_beyond(data, offset, limit)
        return (yield from _first_beyond_with_keys(data, offset, limit)) if may_exceed else beyond
    except (IndexError, StructError):
        return None  # the data ends inside a term


def _first_beyond(data: bytes, offset: int, limit: int) -> Generator[None, None, tuple[int | None, bool]]:
    """Count without the keys. Return the offset, and whether the message may have too many elements with them."""
    sizes, end, count = _SIZES, len(data), 0
    in_keys, surcharge = 0, 0  # only a container after the first map can be in a key
    while offset < end:
        stop = offset + SLICE_BYTES
        if stop < end:
            offset = _run_of_leaves(data, offset, stop)
        else:
            stop = end
        while offset < stop:
            tag = data[offset]
            if size := sizes[tag]:
                offset += size
                continue
            # The first five are written out, because most terms without a fixed size are one of them.
            if tag == _TUPLE:
                size, elements = 2, data[offset + 1]
            elif tag == _BINARY:
                offset += 5 + _u32(data, offset + 1)[0]
                continue
            elif tag == _PID and data[offset + 1] == _CACHE_REF:
                offset += _CACHED_PID_SIZE
                continue
            elif tag == _LIST:
                size, elements = 5, 1 + _u32(data, offset + 1)[0]  # the tail is an element
            elif tag == _MAP:
                size, elements = 5, MAP_SURCHARGE + ELEMENTS_OF_PAIR * _u32(data, offset + 1)[0]
            else:
                size, elements = _extent(data, offset, tag)
            count += elements
            if count > limit:
                return offset, in_keys > 0  # with keys, an earlier container may be the first beyond
            if surcharge:  # also of a term that is no container: this is a bound
                in_keys += surcharge if elements <= SHORT_KEY else _key_surcharge(elements)
            if tag == _MAP:
                surcharge = KEY_SURCHARGE
            offset += size
            if elements >= _LONG:
                offset = _run_of_leaves(data, offset, stop)
        if offset < end:
            yield
    return None, count + in_keys > limit


def _key_surcharge(elements: int) -> int:
    """Return for how many more elements a container with so many elements counts in a key."""
    return KEY_SURCHARGE + LONG_KEY_SURCHARGE * max(0, elements - SHORT_KEY)


def _first_beyond_with_keys(data: bytes, offset: int, limit: int) -> Generator[None, None, int | None]:
    """Count with the keys. This follows the nesting inside maps, and takes about twice as long."""
    sizes, end, count = _SIZES, len(data), 0
    left, in_map, in_key = _ENDLESS, False, False
    """The terms left in the open container, whether it is a map, and whether it is in a key."""
    opened: list[int] = []  # the containers around it, each in one integer: there may be very many
    pause_at = offset + SLICE_BYTES
    while offset < end:
        if offset >= pause_at:
            yield
            pause_at = offset + SLICE_BYTES
        tag = data[offset]
        if tag == tags.VERSION:
            offset += 1
            continue
        is_key = in_key or (in_map and not left & 1)
        left -= 1
        if size := sizes[tag]:
            offset += size
        else:
            size, elements, children = _extent_and_children(data, offset, tag)
            count += elements
            if is_key and tag in _CONTAINERS:
                count += _key_surcharge(elements)
            if count > limit:
                return offset
            offset += size
            if children and (opened or tag == _MAP):
                opened.append(left << 2 | in_map << 1 | in_key)
                left, in_map, in_key = children, tag == _MAP, is_key
        while not left:
            packed = opened.pop()
            left, in_map, in_key = packed >> 2, bool(packed & 2), bool(packed & 1)
    return None


def _extent_and_children(data: bytes, offset: int, tag: int) -> tuple[int, int, int]:
    """Return what :func:`_extent` returns for any term without a fixed size, and how many terms it contains."""
    if tag == _TUPLE:
        return 2, data[offset + 1], data[offset + 1]
    if tag == _BINARY:
        return 5 + _u32(data, offset + 1)[0], 0, 0
    if tag == _LIST:
        children = 1 + _u32(data, offset + 1)[0]
        return 5, children, children
    if tag == _MAP:
        pairs = _u32(data, offset + 1)[0]
        return 5, MAP_SURCHARGE + ELEMENTS_OF_PAIR * pairs, 2 * pairs
    size, elements = _extent(data, offset, tag)
    if tag == tags.NEW_FUN_EXT:
        return size, elements, elements - RARE_SURCHARGE
    if tag == tags.EXPORT_EXT:
        return size, elements, _EXPORT_PARTS
    return size, elements, elements if tag == tags.LARGE_TUPLE_EXT else 0


@cache
def _leaves() -> re.Pattern[bytes]:
    """The pattern of a run of common leaves. Compiled when it is needed: few nodes get such long messages."""
    return re.compile(rb"(?:[aR].|j|b.{4}|XR.{13}|Z\x00\x03R.{17}|F.{8})*+", re.DOTALL)


def _run_of_leaves(data: bytes, offset: int, stop: int) -> int:
    """Return the offset after as many common leaves as follow each other. It is twenty times as fast as the loop.

    The leaves end at ``stop`` at the latest, so that a long run takes several slices.
    """
    found = _leaves().match(data, offset, stop)
    return offset if found is None else found.end()


def _extent(data: bytes, offset: int, tag: int) -> tuple[int, int]:
    """Return the bytes to skip and the elements that a term announces. Raises IndexError for an unknown tag."""
    if tag == tags.STRING_EXT:
        length = _u16(data, offset + 1)[0]
        return 3 + length, -(-length // STRING_BYTES_OF_ELEMENT)
    if tag in _IDENTIFIERS:
        size, elements = _identifier_extent(data, offset, tag)
        return size, elements if tag in _COMMON_IDENTIFIERS else RARE_SURCHARGE
    if tag in (tags.SMALL_ATOM_UTF8_EXT, tags.SMALL_ATOM_EXT):
        return 2 + data[offset + 1], ATOM_SURCHARGE
    if tag in (tags.ATOM_UTF8_EXT, tags.ATOM_EXT):
        return 3 + _u16(data, offset + 1)[0], ATOM_SURCHARGE
    if tag == tags.LARGE_TUPLE_EXT:
        return 5, _u32(data, offset + 1)[0]
    if tag == tags.SMALL_BIG_EXT:
        return 3 + data[offset + 1], 0
    if tag in (tags.LARGE_BIG_EXT, tags.BIT_BINARY_EXT):
        return 6 + _u32(data, offset + 1)[0], RARE_SURCHARGE
    if tag == tags.NEW_FUN_EXT:
        return _FUN_HEAD, RARE_SURCHARGE + _FUN_PARTS + _u32(data, offset + 26)[0]
    if tag == tags.FLOAT_EXT:
        return 32, RARE_SURCHARGE
    if tag == tags.EXPORT_EXT:
        return 1, RARE_SURCHARGE  # the module, the function and the arity follow with their tags
    raise IndexError


def _identifier_extent(data: bytes, offset: int, tag: int) -> tuple[int, int]:
    before, after = _IDENTIFIERS[tag]
    node = offset + before
    node_tag = data[node]
    size, elements = (_SIZES[node_tag], 0) if _SIZES[node_tag] else _extent(data, node, node_tag)
    words = 4 * _u16(data, offset + 1)[0] if before == 3 else 0
    return before + size + after + words, elements
