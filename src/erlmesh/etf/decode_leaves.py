"""Readers of terms without parts, and of the atoms inside identifiers.

A reader is called as ``reader(data, offset, atoms)`` with the offset after its tag. It returns the term and the offset
after the term. A read past the end raises IndexError or struct.error, whichever is cheaper in that place. The entry
functions in :mod:`erlmesh.etf.decode` turn both into a DecodeError at the end of the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isfinite
from struct import Struct
from typing import Any, Final, NoReturn, TypeAlias

from erlmesh.errors import DecodeError
from erlmesh.etf import tags
from erlmesh.terms import MAX_ATOM_CHARACTERS, Atom, BitString, Export, Pid, Port, Ref, Term
from erlmesh.terms.values import unchecked_pid, unchecked_ref

__all__ = [
    "LEAVES",
    "MAX_BIG_BYTES",
    "Atoms",
    "Reader",
    "build_table",
    "raise_truncated",
    "read_integer",
    "read_name",
    "read_pid",
]

MAX_BIG_BYTES: Final = 512 * 1024  # 4 Mbit: no OTP release calculates with longer integers
MAX_REFERENCE_WORDS: Final = 5  # since OTP 24 (DFLAG_V4_NC); three before

Atoms: TypeAlias = "Sequence[Atom]"
Reader: TypeAlias = "Callable[[bytes, int, Atoms], tuple[Any, int]]"

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
# It is compiled at the first use: no OTP release since R10 sends it.
_OLD_FLOAT: Final = rb"([+-]?[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?)(?:\0|\Z)"


def build_table(readers: dict[int, Reader], default: Reader) -> list[Reader]:
    """Return the readers as a list indexed by tag, with ``default`` for all other tags."""
    return [readers.get(tag, default) for tag in range(256)]


def raise_truncated(data: bytes) -> NoReturn:
    """Raise the DecodeError for data that ends too early."""
    raise DecodeError("the data ends inside a term", len(data)) from None


def _slice(data: bytes, start: int, length: int) -> bytes:
    end = start + length
    if end > len(data):
        raise_truncated(data)
    return data[start:end]


# Numbers


def _small_integer(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    return data[offset], offset + 1


def _integer(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    return _i32(data, offset)[0], offset + 4


def _float(data: bytes, offset: int, _: Atoms) -> tuple[float, int]:
    (number,) = _f64(data, offset)
    if not isfinite(number):
        raise DecodeError(f"a float must be finite, not {number}", offset - 1)
    return number, offset + 8


def _text_float(data: bytes, offset: int, _: Atoms) -> tuple[float, int]:
    """Read FLOAT_EXT: 31 characters that ``sprintf("%.20e")`` wrote, padded with zero bytes."""
    match = re.match(_OLD_FLOAT, _slice(data, offset, 31))
    number = float(match[1]) if match else float("nan")
    if not isfinite(number):
        raise DecodeError("the text of a FLOAT_EXT is not a finite number", offset - 1)
    return number, offset + 31


def read_integer(data: bytes, offset: int) -> tuple[int, int]:
    """Read the integer of at most 32 bits whose tag is at ``offset``."""
    if data[offset] == tags.SMALL_INTEGER_EXT:
        return data[offset + 1], offset + 2
    if data[offset] == tags.INTEGER_EXT:
        return _i32(data, offset + 1)[0], offset + 5
    raise DecodeError(f"an integer of 32 bits is required here, not tag {data[offset]}", offset)


def _small_big(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    return _big(data, offset + 2, data[offset], data[offset + 1])


def _large_big(data: bytes, offset: int, _: Atoms) -> tuple[int, int]:
    length, sign = _u32_u8(data, offset)
    if length > MAX_BIG_BYTES:
        raise DecodeError(f"an integer has {length} bytes, more than the {MAX_BIG_BYTES} allowed", offset - 1)
    return _big(data, offset + 5, length, sign)


def _big(data: bytes, start: int, length: int, sign: int) -> tuple[int, int]:
    magnitude = int.from_bytes(_slice(data, start, length), "little")
    return -magnitude if sign else magnitude, start + length


# Atoms. The first readers return an Atom, as identifiers need it. As terms, the atoms true and false become bools


def _small_utf8(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    start = offset + 1
    end = start + data[offset]
    if end > len(data):  # a slice would silently be shorter
        raise_truncated(data)
    try:
        return Atom(data[start:end].decode()), end
    except UnicodeDecodeError:
        raise DecodeError("the name of an atom is not valid UTF-8", offset - 1) from None


def _utf8(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    (length,) = _u16(data, offset)
    try:
        name = _slice(data, offset + 2, length).decode()
    except UnicodeDecodeError:
        raise DecodeError("the name of an atom is not valid UTF-8", offset - 1) from None
    return _long_atom(name, offset - 1), offset + 2 + length


def _small_latin1(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    length = data[offset]
    return Atom(_slice(data, offset + 1, length).decode("latin-1")), offset + 1 + length


def _latin1(data: bytes, offset: int, _: Atoms) -> tuple[Atom, int]:
    (length,) = _u16(data, offset)
    return _long_atom(_slice(data, offset + 2, length).decode("latin-1"), offset - 1), offset + 2 + length


def _long_atom(name: str, tag_at: int) -> Atom:
    if len(name) > MAX_ATOM_CHARACTERS:
        raise DecodeError(f"an atom has {len(name)} characters, more than {MAX_ATOM_CHARACTERS}", tag_at)
    return Atom(name)


def _cached(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom, int]:
    index = data[offset]
    if index >= len(atoms):
        raise DecodeError(f"atom cache reference {index} in a frame that has only {len(atoms)} atoms", offset - 1)
    return atoms[index], offset + 1


def _as_term(read: Reader) -> Reader:
    """Return a reader that gives a bool for the atoms true and false."""

    def read_term(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom | bool, int]:
        atom, offset = read(data, offset, atoms)
        if atom is _TRUE or atom is _FALSE:
            return atom is _TRUE, offset
        return atom, offset

    return read_term


def _cached_term(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom | bool, int]:
    """Read a cache reference as a term. Most atoms arrive this way, so the two steps of ``_as_term`` are inlined."""
    index = data[offset]
    if index >= len(atoms):
        _cached(data, offset, atoms)  # raises
    atom = atoms[index]
    if atom is _TRUE or atom is _FALSE:
        return atom is _TRUE, offset + 1
    return atom, offset + 1


def _not_an_atom(data: bytes, offset: int, _: Atoms) -> NoReturn:
    raise DecodeError(f"an atom is required here, not tag {data[offset - 1]}", offset - 1)


_NAMES: Final[dict[int, Reader]] = {
    tags.ATOM_CACHE_REF: _cached,
    tags.SMALL_ATOM_UTF8_EXT: _small_utf8,
    tags.ATOM_UTF8_EXT: _utf8,
    tags.SMALL_ATOM_EXT: _small_latin1,
    tags.ATOM_EXT: _latin1,
}
_NAME_READERS: Final = build_table(_NAMES, _not_an_atom)


def read_name(data: bytes, offset: int, atoms: Atoms) -> tuple[Atom, int]:
    """Read the atom whose tag is at ``offset``. ``true`` and ``false`` are atoms here, not bools."""
    return _NAME_READERS[data[offset]](data, offset + 1, atoms)


# Binaries and strings


def _binary(data: bytes, offset: int, _: Atoms) -> tuple[bytes, int]:
    start = offset + 4
    end = start + _u32(data, offset)[0]
    if end > len(data):
        raise_truncated(data)
    return data[start:end], end


def _bit_binary(data: bytes, offset: int, _: Atoms) -> tuple[bytes | BitString, int]:
    length, bits = _u32_u8(data, offset)
    whole = _slice(data, offset + 5, length)
    end = offset + 5 + length
    if bits > 8 or (bits == 0) != (length == 0):
        raise DecodeError(f"a bitstring of {length} bytes cannot use {bits} bits of the last byte", offset - 1)
    if bits in (0, 8):  # whole bytes: a binary
        return whole, end
    # Clear the unused bits: the format does not define them, and BitString requires zeros.
    return BitString(whole[:-1] + bytes([whole[-1] & (0xFF00 >> bits)]), bits), end


def _string(data: bytes, offset: int, _: Atoms) -> tuple[list[int], int]:
    (length,) = _u16(data, offset)
    return list(_slice(data, offset + 2, length)), offset + 2 + length


def _nil(_data: bytes, offset: int, _: Atoms) -> tuple[list[Term], int]:
    return [], offset


# Identifiers


def _new_pid(data: bytes, offset: int, atoms: Atoms) -> tuple[Pid, int]:
    node, offset = _NAME_READERS[data[offset]](data, offset + 1, atoms)  # read_name, inlined for speed
    end = offset + 12
    key = (node, data[offset:end])
    pid = _recent_pids.get(key)
    if pid is None:
        pid = _cache_pid(key, unchecked_pid(node, *_pid_numbers(data, offset)))
    return pid, end


_RECENT_PIDS_LIMIT: Final = 4096
_recent_pids: dict[tuple[Atom, bytes], Pid] = {}
"""Recently read pids. A few processes send most messages, and a look-up takes a third of the time of a new Pid."""


def _cache_pid(key: tuple[Atom, bytes], pid: Pid) -> Pid:
    if len(_recent_pids) >= _RECENT_PIDS_LIMIT:  # simpler and faster than an LRU order; live pids come back at once
        _recent_pids.clear()
    _recent_pids[key] = pid
    return pid


def _old_pid(data: bytes, offset: int, atoms: Atoms) -> tuple[Pid, int]:
    node, offset = read_name(data, offset, atoms)
    return unchecked_pid(node, *_old_pid_numbers(data, offset)), offset + 9


def read_pid(data: bytes, offset: int, atoms: Atoms) -> tuple[Pid, int]:
    """Read the pid whose tag is at ``offset``."""
    if data[offset] == tags.NEW_PID_EXT:
        return _new_pid(data, offset + 1, atoms)
    if data[offset] == tags.PID_EXT:
        return _old_pid(data, offset + 1, atoms)
    raise DecodeError(f"a pid is required here, not tag {data[offset]}", offset)


def _v4_port(data: bytes, offset: int, atoms: Atoms) -> tuple[Port, int]:
    node, offset = read_name(data, offset, atoms)
    return Port(node, *_u64_u32(data, offset)), offset + 12


def _new_port(data: bytes, offset: int, atoms: Atoms) -> tuple[Port, int]:
    node, offset = read_name(data, offset, atoms)
    return Port(node, *_u32_u32(data, offset)), offset + 8


def _old_port(data: bytes, offset: int, atoms: Atoms) -> tuple[Port, int]:
    node, offset = read_name(data, offset, atoms)
    return Port(node, *_u32_u8(data, offset)), offset + 5


def _newer_reference(data: bytes, offset: int, atoms: Atoms) -> tuple[Ref, int]:
    count = _word_count(data, offset)
    node, offset = _NAME_READERS[data[offset + 2]](data, offset + 3, atoms)  # read_name, inlined for speed
    numbers = _CREATION_WORDS[count](data, offset)  # the creation of 32 bits, then the words
    return unchecked_ref(node, numbers[0], numbers[1:]), offset + 4 + 4 * count


def _new_reference(data: bytes, offset: int, atoms: Atoms) -> tuple[Ref, int]:
    count = _word_count(data, offset)
    node, offset = read_name(data, offset + 2, atoms)
    # The creation has only one byte here.
    return unchecked_ref(node, data[offset], _WORDS[count].unpack_from(data, offset + 1)), offset + 1 + 4 * count


def _word_count(data: bytes, offset: int) -> int:
    count: int = _u16(data, offset)[0]
    if not 1 <= count <= MAX_REFERENCE_WORDS:
        raise DecodeError(f"a reference has 1 to {MAX_REFERENCE_WORDS} words, not {count}", offset - 1)
    return count


_WORDS: Final = [Struct(f">{count}I") for count in range(MAX_REFERENCE_WORDS + 1)]
_CREATION_WORDS: Final = [Struct(f">{count + 1}I").unpack_from for count in range(MAX_REFERENCE_WORDS + 1)]


def _old_reference(data: bytes, offset: int, atoms: Atoms) -> tuple[Ref, int]:
    node, offset = read_name(data, offset, atoms)
    word, creation = _u32_u8(data, offset)
    return unchecked_ref(node, creation, (word,)), offset + 5


def _export(data: bytes, offset: int, atoms: Atoms) -> tuple[Export, int]:
    module, offset = read_name(data, offset, atoms)
    function, offset = read_name(data, offset, atoms)
    arity, end = read_integer(data, offset)
    if not 0 <= arity <= 255:
        raise DecodeError(f"the arity of an export must be 0 to 255, not {arity}", offset)
    return Export(module, function, arity), end


LEAVES: Final[dict[int, Reader]] = {tag: _as_term(read) for tag, read in _NAMES.items()} | {
    tags.ATOM_CACHE_REF: _cached_term,
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
}
"""The reader of each tag."""
