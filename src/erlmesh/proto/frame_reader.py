"""The receiving side of an established connection: bytes to signals.

A frame is a length of four bytes, a header, a control tuple and, for some signals, a message. The negotiated flags
decide the kind of header for the whole connection. With DIST_HDR_ATOM_CACHE or FRAGMENTS every frame has a distribution
header (``131 68 …``), otherwise it has none (``112 131 …``, "pass through"). A frame of length 0 is a tick.

A message with many elements takes long to decode. If the caller asks for it, such a message is decoded in slices, and
all that follows it waits.
"""

from __future__ import annotations

from collections.abc import Generator
from struct import Struct
from typing import Final

from erlmesh.collector import without_collector
from erlmesh.errors import DecodeError, RemoteProtocolError
from erlmesh.etf import decode_term
from erlmesh.proto.atom_cache import CACHED_HEADER_SIZE, AtomReader
from erlmesh.proto.control import Signal
from erlmesh.proto.decode_control import decode_control
from erlmesh.proto.flags import Flags
from erlmesh.proto.fragments import FRAGMENT_HEAD_SIZE, Reassembly
from erlmesh.proto.frame_prefix_cache import CONTROL_SIZE, FramePrefixCache
from erlmesh.proto.ops import NO_MESSAGE, carries_message
from erlmesh.proto.partial_frame import PartialFrame
from erlmesh.terms import Atom

__all__ = ["SLICED_ELEMENTS", "FrameReader", "FrameTooLong", "TooManyElements", "read_in_slices", "read_terms"]

MAX_SEQUENCES: Final = 4096
"""Unfinished fragment sequences that a peer may have."""
UNCOUNTED_PART: Final = 4
"""A message is not counted if the limit of elements is so many times its bytes. Then it is decoded quickly, also if few
of its bytes count for more elements: a key of a map does.
"""
SLICED_ELEMENTS: Final = 1 << 16
"""A message with more elements is decoded in slices."""

_NEVER: Final = 1 << 62
"""More bytes than a message can have."""
_VERSION: Final = 131
_NORMAL, _FIRST_FRAGMENT, _FRAGMENT, _PASS_THROUGH = b"DEFp"  # 68, 69, 70 after the version byte; 112 without it

_u32 = Struct(">I").unpack_from


class FrameTooLong(RemoteProtocolError):
    """The length field of a frame is greater than the limit."""

    @classmethod
    def of(cls, length: int, max_frame: int) -> FrameTooLong:
        """Return the error for a frame of ``length`` bytes."""
        return cls(f"a frame of {length} bytes is longer than the {max_frame} allowed")


class TooManyElements(DecodeError):
    """A message has more elements than this node reads."""

    @classmethod
    def of(cls, limit: int, offset: int) -> TooManyElements:
        """Return the error for the container at ``offset``, with which the number exceeds the limit."""
        return cls(f"a message with more than the {limit} elements allowed", offset)


class FrameReader:
    """Splits a byte stream into frames and decodes them."""

    def __init__(self, peer: Atom, flags: Flags, *, max_frame: int, max_unfinished: int, max_elements: int) -> None:
        self._peer = peer
        self._max_frame = max_frame
        self._max_elements = max_elements
        self._max_uncounted = max_elements // UNCOUNTED_PART
        self._max_short = min(max_frame, self._max_uncounted)
        """Bytes of the longest frame that needs no check of a limit."""
        self._has_fragments = Flags.FRAGMENTS in flags
        self._has_header = self._has_fragments or Flags.DIST_HDR_ATOM_CACHE in flags
        self._atom_cache = AtomReader()
        self._overwrites = 0
        """The atom cache's count of overwrites for which the prefix cache is valid."""
        self._prefix_cache = FramePrefixCache()
        self._reassembly = Reassembly(max_sequences=MAX_SEQUENCES, max_bytes=max_unfinished)
        self._partial = PartialFrame()
        self._sliced_from = _NEVER
        """Bytes of a message from which on it may be long enough for slices."""
        self._slices: Generator[None, None, Signal] | None = None
        """Decodes the message that is decoded in slices now."""
        self._sliced_size = 0
        """The bytes of its frame."""
        self._needed = 0
        """The size that ``_partial`` must have before it is worth another look: a whole frame, or its length field."""
        self.ticks = 0
        """Number of frames of length 0 received."""

    @classmethod
    def restored(
        cls,
        peer: Atom,
        flags: Flags,
        limits: tuple[int, int, int],
        cells: dict[int, Atom],
        sequences: list[tuple[int, int, int]],
    ) -> FrameReader:
        """Return a reader in the state of another implementation, which gives up a frame.

        ``limits`` are ``max_frame``, ``max_unfinished`` and ``max_elements``. ``cells`` are the filled cells of the
        atom cache. ``sequences`` are the id, the next number and the size of each unfinished fragment sequence. Its
        bytes are left out, so this reader cannot complete it.
        """
        reader = cls(peer, flags, max_frame=limits[0], max_unfinished=limits[1], max_elements=limits[2])
        reader._atom_cache.restore(cells)
        reader._reassembly.restore(sequences)
        return reader

    @property
    def buffered(self) -> int:
        """Bytes of incomplete frames and incomplete messages, also of one that is decoded in slices."""
        return self._partial.size + self._reassembly.buffered + self._sliced_size

    def drop_received(self) -> None:
        """Drop what has arrived in part, because the connection is lost."""
        self._reassembly.clear()
        self._partial.take()
        self._slices, self._sliced_size = None, 0

    def allow_slices(self) -> None:
        """From now on, decode long messages in slices. The caller looks at ``is_decoding`` after each read."""
        self._sliced_from = SLICED_ELEMENTS // UNCOUNTED_PART
        self._max_short = min(self._max_short, self._sliced_from)

    @property
    def is_decoding(self) -> bool:
        """A message is decoded in part. Call ``decode_more``, and feed nothing before it is complete."""
        return self._slices is not None

    def decode_more(self, signals: list[Signal]) -> None:
        """Decode one more slice. If that completes the message, do the same as ``feed_data`` with what follows it."""
        if self._slices is None:
            return
        try:
            without_collector(next, self._slices)
        except StopIteration as end:
            self._slices, self._sliced_size = None, 0
            signals.append(end.value)
            self._needed = 0
            self.feed_data(b"", signals)

    def feed_data(self, data: bytes, signals: list[Signal]) -> None:
        """Append to ``signals`` all signals that ``data`` completes.

        Raises RemoteProtocolError or DecodeError for the first invalid frame. All signals before it are appended then,
        and no more data may be fed.
        """
        if self._partial.size or self._slices is not None:
            self._partial.append(data)
            # Without this, a long frame in many pieces would take quadratic time.
            if self._partial.size < self._needed or self._slices is not None:
                return
            data = self._partial.take()
        done = self._read_frames(data, signals)
        if done < len(data):
            self._partial.append(data[done:])

    def _read_frames(self, data: bytes, signals: list[Signal]) -> int:
        """Decode all complete frames. Return the offset of the first incomplete one."""
        # Local names, because this is the innermost loop. The prefix cache clears its dict but never replaces it.
        send_entries, append, max_short = self._prefix_cache.send_entries, signals.append, self._max_short
        position, end = 0, len(data)
        while (start := position + 4) <= end:
            (length,) = _u32(data, position)
            is_long = length > max_short
            if is_long and length > self._max_frame:
                raise FrameTooLong.of(length, self._max_frame)
            stop = start + length
            if stop > end:
                self._needed = stop - position
                return position
            position = stop
            if not length:
                self.ticks += 1
                continue
            # The fast path: guess the end of a send prefix and look it up, without a copy of the frame. A wrong guess
            # finds nothing, because only prefixes with this end are stored.
            try:
                control_at = start + CACHED_HEADER_SIZE[data[start + 2]]
                at = control_at + CONTROL_SIZE[data[control_at + 3]]
                entry = send_entries.get(data[start:at])
                if entry is not None and not is_long:
                    atoms, kind, sender, target = entry
                    message, at = decode_term(data, at, atoms)
                    if at <= stop:  # the message does not run into the next frame
                        append(kind(sender, target, message))
                        continue
            except (IndexError, DecodeError):
                pass  # the frame is short or invalid; read_frame decodes it alone and raises the proper error
            signal = self.read_frame(data[start:stop])
            if signal is not None:
                append(signal)
            elif self._slices is not None:
                break
        self._needed = 4  # at most a part of a length field is left
        return position

    def read_frame(self, frame: bytes) -> Signal | None:
        """Decode one frame without its length.

        Return None for a fragment that does not complete its message, and for a message that is decoded in slices.
        """
        if not self._has_header:
            return self._read_pass_through(frame)
        if frame[0] != _VERSION:
            raise RemoteProtocolError(f"a distribution header starts with 131, not {frame[0]}")
        layout = frame[1] if len(frame) > 1 else None
        if layout == _NORMAL:
            if len(frame) > self._max_short:
                return self._read_normal(frame)
            return self._prefix_cache.lookup(frame) or self._read_normal(frame)
        if not self._has_fragments or layout not in (_FIRST_FRAGMENT, _FRAGMENT):
            raise RemoteProtocolError(f"a distribution header has the unknown type {layout}")
        if layout == _FIRST_FRAGMENT:
            atoms, _, offset = self._read_header(frame, FRAGMENT_HEAD_SIZE)
            whole = self._reassembly.add_first(frame, offset, atoms)
        else:
            whole = self._reassembly.add_next(frame)
        return self._read_terms(whole[1], 0, whole[0]) if whole is not None else None

    def _read_normal(self, frame: bytes) -> Signal | None:
        atoms, has_new, offset = self._read_header(frame, 2)
        return self._read_terms(frame, offset, atoms, cacheable=not has_new)

    def _read_header(self, frame: bytes, offset: int) -> tuple[tuple[Atom, ...], bool, int]:
        header = self._atom_cache.read(frame, offset)
        if self._atom_cache.overwrites != self._overwrites:  # equal header bytes have another meaning now
            self._overwrites = self._atom_cache.overwrites
            self._prefix_cache.clear()
        return header

    def _read_terms(
        self, frame: bytes, control_at: int, atoms: tuple[Atom, ...], *, cacheable: bool = False
    ) -> Signal | None:
        """Decode the control tuple and the message. ``cacheable`` stores the prefix of the frame for the next ones.

        Return None for a message that is decoded in slices.
        """
        if self._is_sliced(frame, control_at, atoms):
            return None
        signal, offset = read_terms(frame, control_at, atoms, self._peer)
        if cacheable:
            self._prefix_cache.store(frame, control_at, offset, atoms, signal)
        return signal

    def _is_sliced(self, frame: bytes, offset: int, atoms: tuple[Atom, ...]) -> bool:
        """Check the number of elements. Return whether the message will be decoded in slices, if these are allowed."""
        size = len(frame) - offset
        if size > self._sliced_from:
            if _first_beyond(frame, offset, min(SLICED_ELEMENTS, self._max_elements)) is None:
                return False
            self._slices = read_in_slices(frame, offset, atoms, self._peer, self._max_elements)
            self._sliced_size = len(frame)
            return True
        if size > self._max_uncounted and (at := _first_beyond(frame, offset, self._max_elements)) is not None:
            raise TooManyElements.of(self._max_elements, at)
        return False

    def _read_pass_through(self, frame: bytes) -> Signal | None:
        if frame[0] != _PASS_THROUGH:
            raise RemoteProtocolError(f"a frame without distribution header starts with 112, not {frame[0]}")
        if self._is_sliced(frame, 1, ()):
            return None
        # Without a header, the control tuple and the message are two standalone terms.
        control, offset = decode_term(frame, _skip_version(frame, 1))
        if not carries_message(control):
            return decode_control(control, NO_MESSAGE, self._peer)
        message, _ = decode_term(frame, _skip_version(frame, offset))
        return decode_control(control, message, self._peer)


def _first_beyond(frame: bytes, offset: int, limit: int) -> int | None:
    from erlmesh.etf.element_count import first_beyond  # noqa: PLC0415 - few nodes get such long messages

    return first_beyond(frame, offset, limit)


def read_in_slices(
    frame: bytes, offset: int, atoms: tuple[Atom, ...], peer: Atom, limit: int
) -> Generator[None, None, Signal]:
    """Count and decode the control tuple and the message from ``offset`` on. Return the signal; yield after each slice.

    ``limit`` is the number of elements that are allowed. In a frame without a header, ``offset`` is 1. Raises
    RemoteProtocolError or DecodeError.
    """
    from erlmesh.etf.slices import count_in_slices, decode_in_slices  # noqa: PLC0415 - few nodes get such long messages

    at = yield from count_in_slices(frame, offset, limit)
    if at is not None:
        raise TooManyElements.of(limit, at)
    is_plain = offset == 1  # two standalone terms
    control, offset = yield from decode_in_slices(frame, _skip_version(frame, offset) if is_plain else offset, atoms)
    message = NO_MESSAGE
    if carries_message(control):
        offset = _skip_version(frame, offset) if is_plain else offset
        message, _ = yield from decode_in_slices(frame, offset, atoms)
    return decode_control(control, message, peer)


def read_terms(frame: bytes, control_at: int, atoms: tuple[Atom, ...], peer: Atom) -> tuple[Signal, int]:
    """Decode the control tuple at ``control_at`` and the message after it. Return the signal and the message's offset.

    Raises RemoteProtocolError or DecodeError.
    """
    control, offset = decode_term(frame, control_at, atoms)
    message = decode_term(frame, offset, atoms)[0] if carries_message(control) else NO_MESSAGE
    return decode_control(control, message, peer), offset


def _skip_version(frame: bytes, offset: int) -> int:
    """Return the offset after byte 131 at ``offset``."""
    if frame[offset : offset + 1] != b"\x83":
        raise RemoteProtocolError(f"a standalone term starts with 131, not {frame[offset : offset + 1]!r}")
    return offset + 1
