"""Bytes to signals: what arrives on an established connection.

A frame is a length of four bytes, a header, a control tuple and perhaps a message. What both ends can do decides the
header, once and for all: with an atom cache or fragments every frame has one (``131 68 …``), else none (``112 131 …``).
A frame of length 0 is a tick.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from erlmesh.errors import DecodeError, RemoteProtocolError
from erlmesh.etf import decode_term
from erlmesh.proto.atom_cache import CACHED_HEADER_SIZE, AtomReader
from erlmesh.proto.control import Signal
from erlmesh.proto.decode_control import decode_control
from erlmesh.proto.flags import Flags
from erlmesh.proto.fragments import FRAGMENT_HEAD_SIZE, Reassembly
from erlmesh.proto.frame_prefix_cache import CONTROL_SIZE, FramePrefixCache
from erlmesh.proto.ops import NO_MESSAGE, carries_message
from erlmesh.terms import Atom

__all__ = ["FrameReader", "FrameTooLong"]

MAX_SEQUENCES: Final = 4096

_VERSION: Final = 131
_NORMAL, _FIRST_FRAGMENT, _FRAGMENT, _PASS_THROUGH = b"DEFp"

_u32 = Struct(">I").unpack_from


class FrameTooLong(RemoteProtocolError):
    """A frame is announced that is longer than allowed."""


class FrameReader:
    """Cuts a stream into frames and reads them. ``ticks`` counts the frames of length 0."""

    def __init__(self, peer: Atom, flags: Flags, *, max_frame: int, max_unfinished: int) -> None:
        self._peer = peer
        self._max_frame = max_frame
        self._has_fragments = Flags.FRAGMENTS in flags
        self._has_header = self._has_fragments or Flags.DIST_HDR_ATOM_CACHE in flags
        self._atom_cache = AtomReader()
        self._overwrites = 0
        self._prefix_cache = FramePrefixCache()
        self._reassembly = Reassembly(max_sequences=MAX_SEQUENCES, max_bytes=max_unfinished)
        self._partial = bytearray()
        self._needed = 0
        self.ticks = 0

    @property
    def buffered(self) -> int:
        """Bytes that wait for the rest of their frame or of their message."""
        return len(self._partial) + self._reassembly.buffered

    def feed_data(self, data: bytes, signals: list[Signal]) -> None:
        """Append to ``signals`` what ``data`` completes. Raises RemoteProtocolError or DecodeError for the first fault,
        when all before it is appended; nothing may be received after that.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return
            data = bytes(self._partial)
            self._partial = bytearray()
        done = self._read_frames(data, signals)
        if done < len(data):
            self._partial += memoryview(data)[done:]

    def _read_frames(self, data: bytes, signals: list[Signal]) -> int:
        """All frames that are complete; the offset of the first that is not."""
        known, append, max_frame = self._prefix_cache.send_entries, signals.append, self._max_frame
        position, end = 0, len(data)
        while (start := position + 4) <= end:
            (length,) = _u32(data, position)
            if length > max_frame:
                raise FrameTooLong(f"a frame of {length} bytes is announced, more than the {max_frame} allowed")
            stop = start + length
            if stop > end:
                self._needed = stop - position
                return position
            position = stop
            if not length:
                self.ticks += 1
                continue
            try:
                control_at = start + CACHED_HEADER_SIZE[data[start + 2]]
                at = control_at + CONTROL_SIZE[data[control_at + 3]]
                beginning = known.get(data[start:at])
                if beginning is not None:
                    atoms, kind, sender, target = beginning
                    message, at = decode_term(data, at, atoms)
                    if at <= stop:
                        append(kind(sender, target, message))
                        continue
            except (IndexError, DecodeError):
                pass  # too short or faulty: read alone, it will say so in its own words
            signal = self._read_frame(data[start:stop])
            if signal is not None:
                append(signal)
        self._needed = 4
        return position

    def _read_frame(self, frame: bytes) -> Signal | None:
        if not self._has_header:
            return self._read_pass_through(frame)
        if frame[0] != _VERSION:
            raise RemoteProtocolError(f"a distribution header begins with 131, not {frame[0]}")
        layout = frame[1] if len(frame) > 1 else None
        if layout == _NORMAL:
            return self._prefix_cache.lookup(frame) or self._read_normal(frame)
        if not self._has_fragments or layout not in (_FIRST_FRAGMENT, _FRAGMENT):
            raise RemoteProtocolError(f"a distribution header of the unknown kind {layout}")
        if layout == _FIRST_FRAGMENT:
            atoms, _, offset = self._read_header(frame, FRAGMENT_HEAD_SIZE)
            whole = self._reassembly.add_first(frame, offset, atoms)
        else:
            whole = self._reassembly.add_next(frame)
        return self._read_terms(whole[1], 0, whole[0]) if whole is not None else None

    def _read_normal(self, frame: bytes) -> Signal:
        atoms, fresh, offset = self._read_header(frame, 2)
        return self._read_terms(frame, offset, atoms, cacheable=not fresh)

    def _read_header(self, frame: bytes, offset: int) -> tuple[tuple[Atom, ...], bool, int]:
        header = self._atom_cache.read(frame, offset)
        if self._atom_cache.overwrites != self._overwrites:
            self._overwrites = self._atom_cache.overwrites
            self._prefix_cache.clear()
        return header

    def _read_terms(self, frame: bytes, control_at: int, atoms: tuple[Atom, ...], *, cacheable: bool = False) -> Signal:
        control, offset = decode_term(frame, control_at, atoms)
        message = decode_term(frame, offset, atoms)[0] if carries_message(control) else NO_MESSAGE
        signal = decode_control(control, message, self._peer)
        if cacheable:
            self._prefix_cache.store(frame, control_at, offset, atoms, signal)
        return signal

    def _read_pass_through(self, frame: bytes) -> Signal:
        if frame[0] != _PASS_THROUGH:
            raise RemoteProtocolError(f"a frame without distribution header begins with 112, not {frame[0]}")
        control, offset = decode_term(frame, _skip_version(frame, 1))
        if not carries_message(control):
            return decode_control(control, NO_MESSAGE, self._peer)
        message, _ = decode_term(frame, _skip_version(frame, offset))
        return decode_control(control, message, self._peer)


def _skip_version(frame: bytes, offset: int) -> int:
    if frame[offset : offset + 1] != b"\x83":
        raise RemoteProtocolError(f"a term that stands alone begins with 131, not {frame[offset : offset + 1]!r}")
    return offset + 1
