"""The packets of the handshake, without their length: bytes to values and back. Short or senseless ones raise
RemoteProtocolError; bytes after the last field belong to protocols yet to come and are ignored.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

from erlmesh.errors import RemoteProtocolError
from erlmesh.proto.flags import Flags

MAX_NAME: Final = 255


def is_long_name(name: str) -> bool:
    """Whether ``name`` is a long node name: its host has a dot, or is an address.

    Nodes with long names and nodes with short names never connect (OTP: ``erl -name`` and ``-sname``).
    """
    host = name.partition("@")[2]
    return "." in host or ":" in host


def is_node_name(name: str) -> bool:
    """Whether this is a full node name: printable ASCII, at most 255 characters, ``name@host`` with one ``@``."""
    before, at, after = name.partition("@")
    return (
        bool(before and at and after)
        and "@" not in after
        and name.isascii()
        and name.isprintable()
        and len(name) <= MAX_NAME
    )


def digest(cookie: str, challenge: int) -> bytes:
    """The 16 bytes that prove knowledge of ``cookie``. Raises ``ValueError`` for a cookie beyond Latin-1."""
    try:
        secret = cookie.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("a cookie is made of Latin-1 characters only") from None
    return hashlib.md5(secret + b"%d" % challenge, usedforsecurity=False).digest()


_OLD_TAG: Final = ord("n")
_NAME: Final = struct.Struct(">cQIH")
_OLD: Final = struct.Struct(">cHI")
_CHALLENGE: Final = struct.Struct(">cQIIH")
_REPLY: Final = struct.Struct(">cI16s")
_COMPLEMENT: Final = struct.Struct(">cII")


def encode_name(flags: Flags, creation: int, name: str) -> bytes:
    return _NAME.pack(b"N", flags, creation, len(name)) + name.encode()


def encode_challenge(flags: Flags, challenge: int, creation: int, name: str) -> bytes:
    return _CHALLENGE.pack(b"N", flags, challenge, creation, len(name)) + name.encode()


def encode_reply(challenge: int, proof: bytes) -> bytes:
    return _REPLY.pack(b"r", challenge, proof)


def is_old(packet: bytes) -> bool:
    """Whether a name packet is of the older kind, which is followed by a complement after the challenge."""
    return packet[0] == _OLD_TAG


def decode_name(packet: bytes) -> tuple[Flags, int, str]:
    if is_old(packet):
        return _decode_old_name(packet)
    _, bits, creation, length = _unpack(_NAME, packet, "name")
    flags = Flags(bits).expanded()
    return flags, creation, _node_name(packet, _NAME.size, length, "name", host_only=Flags.NAME_ME in flags)


def _decode_old_name(packet: bytes) -> tuple[Flags, int, str]:
    """The first message of a node that did not learn our version from an EPMD; its creation follows later."""
    _, _version, bits = _unpack(_OLD, packet, "name")
    return Flags(bits).expanded(), 0, _node_name(packet, _OLD.size, len(packet) - _OLD.size, "name")


def decode_challenge(packet: bytes) -> tuple[Flags, int, int, str]:
    _, bits, challenge, creation, length = _unpack(_CHALLENGE, packet, "challenge")
    return Flags(bits).expanded(), challenge, creation, _node_name(packet, _CHALLENGE.size, length, "challenge")


def decode_complement(packet: bytes) -> tuple[int, int]:
    _, high, creation = _unpack(_COMPLEMENT, packet, "complement")
    return high, creation


def decode_reply(packet: bytes) -> tuple[int, bytes]:
    _, challenge, proof = _unpack(_REPLY, packet, "challenge reply")
    return challenge, proof


def decode_ack(packet: bytes) -> bytes:
    if len(packet) < 17:
        raise RemoteProtocolError(f"its challenge ack is cut short: {packet!r}")
    return packet[1:17]


def _unpack(layout: struct.Struct, packet: bytes, packet_kind: str) -> tuple[Any, ...]:
    if len(packet) < layout.size:
        raise RemoteProtocolError(f"its {packet_kind} message is cut short: {packet[:60]!r}")
    return layout.unpack_from(packet)


def _node_name(packet: bytes, start: int, length: int, packet_kind: str, *, host_only: bool = False) -> str:
    raw = packet[start : start + length]
    name = raw.decode("latin-1")
    if len(raw) < length:
        raise RemoteProtocolError(f"its {packet_kind} message is cut short within the name {name[:60]!r}")
    if not (is_node_name(name) or (host_only and name.isascii())):
        raise RemoteProtocolError(f"its {packet_kind} message has no valid node name but {name[:60]!r}")
    return name
