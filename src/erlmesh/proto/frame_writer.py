"""Signals to bytes: what leaves on an established connection.

What is said once is likely to be said again by the same process to the same process. The writer keeps the bytes of
header and control tuple for such pairs, and then has only the message left to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, Final

from erlmesh.errors import LocalProtocolError
from erlmesh.etf import encode_term
from erlmesh.proto.atom_cache import AtomWriter
from erlmesh.proto.control import Send, SendName, Signal
from erlmesh.proto.encode_control import encode_control
from erlmesh.proto.flags import Flags
from erlmesh.proto.fragments import FRAGMENT_SIZE, split
from erlmesh.proto.ops import NO_MESSAGE
from erlmesh.terms import Atom, Pid, Port, Ref, Term

__all__ = ["TICK", "FrameWriter"]

TICK: Final = bytes(4)
MAX_KNOWN: Final = 1024
MAX_FRAME: Final = 0x07FFFFFF
"""The longest frame that a BEAM reads."""

_u32 = Struct(">I").pack


class FrameWriter:
    """Gives each signal its bytes at once; ``nodes`` are the names of both ends, which every frame may refer to."""

    def __init__(self, nodes: Iterable[Atom], flags: Flags) -> None:
        self._nodes = tuple(nodes)
        self._flags = flags
        self._has_fragments = Flags.FRAGMENTS in flags
        self._has_cache = Flags.DIST_HDR_ATOM_CACHE in flags
        self._has_header = self._has_fragments or self._has_cache
        self._cache = AtomWriter()
        self._known: dict[Any, tuple[bytes, dict[Atom, int]]] = {}
        self._sequence = 0

    def write(self, signal: Signal) -> bytes:
        """The frame (or frames) that say ``signal``, to be sent in the order of the calls. Raises EncodeError or
        LocalProtocolError, and then nothing has happened.
        """
        if isinstance(signal, (Send, SendName)):
            key = (signal.sender, signal.to if isinstance(signal, Send) else signal.name)
            beginning = self._known.get(key)
            if beginning is not None and signal.token is None:
                head, numbers = beginning
                message = encode_term(signal.message, numbers)
                if len(message) <= FRAGMENT_SIZE:
                    return _u32(len(head) + len(message)) + head + message
                return self._write_long(head, message)
            return self._write_new(signal, key)
        return self._write_new(signal)

    def _write_new(self, signal: Signal, key: Any = None) -> bytes:
        control, term = encode_control(signal, self._flags)
        numbers = self._cache.admit(_atoms_of(control, self._nodes)) if self._has_cache else {}
        body = encode_term(control, numbers)
        message = encode_term(term, numbers) if term is not NO_MESSAGE else None
        self._check_length(body, message)
        # From here on nothing can fail: the cells that the header fills must reach the peer.
        head, fresh = self._head(body, numbers, has_message=message is not None)
        if key is not None and not fresh and signal.token is None:  # type: ignore[union-attr]
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = head, numbers
        return self._write_long(head, message or b"")

    def _head(self, body: bytes, numbers: dict[Atom, int], *, has_message: bool) -> tuple[bytes, bool]:
        """Header and control tuple, and whether they fill a cell: then they must not be said twice."""
        if not self._has_header:
            return b"p\x83" + body + (b"\x83" if has_message else b""), False
        header, fresh = self._cache.write(numbers)
        return b"\x83D" + header + body, fresh

    def _write_long(self, head: bytes, message: bytes) -> bytes:
        if len(message) <= FRAGMENT_SIZE or not self._has_fragments:
            self._check_length(head, message)
            return _u32(len(head) + len(message)) + head + message
        self._sequence += 1
        return b"".join(_framed(split(self._sequence, head[2:], message)))

    def _check_length(self, body: bytes, message: bytes | None) -> None:
        length = len(body) + (len(message) if message is not None and not self._has_fragments else 0)
        if length > MAX_FRAME - 0x10000:
            raise LocalProtocolError(f"a frame of {length} bytes is longer than any peer reads ({MAX_FRAME})")


def _framed(frames: Iterable[bytes]) -> Iterator[bytes]:
    for frame in frames:
        yield _u32(len(frame))
        yield frame


def _atoms_of(control: tuple[Term, ...], nodes: tuple[Atom, ...]) -> Iterator[Atom]:
    yield from nodes
    for term in control:
        match term:
            case Atom():
                yield term
            case Pid() | Port() | Ref():
                yield term.node
            case tuple():
                yield from _atoms_of(term, ())
