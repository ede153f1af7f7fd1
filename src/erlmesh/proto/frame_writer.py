"""Signals to bytes: what leaves on an established connection.

What is said once is likely to be said again by the same process to the same process. The writer keeps the bytes of
header and control tuple for such pairs, and then has only the message left to write. The header it keeps also refers
to the atoms of the message that it was made for: others like it will need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Any, Final

from erlmesh.errors import EncodeError, LocalProtocolError
from erlmesh.etf import encode_term
from erlmesh.proto.atom_cache import AtomWriter, References
from erlmesh.proto.control import Demonitor, Down, Monitor, Send, SendAlias, SendName, Signal, SpawnReply
from erlmesh.proto.encode_control import encode_control
from erlmesh.proto.flags import Flags
from erlmesh.proto.fragments import FRAGMENT_SIZE, split
from erlmesh.proto.frame_prefix_cache import REF_WORDS_SIZE
from erlmesh.proto.ops import NO_MESSAGE, Op
from erlmesh.terms import Atom, Pid, Ref

__all__ = ["TICK", "FrameWriter"]

TICK: Final = bytes(4)
MAX_PREFIXES: Final = 1024
MAX_REFERENCES: Final = 24
"""References of one header; more would cost more than they save."""
MAX_FRAME: Final = 0x07FF0000
"""Bytes of the longest frame that we send: a BEAM reads up to 2²⁷-1, header included."""
EMPTY_HEADER: Final = b"\x83D\x00"
_REF_WORDS_COUNT: Final = 3

_u32 = Struct(">I").pack
_words = Struct(">III").pack
# Birth and death of a process that the peer asked for, and watches: {31, Ref, Parent, Flags, Pid}, {28, Pid, Parent,
# Ref}. Our headers begin with our node and the peer's: a pid's node is reference 0 or 1.
_LOCAL_PID, _PEER_PID, _PEER_REF = b"XR\0", b"XR\1", b"Z\0\3R\1"
_pack_spawn_reply = Struct(">4s5sI3I3sIIIcB3sIII").pack
_pack_down = Struct(">4s3sIII3sIII5sI3I").pack
_SPAWN_REPLY_HEAD, _DOWN_HEAD = b"h\5a%c" % Op.SPAWN_REPLY, b"h\4a%c" % Op.PAYLOAD_MONITOR_P_EXIT


class FrameWriter:
    """Gives each signal its bytes at once; ``nodes`` are the names of both ends, which every header refers to."""

    def __init__(self, nodes: Iterable[Atom], flags: Flags) -> None:
        self._nodes = tuple(nodes)
        self._flags = flags
        self._has_fragments = Flags.FRAGMENTS in flags
        self._has_cache = Flags.DIST_HDR_ATOM_CACHE in flags
        self._has_header = self._has_fragments or self._has_cache
        self._has_exit_payload = Flags.EXIT_PAYLOAD in flags
        self._atom_cache = AtomWriter()
        self._prefix_cache: dict[Any, tuple[bytes, dict[Atom, int]]] = {}
        self._sequence = 0

    def write(self, signal: Signal) -> bytes:
        """The frame (or frames) that say ``signal``, to be sent in the order of the calls. Raises EncodeError or
        LocalProtocolError, and then nothing has happened.
        """
        if isinstance(signal, (Send, SendName)):
            key = (signal.sender, signal.to if isinstance(signal, Send) else signal.name)
            known = self._prefix_cache.get(key)
            if known is None or signal.token is not None:
                return self._write_uncached(signal, key if signal.token is None else None)
            head, references = known
            message = encode_term(signal.message, references)
            if len(message) <= FRAGMENT_SIZE:
                return _u32(len(head) + len(message)) + head + message
            return self._frame(head, message)
        return self._write_with_ref(signal)

    def write_standalone(self, signal: Signal) -> bytes:
        """One frame for a short ``signal`` that refers to nothing said before and teaches nothing: it may stand between
        any two others, and may be made in another thread meanwhile. Raises EncodeError or LocalProtocolError.
        """
        control, term = encode_control(signal, self._flags)
        body = encode_term(control)
        message = encode_term(term) if term is not NO_MESSAGE else b""
        if self._has_header:
            body = EMPTY_HEADER + body
        else:
            body, message = b"p\x83" + body, b"\x83" + message if message else b""
        return _u32(len(body) + len(message)) + body + message

    def _write_with_ref(self, signal: Signal) -> bytes:
        """Tuples that end in a reference, which is another one every time: they are known up to its words."""
        key: Any
        match signal:
            case Monitor(sender, target, ref) | Demonitor(sender, target, ref):
                key, term = (type(signal), sender, target, ref.node, ref.creation), NO_MESSAGE
            case SendAlias(sender, ref, term, None):
                key = (sender, ref.node, ref.creation)
            case Down(Pid() as source, to, ref, term) if self._has_exit_payload and self._is_spawned_by_peer(
                source, to, ref
            ):
                return self._write_packed(signal, _down_control(source, to, ref), term)
            case SpawnReply(ref, to, flags, Pid() as child, None) if 0 <= flags < 256 and self._is_spawned_by_peer(
                child, to, ref
            ):
                return self._write_packed(signal, _spawn_reply_control(child, to, ref, flags), NO_MESSAGE)
            case Down(source, to, ref, term) if self._has_exit_payload:
                key = (Down, source, to, ref.node, ref.creation)
            case _:
                return self._write_uncached(signal)
        if len(ref.words) != _REF_WORDS_COUNT:
            return self._write_uncached(signal)
        known = self._prefix_cache.get(key)
        if known is None:
            return self._write_uncached(signal, key, suffix_size=REF_WORDS_SIZE)
        head, references = known
        message = encode_term(term, references) if term is not NO_MESSAGE else b""
        try:
            return self._frame(head + _words(*ref.words), message)
        except StructError as error:
            raise EncodeError(f"the words of a reference are out of range: {error}") from None

    def _is_spawned_by_peer(self, child: Pid, parent: Pid, ref: Ref) -> bool:
        if not self._has_cache or len(ref.words) != _REF_WORDS_COUNT:
            return False
        ours, theirs = self._nodes
        return child.node is ours and parent.node is theirs and ref.node is theirs

    def _write_packed(self, signal: Signal, control: bytes, term: Any) -> bytes:
        """Nothing but ``control`` and the message is new: the header is that of the last signal of its kind."""
        known = self._prefix_cache.get(type(signal))
        if known is None:
            return self._write_uncached(signal, type(signal), suffix_size=len(control))
        head, references = known
        return self._frame(head + control, encode_term(term, references) if term is not NO_MESSAGE else b"")

    def _write_uncached(self, signal: Signal, key: Any = None, *, suffix_size: int = 0) -> bytes:
        """``key``: under what to keep the beginning; ``own``: how many bytes at its end are this signal's alone."""
        control, term = encode_control(signal, self._flags)
        references = self._new_header()
        body = encode_term(control, references)
        references.encoding_message = True
        message = encode_term(term, references) if term is not NO_MESSAGE else b""
        self._check_length(body, message)
        if not self._has_header:
            return self._frame(b"p\x83" + body, b"\x83" + message if term is not NO_MESSAGE else b"")
        # From here on nothing can fail: the peer must hear of the cells that the header fills.
        header, fresh = self._atom_cache.write(references)
        head = b"\x83D" + header + body
        if key is not None and not fresh:
            if len(self._prefix_cache) >= MAX_PREFIXES:
                self._prefix_cache.clear()
            self._prefix_cache[key] = head[: len(head) - suffix_size], dict(references)
        return self._frame(head, message)

    def _new_header(self) -> References:
        references = self._atom_cache.new_header(limit=MAX_REFERENCES if self._has_cache else 0)
        for node in self._nodes:
            references.get(node)
        return references

    def _frame(self, head: bytes, message: bytes) -> bytes:
        if len(message) <= FRAGMENT_SIZE or not self._has_fragments:
            return _u32(len(head) + len(message)) + head + message
        self._sequence += 1
        return b"".join(_length_prefixed(split(self._sequence, head[2:], message)))

    def _check_length(self, body: bytes, message: bytes) -> None:
        length = len(body) + (0 if self._has_fragments else len(message))
        if length > MAX_FRAME:
            raise LocalProtocolError(f"a frame of {length} bytes is longer than any peer reads ({MAX_FRAME})")


def _spawn_reply_control(child: Pid, parent: Pid, ref: Ref, flags: int) -> bytes:
    to = parent.id, parent.serial, parent.creation
    who = child.id, child.serial, child.creation
    return _pack_checked(
        _pack_spawn_reply,
        _SPAWN_REPLY_HEAD,
        _PEER_REF,
        ref.creation,
        *ref.words,
        _PEER_PID,
        *to,
        b"a",
        flags,
        _LOCAL_PID,
        *who,
    )


def _down_control(child: Pid, parent: Pid, ref: Ref) -> bytes:
    to = parent.id, parent.serial, parent.creation
    who = child.id, child.serial, child.creation
    return _pack_checked(_pack_down, _DOWN_HEAD, _LOCAL_PID, *who, _PEER_PID, *to, _PEER_REF, ref.creation, *ref.words)


def _pack_checked(pack: Callable[..., bytes], *parts: Any) -> bytes:
    try:
        return pack(*parts)
    except StructError as error:
        raise EncodeError(f"a number in an identifier is out of range: {error}") from None


def _length_prefixed(frames: Iterable[bytes]) -> Iterator[bytes]:
    for frame in frames:
        yield _u32(len(frame))
        yield frame
