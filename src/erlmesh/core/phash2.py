"""Erlang's ``erlang:phash2/1,2``: a hash of terms that is the same on every node and in every release.

Elixir's libraries choose processes with it: Phoenix.Tracker the shard of a topic, Phoenix.PubSub a sender's worker.

The parts of a term are mixed into one number of 32 bits, from left to right. The mixing is Bob Jenkins' function of
1996. Each kind of part has its own constant, a multiple of the golden ratio. Source: ``make_hash2`` in
``erts/emulator/beam/utils.c`` (in later releases ``erl_term_hashing.c``) of OTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final

from erlmesh.terms import Atom, BitString, ImproperList, Map, Pid, Port, Ref, Term

__all__ = ["phash2"]

_MASK: Final = 0xFFFFFFFF
_RATIO: Final = 0x9E3779B9
_NIL, _ATOM, _STRING, _PID, _PORT, _REF = (_RATIO * n & _MASK for n in range(2, 8))
_TUPLE, _NEGATIVE, _POSITIVE, _FLOAT, _BINARY = (_RATIO * n & _MASK for n in (9, 10, 11, 12, 13))
_BITS, _MAP, _PAIRS = (_RATIO * n & _MASK for n in (15, 16, 19))
_ONLY_NIL: Final = 3468870702
"""The hash of ``[]`` if nothing was mixed before it."""
_SMALL: Final = 1 << 27
"""Integers from ``-_SMALL`` to ``_SMALL - 1`` are mixed as one word, others digit by digit."""
_RANGE: Final = 1 << 27

_three_words = Struct("<III").unpack_from
_two_words = Struct("<II").unpack
_double = Struct("<d").pack


def phash2(term: Term, range: int = _RANGE) -> int:
    """Return the hash of ``term``, from 0 to ``range`` - 1. ``range`` is 1 … 2³².

    Raises ``ValueError`` for another range, and ``TypeError`` for a fun (its hash depends on its code) and for a value
    that is not a term.
    """
    if not 1 <= range <= 1 << 32:
        raise ValueError(f"a range is 1 to 2**32, not {range}")
    return _hash(term) % range


class _PairEnd:
    """Lies on the stack behind a key and a value of a map."""


class _MapEnd:
    """Lies on the stack behind all pairs of a map. It keeps what was mixed before the map."""

    __slots__ = ("before", "outer")

    def __init__(self, before: int, outer: int) -> None:
        self.before = before
        self.outer = outer
        """The combined pairs of the map that this map is in, so far."""


class _Rest:
    """Lies on the stack for the elements of a list from ``start`` on. There is at least one."""

    __slots__ = ("elements", "start", "tail")

    def __init__(self, elements: Sequence[Term], tail: Term) -> None:
        self.elements = elements
        self.start = 0
        self.tail = tail


_PAIR_END: Final = _PairEnd()


def _hash(term: Term) -> int:
    """Mix the parts of ``term``. It is a loop because a term may be deep."""
    mixed = pairs = 0
    pending: list[Any] = [term]
    while pending:
        item = pending.pop()
        if item is _PAIR_END:
            pairs ^= mixed  # The order of the pairs does not count.
            mixed = 0
        elif type(item) is _MapEnd:
            mixed = _mix(pairs, 0, _PAIRS, item.before)
            pairs = item.outer
        elif isinstance(item, tuple):
            mixed = _mix(len(item), 0, _TUPLE, mixed)
            pending.extend(reversed(item))
        elif type(item) is _Rest:
            mixed = _mix_list(item, pending, mixed)
        elif isinstance(item, list) and item:
            mixed = _mix_list(_Rest(item, []), pending, mixed)
        elif isinstance(item, ImproperList):
            mixed = _mix_list(_Rest(item.elements, item.tail), pending, mixed)
        elif isinstance(item, Map | dict):
            mixed = _mix(len(item), 0, _MAP, mixed)
            if item:
                pending.append(_MapEnd(mixed, pairs))
                mixed = pairs = 0
                for key, value in item.items():
                    pending += (_PAIR_END, value, key)
        else:
            mixed = _mix_leaf(item, mixed)
    return mixed


def _mix_list(rest: _Rest, pending: list[Any], mixed: int) -> int:
    """Mix the bytes that a list starts with, four in a word, and push what follows.

    After an element that is no byte, the emulator looks for bytes again. So each rest of a list is a list of its own.
    """
    elements, start = rest.elements, rest.start
    stop = start
    word = 0
    while stop < len(elements) and type(elements[stop]) is int and 0 <= elements[stop] <= 255:
        word = word << 8 | elements[stop]
        stop += 1
        if (stop - start) % 4 == 0:
            mixed = _mix(word, 0, _STRING, mixed)
            word = 0
    if (stop - start) % 4:
        mixed = _mix(word, 0, _STRING, mixed)
    if stop < len(elements):
        rest.start = stop + 1
        pending += (rest if rest.start < len(elements) else rest.tail, elements[stop])
    else:
        pending.append(rest.tail)
    return mixed


def _mix_leaf(term: Term, mixed: int) -> int:
    match term:
        case bool():
            return _mix_atom("true" if term else "false", mixed)
        case int() if -_SMALL <= term < _SMALL:
            if term < 0:  # The emulator mixes a negative number twice.
                mixed = _mix(-term, 0, _RATIO, mixed)
            return _mix(term & _MASK, 0, _RATIO, mixed)
        case int():
            return _mix_digits(abs(term), _NEGATIVE if term < 0 else _POSITIVE, mixed)
        case float():
            low, high = _two_words(_double(term + 0.0))  # -0.0 counts as 0.0
            return _mix(high, low, _FLOAT, mixed)
        case Atom():
            return _mix_atom(term.name, mixed)
        case str():
            return _mix_binary(term.encode(), mixed)
        case bytes() | bytearray() | memoryview():
            return _mix_binary(bytes(term), mixed)
        case BitString():
            *whole, last = term.data
            mixed = _mix_bytes(bytes(whole), (_BINARY + mixed) & _MASK)
            return _mix(term.bits, last >> 8 - term.bits, _BITS, mixed)
        case []:
            return _mix(2, 0, _NIL, mixed) if mixed else _ONLY_NIL
        case Pid():
            return _mix(term.id, 0, _PID, mixed)  # neither the serial nor the node
        case Port():
            return _mix(term.id & _MASK, term.id >> 32, _PORT, mixed)
        case Ref():
            return _mix(term.words[0], 0, _REF, mixed)
    raise TypeError(f"phash2 of {type(term).__name__} is not possible: it is a fun, or not an Erlang term")


def _mix_digits(number: int, constant: int, mixed: int) -> int:
    """Mix a large integer, 64 bits at a time, the lowest first."""
    while number:
        mixed = _mix(number & _MASK, number >> 32 & _MASK, constant, mixed)
        number >>= 64
    return mixed


def _mix_binary(data: bytes, mixed: int) -> int:
    start = (_BINARY + mixed) & _MASK
    return _mix_bytes(data, start) if data else start


def _mix_atom(name: str, mixed: int) -> int:
    value = _atom_hash(name)
    return _mix(value, 0, _ATOM, mixed) if mixed else value


def _atom_hash(name: str) -> int:
    """The hash of an atom in the emulator's table (``atom_hash`` in ``atom.c``): hashpjw.

    A character up to 255 counts as one byte, any other as its bytes in UTF-8.
    """
    mixed = 0
    for character in name:
        for byte in (ord(character),) if ord(character) < 256 else character.encode():
            mixed = (mixed << 4) + byte & _MASK
            if top := mixed & 0xF0000000:
                mixed ^= top >> 24
                mixed ^= top
    return mixed


def _mix(first: int, second: int, constant: int, mixed: int) -> int:
    """Mix two words into ``mixed``."""
    return _jenkins(constant + first & _MASK, constant + second & _MASK, mixed)


def _mix_bytes(data: bytes, start: int) -> int:
    """Mix bytes, twelve at a time (``block_hash``)."""
    a = b = _RATIO
    c = start
    size = len(data)
    whole = size - size % 12
    for offset in range(0, whole, 12):
        x, y, z = _three_words(data, offset)
        a, b, c = _jenkins_all(a + x & _MASK, b + y & _MASK, c + z & _MASK)
    rest = data[whole:]
    # The lowest byte of the last word is the length of all.
    x, y, z = _three_words(rest[:8].ljust(8, b"\0") + b"\0" + rest[8:].ljust(3, b"\0"))
    return _jenkins(a + x & _MASK, b + y & _MASK, c + z + size & _MASK)


def _jenkins_all(a: int, b: int, c: int) -> tuple[int, int, int]:
    """Bob Jenkins' mix of three words of 32 bits."""
    a = (a - b - c & _MASK) ^ c >> 13
    b = (b - c - a ^ a << 8) & _MASK
    c = (c - a - b & _MASK) ^ b >> 13
    a = (a - b - c & _MASK) ^ c >> 12
    b = (b - c - a ^ a << 16) & _MASK
    c = (c - a - b & _MASK) ^ b >> 5
    a = (a - b - c & _MASK) ^ c >> 3
    b = (b - c - a ^ a << 10) & _MASK
    c = (c - a - b & _MASK) ^ b >> 15
    return a, b, c


def _jenkins(a: int, b: int, c: int) -> int:
    return _jenkins_all(a, b, c)[2]
