"""The sending side of an established connection: signals to bytes in a queue.

A process often sends many messages to the same receiver. For such a pair the writer caches the bytes of the header and
the control tuple (the *prefix*). Then it encodes only the message. The cached header also lists the atoms of the
message that it was made for, because similar messages need the same atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct names it like a module
from typing import Any, Final

from erlmesh.errors import EncodeError, LocalProtocolError
from erlmesh.etf import encode_into, encode_term
from erlmesh.proto.atom_cache import AtomWriter, References
from erlmesh.proto.bounded_dict import BoundedDict
from erlmesh.proto.control import Demonitor, Down, Monitor, Send, SendAlias, SendName, Signal, SpawnReply
from erlmesh.proto.encode_control import encode_control
from erlmesh.proto.flags import Flags
from erlmesh.proto.fragments import MAX_UNFRAGMENTED, split
from erlmesh.proto.frame_prefix_cache import REF_WORDS_SIZE
from erlmesh.proto.ops import NO_MESSAGE, Op
from erlmesh.proto.send_queue import LARGE_PIECE, Buffer, SendQueue, join_short_pieces
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["TICK", "FrameWriter", "check_length", "encode_standalone"]

TICK: Final = bytes(4)
"""A frame of length 0."""
MAX_PREFIXES: Final = 1024
"""Maximum number of cached prefixes. If there are more, the oldest one is removed."""
MAX_REFERENCES: Final = 24
"""Maximum number of references in one header. More would cost more than they save."""
MAX_FRAME: Final = 0x07FF0000
"""Bytes of the longest frame that we send. A BEAM reads frames of up to 2²⁷-1 bytes, header included."""
EMPTY_HEADER: Final = b"\x83D\x00"
"""A distribution header without atom references."""
_REF_WORDS_COUNT: Final = 3
"""Words of the references whose prefixes are cached. Most have three; OTP's references that contain a pid have five."""

_u32 = Struct(">I").pack
_words = Struct(">III").pack
# The two signals about a process that the peer spawned and monitors: SPAWN_REPLY {31, Ref, Parent, Flags, Child} and
# DOWN {28, Child, Parent, Ref}. They are packed in one call each, because a remote spawn is expected to be cheap.
# Every header starts with our node and the peer's node, so the node of a pid is reference 0 or 1.
_LOCAL_PID, _PEER_PID, _PEER_REF = b"XR\0", b"XR\1", b"Z\0\3R\1"  # tags up to and including the node
_pack_spawn_reply = Struct(">4s5sI3I3sIIIcB3sIII").pack
_pack_down = Struct(">4s3sIII3sIII5sI3I").pack
_SPAWN_REPLY_HEAD, _DOWN_HEAD = b"h\5a%c" % Op.SPAWN_REPLY, b"h\4a%c" % Op.PAYLOAD_MONITOR_P_EXIT


class FrameWriter:
    """Encodes each signal at once and appends its frame to ``queue``.

    ``nodes`` are the names of the local node and the peer. Every header lists them first.

    The methods raise EncodeError or LocalProtocolError. The state and the queue are then unchanged.
    """

    def __init__(self, nodes: Iterable[Atom], flags: Flags, queue: SendQueue) -> None:
        self._nodes = tuple(nodes)
        self._flags = flags
        self._queue = queue
        self._has_fragments = Flags.FRAGMENTS in flags
        self._has_cache = Flags.DIST_HDR_ATOM_CACHE in flags
        self._has_header = self._has_fragments or self._has_cache
        self._has_exit_payload = Flags.EXIT_PAYLOAD in flags
        self._atom_cache = AtomWriter()
        self._prefix_cache: BoundedDict[Any, tuple[bytes, dict[Atom, int]]] = BoundedDict(MAX_PREFIXES)
        """By the fields of a signal that the prefix contains: the prefix, and the atom references of its header."""
        self._sequence = 0
        """The id of the last fragment sequence."""
        self.signals = 0
        """Signals queued since the start."""

    def write(self, signal: Signal) -> int:
        """Queue the frame of ``signal``, or several frames if it is fragmented. Return the bytes queued then.

        Raises EncodeError or LocalProtocolError; nothing is queued then.
        """
        if isinstance(signal, (Send, SendName)):
            key = (signal.sender, signal.to if isinstance(signal, Send) else signal.name)
            cached = self._prefix_cache.get(key)
            if cached is None or signal.token is not None:  # a traced signal has another op and one more element
                self._write_uncached(signal, key if signal.token is None else None)
            else:
                self._write_cached(cached, signal.message)
        else:
            self._write_with_ref(signal)
        self.signals += 1
        return self._queue.queued

    def send(self, sender: Pid, to: Pid, message: Term) -> int:
        """Do the same as ``write(Send(sender, to, message))``, without making the signal."""
        cached = self._prefix_cache.get((sender, to))
        if cached is not None:
            self._write_cached(cached, message)
        else:
            self._write_uncached(Send(sender, to, message), (sender, to))
        self.signals += 1
        queue = self._queue
        return queue.appended - queue.removed

    def _write_cached(self, cached: tuple[bytes, dict[Atom, int]], message: Term) -> None:
        head, references = cached
        pieces: list[bytes] = [head]
        encode_into(message, pieces, references)
        # Most messages are short, and to sum up their pieces takes three times as long as to join them. A large binary
        # is often the last piece, or the last but one in a list: then nothing is joined.
        if len(pieces[-1]) < LARGE_PIECE and len(pieces[-2]) < LARGE_PIECE:
            frame = b"".join(pieces)
            if len(frame) < LARGE_PIECE:
                self._queue.append(_u32(len(frame)) + frame)
                return
        self._append(head, pieces[1:])

    def encode_standalone(self, signal: Signal) -> bytes:
        """See :func:`encode_standalone`."""
        return encode_standalone(signal, self._flags)

    def _write_with_ref(self, signal: Signal) -> None:
        """Write a signal whose control tuple ends in a reference, or any other signal.

        The words of the reference differ every time, so the cached prefix ends before them.
        """
        key: Any
        match signal:
            case Monitor(sender, target, ref) | Demonitor(sender, target, ref):
                key, term = (type(signal), sender, target, ref.node, ref.creation), NO_MESSAGE
            case SendAlias(sender, ref, term, None):
                key = (sender, ref.node, ref.creation)
            case Down(Pid() as source, to, ref, term) if self._has_exit_payload and self._is_spawned_by_peer(
                source, to, ref
            ):
                self._write_packed(signal, _down_control(source, to, ref), term)
                return
            # The packed form has one byte for the flags, and no place for a trace token.
            case SpawnReply(ref, to, flags, Pid() as child, None) if 0 <= flags < 256 and self._is_spawned_by_peer(
                child, to, ref
            ):
                self._write_packed(signal, _spawn_reply_control(child, to, ref, flags), NO_MESSAGE)
                return
            # Without EXIT_PAYLOAD the reason is inside the control tuple, after the reference.
            case Down(source, to, ref, term) if self._has_exit_payload:
                key = (Down, source, to, ref.node, ref.creation)
            case _:
                self._write_uncached(signal)
                return
        if len(ref.words) != _REF_WORDS_COUNT:
            self._write_uncached(signal)
        elif (cached := self._prefix_cache.get(key)) is None:
            self._write_uncached(signal, key, suffix_size=REF_WORDS_SIZE)
        else:
            head, references = cached
            self._append(head + _ref_words(ref), _encode(term, references))

    def _is_spawned_by_peer(self, child: Pid, parent: Pid, ref: Ref) -> bool:
        """Return whether the packed forms fit: a local child, and a parent and a reference of the peer."""
        if not self._has_cache or len(ref.words) != _REF_WORDS_COUNT:  # without the cache, atoms have no references
            return False
        local_node, peer = self._nodes
        return child.node is local_node and parent.node is peer and ref.node is peer

    def _write_packed(self, signal: Signal, control: bytes, term: Any) -> None:
        """Write a packed control tuple with the header of the last signal of this class: the prefix is the header."""
        cached = self._prefix_cache.get(type(signal))
        if cached is None:
            self._write_uncached(signal, type(signal), suffix_size=len(control))
        else:
            head, references = cached
            self._append(head + control, _encode(term, references))

    def _write_uncached(self, signal: Signal, key: Any = None, *, suffix_size: int = 0) -> None:
        """Encode a signal in full. If ``key`` is given, cache its prefix under it.

        ``suffix_size`` is the number of bytes at the end of the control tuple that belong to this signal only.
        """
        control, term = encode_control(signal, self._flags)
        references = self._new_header()
        body = encode_term(control, references)
        references.encoding_message = True
        message = _encode(term, references)
        self._check_length(len(body), sum(map(len, message)))
        if not self._has_header:
            self._append_frame(b"p\x83" + body, [b"\x83", *message] if message else [])
            return
        # From here on nothing may fail: the header fills cells, so the frame must be sent.
        header, has_new = self._atom_cache.write(references)
        head = b"\x83D" + header + body
        if key is not None and not has_new:  # a header with new references must not be sent again
            self._prefix_cache.store(key, (head[: len(head) - suffix_size], dict(references)))
        self._append_frame(head, message)

    def _new_header(self) -> References:
        """Start a header that lists the names of both nodes first. It stays empty if there is no atom cache."""
        references = self._atom_cache.new_header(limit=MAX_REFERENCES if self._has_cache else 0)
        for node in self._nodes:
            references.get(node)
        return references

    def _append(self, head: bytes, message: list[bytes]) -> None:
        """Queue the frame with ``head``, which is the header and the control tuple, and the pieces of ``message``."""
        size = sum(map(len, message))
        if size > MAX_UNFRAGMENTED:
            self._check_length(len(head), size)
        self._append_frame(head, message)

    def _append_frame(self, head: bytes, message: list[bytes]) -> None:
        """Queue the frame, or its fragments, without a copy of large pieces. This never raises."""
        size = sum(map(len, message))
        if size > MAX_UNFRAGMENTED and self._has_fragments:
            self._append_fragments(head, message)
            return
        size += len(head)
        if size < LARGE_PIECE:
            self._queue.append(b"".join((_u32(size), head, *message)))
        else:
            # Joined now: each short piece would take many times its size while it waits.
            self._queue.extend(join_short_pieces((_u32(size), head, *message)), 4 + size)

    def _append_fragments(self, head: bytes, message: list[bytes]) -> None:
        self._sequence += 1
        pieces: list[Buffer] = []
        for frame in split(self._sequence, head[2:], message):  # without the bytes 131 68
            pieces += (_u32(sum(map(len, frame))), *frame)
        self._queue.extend(pieces, sum(map(len, pieces)))

    def _check_length(self, head: int, message: int) -> None:
        check_length(head + (0 if self._has_fragments else message))  # a fragmented message has no limit


def encode_standalone(signal: Signal, flags: Flags) -> bytes:
    """Return one frame for a short ``signal`` that neither uses nor changes the atom cache.

    So it may be sent between any two other frames, and another thread may call this at any time.
    """
    control, term = encode_control(signal, flags)
    body = encode_term(control)
    message = encode_term(term) if term is not NO_MESSAGE else b""
    if flags & (Flags.FRAGMENTS | Flags.DIST_HDR_ATOM_CACHE):
        body = EMPTY_HEADER + body
    else:
        body, message = b"p\x83" + body, b"\x83" + message if message else b""
    return _u32(len(body) + len(message)) + body + message


def check_length(length: int) -> None:
    """Raise LocalProtocolError if a frame of ``length`` bytes is too long."""
    if length > MAX_FRAME:
        raise LocalProtocolError(f"a frame of {length} bytes is longer than a peer reads ({MAX_FRAME})")


def _ref_words(ref: Ref) -> bytes:
    try:
        return _words(*ref.words)
    except StructError as error:
        raise EncodeError(f"the words of a reference are out of range: {error}") from None


def _encode(term: Any, references: dict[Atom, int]) -> list[bytes]:
    """Return the pieces of a message; an empty list for a signal without one."""
    pieces: list[bytes] = []
    if term is not NO_MESSAGE:
        encode_into(term, pieces, references)
    return pieces


def _spawn_reply_control(child: Pid, parent: Pid, ref: Ref, flags: int) -> bytes:
    parent_numbers = parent.id, parent.serial, parent.creation
    child_numbers = child.id, child.serial, child.creation
    return _pack_checked(
        _pack_spawn_reply,
        _SPAWN_REPLY_HEAD,
        _PEER_REF,
        ref.creation,
        *ref.words,
        _PEER_PID,
        *parent_numbers,
        b"a",
        flags,
        _LOCAL_PID,
        *child_numbers,
    )


def _down_control(child: Pid, parent: Pid, ref: Ref) -> bytes:
    parent_numbers = parent.id, parent.serial, parent.creation
    child_numbers = child.id, child.serial, child.creation
    ref_numbers = ref.creation, *ref.words
    return _pack_checked(
        _pack_down, _DOWN_HEAD, _LOCAL_PID, *child_numbers, _PEER_PID, *parent_numbers, _PEER_REF, *ref_numbers
    )


def _pack_checked(pack: Callable[..., bytes], *parts: Any) -> bytes:
    try:
        return pack(*parts)
    except StructError as error:
        raise EncodeError(f"a number in an identifier is out of range: {error}") from None
