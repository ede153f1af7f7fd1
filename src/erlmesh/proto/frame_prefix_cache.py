"""A cache from the first bytes of received frames, header and control tuple, to their meaning.

Consecutive frames are often alike: the same atom references, the same sender, the same receiver. Equal prefixes mean
the same as long as no cell of the atom cache is overwritten. On a hit, only the message has to be decoded.

Two forms are cached:

* *send prefixes*: the whole header and control tuple of a message to a pid or a name;
* *ref prefixes*: those of a control tuple that ends in a reference, up to the words of the reference. The words differ
  in every frame.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Any, Final, TypeAlias

from erlmesh.errors import DecodeError
from erlmesh.etf import decode_term
from erlmesh.proto.atom_cache import CACHED_HEADER_SIZE
from erlmesh.proto.bounded_dict import BoundedDict
from erlmesh.proto.control import Demonitor, Down, Monitor, Send, SendAlias, SendName, Signal
from erlmesh.proto.ops import Op
from erlmesh.terms import Atom, Ref, Term

__all__ = ["CONTROL_SIZE", "REF_WORDS_SIZE", "FramePrefixCache"]

MAX_ENTRIES: Final = 1024
"""Maximum number of prefixes of each form."""

# Sizes in bytes, with every atom as a cache reference: the start of a control tuple (tuple tag, arity, op), a pid, an
# atom, and a reference up to its words.
_HEAD, _PID, _ATOM, _REF = 4, 15, 2, 9
_PID_TAG: Final = ord("X")
_REF_HEAD: Final = b"Z\x00\x03R"  # NEWER_REFERENCE_EXT with three words, and an atom cache reference
REF_WORDS_SIZE: Final = 12
"""Bytes of the three words of a reference."""
_words = Struct(">III").unpack_from

_SIZES: Final = {Op.SEND_SENDER: _HEAD + _PID + _PID, Op.REG_SEND: _HEAD + _PID + _ATOM + _ATOM}
CONTROL_SIZE: Final = tuple(dict(_SIZES).get(op, 0) for op in range(256))
"""By op: the size of a control tuple whose prefix is a send prefix; 0 for all other ops."""

_ALIAS_SEND, _DOWN = Op.ALIAS_SEND, Op.PAYLOAD_MONITOR_P_EXIT
_REF_OPS: Final = {_ALIAS_SEND, _DOWN, Op.MONITOR_P, Op.DEMONITOR_P}

# The atoms of the header, the class of the signal, the sender and the target.
SendEntry: TypeAlias = tuple[tuple[Atom, ...], Callable[[Any, Any, Term], Signal], Any, Any]
# The atoms of the header, the class of the signal, its first two fields, and the node and creation of the reference.
RefEntry: TypeAlias = tuple[tuple[Atom, ...], type, Any, Any, Atom, int]


class FramePrefixCache:
    """The cached prefixes of one connection. They are valid only with the atom cache of the same connection."""

    def __init__(self) -> None:
        self.send_entries: BoundedDict[bytes, SendEntry] = BoundedDict(MAX_ENTRIES)
        """By send prefix. The frame reader uses it directly: a method call for every frame would cost too much."""
        self._ref_entries: BoundedDict[bytes, RefEntry] = BoundedDict(MAX_ENTRIES)

    def clear(self) -> None:
        """Drop all prefixes. The caller must do so when a cell of the atom cache is overwritten."""
        self.send_entries.clear()
        self._ref_entries.clear()

    def store(self, frame: bytes, control_at: int, message_at: int, atoms: tuple[Atom, ...], signal: Signal) -> None:
        """Add the prefix of ``frame``, which was decoded as ``signal``, if it has one of the two forms.

        ``control_at`` and ``message_at`` are the bounds of the control tuple. No reference in the header may be new,
        because the same bytes would then not fill the cell again.
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

    # The look-ups compute the end of a prefix from its first bytes and the usual sizes. These two methods store only
    # prefixes for which that gives the right end. So a tuple with an atom in full, for example, is never stored.

    def _store_send(self, frame: bytes, control_at: int, message_at: int, entry: SendEntry) -> None:
        if message_at - control_at != CONTROL_SIZE[frame[control_at + 3]]:
            return
        self.send_entries.store(frame[:message_at], entry)

    def _store_ref(
        self, frame: bytes, control_at: int, message_at: int, entry: tuple[tuple[Atom, ...], type, Any, Any], ref: Ref
    ) -> None:
        end = message_at - REF_WORDS_SIZE
        head = frame[end - _REF : end - _REF + len(_REF_HEAD)]
        if end != _ref_prefix_end(frame, control_at) or head != _REF_HEAD:
            return
        self._ref_entries.store(frame[:end], (*entry, ref.node, ref.creation))

    def lookup(self, frame: bytes) -> Signal | None:
        """Return the signal of a frame with a known ref prefix; None if it has none, or if its rest is invalid."""
        try:
            end = _ref_prefix_end(frame, CACHED_HEADER_SIZE[frame[2]])
            entry = self._ref_entries.get(frame[:end]) if end else None
            return self._complete(entry, frame, end) if entry is not None else None
        except (IndexError, StructError, DecodeError):
            return None  # the caller decodes the frame in full, which gives a proper error

    def _complete(self, entry: RefEntry, frame: bytes, end: int) -> Signal:
        """Return the signal of ``entry`` with the reference words and the message after the prefix."""
        atoms, kind, first, second, node, creation = entry
        ref = Ref(node, creation, _words(frame, end))
        if kind is SendAlias:
            return SendAlias(first, ref, decode_term(frame, end + REF_WORDS_SIZE, atoms)[0])
        if kind is Down:
            return Down(first, second, ref, decode_term(frame, end + REF_WORDS_SIZE, atoms)[0])
        signal: Signal = kind(first, second, ref)
        return signal


def _ref_prefix_end(frame: bytes, control_at: int) -> int:
    """Return the end of the ref prefix of ``frame``, where the reference words start; 0 if its op has none.

    ``control_at`` is the offset of the control tuple.
    """
    op = frame[control_at + 3]
    if op not in _REF_OPS:
        return 0
    if op == _ALIAS_SEND:
        return control_at + _HEAD + _PID + _REF
    # One more element is a pid or an atom: the source, which comes first, or the target after the sender's pid.
    other_at = control_at + _HEAD + (0 if op == _DOWN else _PID)
    return control_at + _HEAD + _PID + (_PID if frame[other_at] == _PID_TAG else _ATOM) + _REF
