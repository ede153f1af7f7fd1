"""Random terms, and values that are almost terms. All come from one ``random.Random``."""

from __future__ import annotations

import struct
from collections import OrderedDict
from enum import IntEnum
from typing import NamedTuple

from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref

NAMES = ["ok", "error", "true", "false", "", "undefined", "nil", "a@127.0.0.1", "é@host", "€", "x" * 255, "ü" * 200]
NODES = [Atom("a@127.0.0.1"), Atom("b@127.0.0.1"), Atom("true"), Atom("ü@h")]
EDGES = [
    s * 2**b + d
    for s in (1, -1)
    for b in (7, 8, 31, 32, 59, 60, 61, 62, 63, 64, 65, 128, 2040, 2048)
    for d in (-1, 0, 1)
]
FLOATS = [0.0, -0.0, 1.0, -1.5, 1e308, 5e-324, float("inf"), float("-inf"), float("nan")]


class Colour(IntEnum):
    RED = 1
    BLUE = 300


class Pair(NamedTuple):
    first: object
    second: object


class Name(str):
    __slots__ = ()


class Odd:
    """Not a term."""

    def __repr__(self):
        return "Odd()"


class RandomTerms:
    """``term()`` gives a term; with ``odd`` it is sometimes a value that cannot be sent."""

    def __init__(self, rng, *, odd=False):
        self.rng = rng
        self.odd = odd
        self.shared = []

    def term(self, depth=4):
        rng = self.rng
        if depth > 0 and rng.random() < 0.45:
            term = self._container(depth)
        elif self.odd and rng.random() < 0.08:
            term = self._odd(depth)
        else:
            term = self._leaf()
        if rng.random() < 0.05:
            self.shared.append(term)
        elif self.shared and rng.random() < 0.05:
            return rng.choice(self.shared)
        return term

    def deep_term(self):
        """Return a term of up to 1,000 containers of different kinds, one within the other, some with terms beside."""
        rng = self.rng
        term = self._leaf()
        for _ in range(rng.choice((20, 390, 410, 1000))):
            beside = [self._leaf()] if rng.random() < 0.1 else []
            match rng.randrange(6):
                case 0 | 1:
                    term = (*beside, term)
                case 2:
                    term = [term, *beside]
                case 3:
                    term = Map([(self._key(0), term)])
                case 4:
                    term = Map([(term, 1)]) if not self.odd else (term,)  # an odd value is no key
                case 5:
                    term = ImproperList((term, *beside), 1)
        return term

    def atom(self):
        rng = self.rng
        return Atom(rng.choice(NAMES) if rng.random() < 0.7 else f"name_{rng.randrange(3000)}")

    def pid(self):
        return Pid(self.rng.choice(NODES), self._u32(), self._u32(), self._u32())

    def ref(self):
        words = tuple(self._u32() for _ in range(self.rng.choice((1, 2, 3, 3, 3, 4, 5))))
        return Ref(self.rng.choice(NODES), self._u32(), words)

    def binary(self):
        rng = self.rng
        size = rng.choice((0, 1, 5, 30, 255, 256)) if rng.random() < 0.97 else rng.choice((16383, 16384, 16385, 70000))
        return rng.randbytes(size)

    def _u32(self):
        rng = self.rng
        return rng.choice((0, 1, 5, 2**31, 2**32 - 1)) if rng.random() < 0.5 else rng.randrange(2**32)

    def _leaf(self):
        rng = self.rng
        kind = rng.randrange(14)
        match kind:
            case 0 | 1:
                return rng.randrange(300) - 20
            case 2:
                return rng.choice(EDGES)
            case 3:
                return rng.randrange(-(2**40), 2**40)
            case 4 | 5:
                return self.atom()
            case 6:
                return rng.random() < 0.5
            case 7:
                return rng.choice(FLOATS[:6]) if not self.odd else rng.choice(FLOATS)
            case 8:
                return self.binary()
            case 9:
                return rng.choice(("", "text", "ü€𝄞", "x" * 300))
            case 10 | 11:
                return self.pid()
            case 12:
                return self.ref()
        return self._rare_leaf()

    def _rare_leaf(self):
        rng = self.rng
        match rng.randrange(3):
            case 0:
                return Port(rng.choice(NODES), rng.choice((1, 2**28 - 1, 2**28, 2**64 - 1)), self._u32())
            case 1:
                return Export(self.atom(), self.atom(), rng.randrange(256))
        bits = rng.randrange(1, 8)
        return BitString(rng.randbytes(rng.randrange(4)) + bytes([rng.randrange(256) & (0xFF00 >> bits) & 0xFF]), bits)

    def _terms(self, depth, most=5):
        return [self.term(depth - 1) for _ in range(self.rng.randrange(most + 1))]

    def _container(self, depth):
        rng = self.rng
        match rng.randrange(13):
            case 0 | 1 | 2 | 3:
                return tuple(self._terms(depth))
            case 4 | 5:
                return self._terms(depth)
            case 6:
                return list(rng.randbytes(rng.choice((1, 3, 40, 300))))
            case 7 | 8:
                return Map([(self._key(depth - 1), self.term(depth - 1)) for _ in range(rng.randrange(5))])
            case 9:
                return self._dict(depth)
            case 10:
                tail = self.term(depth - 1)
                if not isinstance(tail, (list, ImproperList)):
                    return ImproperList((self.term(depth - 1), *self._terms(depth)), tail)
                return [tail]
            case 11:
                return tuple(rng.randrange(1000) for _ in range(rng.choice((254, 255, 256, 300))))
        return Fun(rng.randrange(256), rng.randbytes(16), rng.randrange(9), self.atom(), 0, rng.randrange(2**27),
                   self.pid(), tuple(self._terms(depth, 2)))  # fmt: skip

    def _key(self, depth):
        """A term, because a Map refuses other keys."""
        terms = RandomTerms(self.rng)
        return terms.term(depth)

    def _dict(self, depth):
        rng = self.rng
        make_key = (
            lambda: rng.choice(("a", "b", "ü")),
            self.atom,
            lambda: rng.randrange(9),
            self.pid,
            lambda: rng.choice((1, True, Atom("true"), "a", b"a", 1.0, (1,))),
        )[rng.randrange(5)]
        keys = [make_key() for _ in range(rng.randrange(5))]
        return {key: self.term(depth - 1) for key in keys}

    def _odd(self, depth):
        """A value that the pure encoder takes for its base, or refuses."""
        rng = self.rng
        match rng.randrange(12):
            case 0:
                return rng.choice((Colour.RED, Colour.BLUE))
            case 1:
                return Pair(self.term(depth - 1), self.term(depth - 1))
            case 2:
                return bytearray(rng.randbytes(5))
            case 3:
                return memoryview(rng.randbytes(5))
            case 4:
                return Name("name")
            case 5:
                return None
            case 6:
                return Odd()
            case 7:
                return "\ud800"
            case 8:
                loop = [1, 2]
                loop.append((loop,))
                return loop
            case 9:
                return OrderedDict([(1, 2), ("a", self.term(depth - 1))])
            case 10:
                return [rng.randrange(256), rng.choice((Colour.RED, True, 256, -1, 2**70, None))]
        return self._deep()

    def _deep(self):
        """Around the depth at which the native code gives up."""
        term = self._leaf()
        make = self.rng.choice((lambda t: (t,), lambda t: [t], lambda t: Map({1: t}), lambda t: ImproperList((t,), 1)))
        for _ in range(self.rng.choice((50, 396, 397, 398, 399, 400, 401, 402, 600))):
            term = make(term)
        return term


def mutated(rng, data):
    """Return the bytes with a few random faults."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + rng.randrange(1, 5)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 5))
            case 3:
                data[at : at + 4] = struct.pack(">I", rng.choice((0, 1, 2, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1)))
            case 4:
                data[at : at + 1] = bytes([rng.choice(b"FPRMXYZacdefgjklmnopqrstvwx")])
            case 5:
                other = rng.randrange(len(data) + 1)
                data[at:at] = data[other : other + rng.randrange(1, 40)]
            case _:
                if at < len(data):
                    data[at] = rng.randrange(256)
    return bytes(data)
