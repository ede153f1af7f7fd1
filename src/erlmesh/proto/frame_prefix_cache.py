"""What the first bytes of a frame mean: header and control tuple, remembered from one frame to the next.

One frame is much like the one before: the same references, sender and receiver. The bytes of such a beginning mean the
same as long as no cell of the atom cache is overwritten, and reading the frame is then reading its message. Two forms
are remembered: whole beginnings of messages to pids and names; and those of tuples that end in a reference, up to its
words, which never come twice.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Any, Final, TypeAlias

from erlmesh.errors import DecodeError
from erlmesh.etf import decode_term
from erlmesh.proto.atom_cache import CACHED_HEADER_SIZE
from erlmesh.proto.control import Demonitor, Down, Monitor, Send, SendAlias, SendName, Signal
from erlmesh.proto.ops import Op
from erlmesh.terms import Atom, Ref, Term

__all__ = ["CONTROL_SIZE", "REF_WORDS_SIZE", "FramePrefixCache"]

MAX_ENTRIES: Final = 1024
"""Beginnings of each form; then all are forgotten."""

# A tuple's head and op; a pid, atom and the start of a reference (up to its words) whose atom is a cache reference.
_HEAD, _PID, _ATOM, _REF = 4, 15, 2, 9
_PID_TAG: Final = ord("X")
_REF_HEAD: Final = b"Z\x00\x03R"
REF_WORDS_SIZE: Final = 12
_words = Struct(">III").unpack_from

_SIZES: Final = {Op.SEND_SENDER: _HEAD + _PID + _PID, Op.REG_SEND: _HEAD + _PID + _ATOM + _ATOM}
CONTROL_SIZE: Final = tuple(dict(_SIZES).get(op, 0) for op in range(256))  # type: ignore[call-overload]
"""By op: how long a control tuple of the first form is; 0 for all others."""

_ALIAS_SEND, _DOWN = int(Op.ALIAS_SEND), int(Op.PAYLOAD_MONITOR_P_EXIT)
_REF_OPS: Final = {_ALIAS_SEND, _DOWN, int(Op.MONITOR_P), int(Op.DEMONITOR_P)}

SendEntry: TypeAlias = tuple[tuple[Atom, ...], Callable[[Any, Any, Term], Signal], Any, Any]
RefEntry: TypeAlias = tuple[tuple[Atom, ...], type, Any, Any, Atom, int]


class FramePrefixCache:
    """``known`` maps beginnings of the first form to the atoms of the frame, the kind of signal, sender and target."""

    def __init__(self) -> None:
        self.send_entries: dict[bytes, SendEntry] = {}
        self._ref_entries: dict[bytes, RefEntry] = {}

    def clear(self) -> None:
        """A cell of the atom cache was overwritten."""
        self.send_entries.clear()
        self._ref_entries.clear()

    def store(self, frame: bytes, control_at: int, message_at: int, atoms: tuple[Atom, ...], signal: Signal) -> None:
        """``frame``, whose control tuple has these bounds, was found to be ``signal``. None of its references may be
        new.
        """
        match signal:
            case Send(sender, to) if sender is not None:
                self._store_send(frame, control_at, message_at, (atoms, Send, sender, to))
            case SendName(sender, name):
                self._store_send(frame, control_at, message_at, (atoms, SendName, sender, name))
            case SendAlias(sender, ref):
                self._store_ref(frame, control_at, message_at, (atoms, SendAlias, sender, None), ref)
            case Monitor(sender, target, ref) | Demonitor(sender, target, ref):
                self._store_ref(frame, control_at, message_at, (atoms, type(signal), sender, target), ref)
            case Down(source, to, ref):
                self._store_ref(frame, control_at, message_at, (atoms, Down, source, to), ref)

    # What no look-up would find, because it has another form, is not kept.

    def _store_send(self, frame: bytes, control_at: int, message_at: int, entry: SendEntry) -> None:
        if message_at - control_at != CONTROL_SIZE[frame[control_at + 3]]:
            return
        if len(self.send_entries) >= MAX_ENTRIES:
            self.send_entries.clear()
        self.send_entries[frame[:message_at]] = entry

    def _store_ref(
        self, frame: bytes, control_at: int, message_at: int, entry: tuple[tuple[Atom, ...], type, Any, Any], ref: Ref
    ) -> None:
        end = message_at - REF_WORDS_SIZE
        head = frame[end - _REF : end - _REF + len(_REF_HEAD)]
        if end != _ref_prefix_end(frame, control_at) or head != _REF_HEAD:
            return
        if len(self._ref_entries) >= MAX_ENTRIES:
            self._ref_entries.clear()
        self._ref_entries[frame[:end]] = *entry, ref.node, ref.creation

    def lookup(self, frame: bytes) -> Signal | None:
        """The signal of a frame with a remembered beginning of the second form; None too if its rest is faulty."""
        try:
            end = _ref_prefix_end(frame, CACHED_HEADER_SIZE[frame[2]])
            meaning = self._ref_entries.get(frame[:end]) if end else None
            return self._complete(meaning, frame, end) if meaning is not None else None
        except (IndexError, StructError, DecodeError):
            return None

    def _complete(self, entry: RefEntry, frame: bytes, end: int) -> Signal:
        atoms, kind, first, second, node, creation = entry
        ref = Ref(node, creation, _words(frame, end))
        if kind is SendAlias:
            return SendAlias(first, ref, decode_term(frame, end + REF_WORDS_SIZE, atoms)[0])
        if kind is Down:
            return Down(first, second, ref, decode_term(frame, end + REF_WORDS_SIZE, atoms)[0])
        signal: Signal = kind(first, second, ref)
        return signal


def _ref_prefix_end(frame: bytes, control_at: int) -> int:
    """Where the words of the last element stand, if this is a tuple of the second form; 0 if not."""
    op = frame[control_at + 3]
    if op not in _REF_OPS:
        return 0
    if op == _ALIAS_SEND:
        return control_at + _HEAD + _PID + _REF
    other_at = control_at + _HEAD + (0 if op == _DOWN else _PID)
    return control_at + _HEAD + _PID + (_PID if frame[other_at] == _PID_TAG else _ATOM) + _REF
