"""Encoding and decoding of the handshake's packets, without their lengths.

A packet that is truncated, too long or invalid raises RemoteProtocolError. Only after a name are further bytes ignored,
because later versions of the protocol may add fields there. All other packets have a fixed length, as in OTP.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from erlmesh.errors import RemoteProtocolError
from erlmesh.proto.flags import Flags

MAX_NAME: Final = 255
"""Characters of a node name."""


def is_long_name(name: str) -> bool:
    """Return whether ``name`` is a long node name: its host contains a dot, or is an address.

    Nodes with long names and nodes with short names never connect (OTP: ``erl -name`` and ``-sname``).
    """
    host = name.partition("@")[2]
    return "." in host or ":" in host


def is_node_name(name: str) -> bool:
    """Return whether ``name`` is a full node name: ``name@host``, printable ASCII, at most 255 characters."""
    before, at, after = name.partition("@")
    return (
        bool(before and at and after)
        and "@" not in after
        and name.isascii()
        and name.isprintable()
        and len(name) <= MAX_NAME
    )


def digest(cookie: str, challenge: int) -> bytes:
    """Return the 16 bytes that prove knowledge of ``cookie``: the MD5 of the cookie and the decimal challenge.

    Raises ``ValueError`` if the cookie has a character outside of Latin-1.
    """
    try:
        secret = cookie.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("a cookie can contain Latin-1 characters only") from None
    import hashlib  # noqa: PLC0415 - it is slow to import, and the first connection comes after the start

    return hashlib.md5(secret + b"%d" % challenge, usedforsecurity=False).digest()


def is_digest(proof: bytes, cookie: str, challenge: int) -> bool:
    """Return whether ``proof`` is :func:`digest` of the same. The time does not depend on where they differ."""
    import hmac  # noqa: PLC0415 - as hashlib above, which it imports

    return hmac.compare_digest(proof, digest(cookie, challenge))


_OLD_TAG: Final = ord("n")
_NAME: Final = struct.Struct(">cQIH")  # tag, flags, creation, length of the name that follows
_OLD: Final = struct.Struct(">cHI")  # tag, version 5, low 32 flags; the name follows
_CHALLENGE: Final = struct.Struct(">cQIIH")  # tag, flags, challenge, creation, length of the name that follows
_REPLY: Final = struct.Struct(">cI16s")  # tag, challenge, digest
_ACK: Final = struct.Struct(">c16s")  # tag, digest
_COMPLEMENT: Final = struct.Struct(">cII")  # tag, high 32 flags, creation


def encode_name(flags: Flags, creation: int, name: str) -> bytes:
    return _NAME.pack(b"N", flags, creation, len(name)) + name.encode()


def encode_named(name: str, creation: int) -> bytes:
    """The status that gives the initiator a dynamic node name, and the creation of its pids."""
    return b"snamed:" + struct.pack(">H", len(name)) + name.encode() + struct.pack(">I", creation)


def encode_challenge(flags: Flags, challenge: int, creation: int, name: str) -> bytes:
    return _CHALLENGE.pack(b"N", flags, challenge, creation, len(name)) + name.encode()


def encode_reply(challenge: int, proof: bytes) -> bytes:
    return _REPLY.pack(b"r", challenge, proof)


def is_old(packet: bytes) -> bool:
    """Return whether a name packet has the old format. Its sender sends a complement packet after the challenge."""
    return packet[0] == _OLD_TAG


def decode_name(packet: bytes) -> tuple[Flags, int, str]:
    """Return the flags (expanded), the creation and the name of the initiator.

    With the flag ``NAME_ME`` it has no name yet, and this is the host part of the name that it wants.
    """
    if is_old(packet):
        return _decode_old_name(packet)
    _, bits, creation, length = _unpack(_NAME, packet, "name")
    flags = Flags(bits).expanded()
    return flags, creation, _node_name(packet, _NAME.size, length, "name", host_only=Flags.NAME_ME in flags)


def _decode_old_name(packet: bytes) -> tuple[Flags, int, str]:
    """Decode the old name packet. A node sends it if it did not learn our version from EPMD.

    Its creation follows later, in the complement packet.
    """
    _, _version, bits = _unpack(_OLD, packet, "name")
    return Flags(bits).expanded(), 0, _node_name(packet, _OLD.size, len(packet) - _OLD.size, "name")


def decode_challenge(packet: bytes) -> tuple[Flags, int, int, str]:
    """Return the flags (expanded), the challenge, the creation and the name of the acceptor."""
    _, bits, challenge, creation, length = _unpack(_CHALLENGE, packet, "challenge")
    return Flags(bits).expanded(), challenge, creation, _node_name(packet, _CHALLENGE.size, length, "challenge")


def decode_complement(packet: bytes) -> tuple[int, int]:
    """Return the high 32 flags and the creation of an initiator that sent the old name packet."""
    _, high, creation = _unpack(_COMPLEMENT, packet, "complement", exact=True)
    return high, creation


def decode_reply(packet: bytes) -> tuple[int, bytes]:
    """Return the initiator's challenge and its digest of our challenge."""
    _, challenge, proof = _unpack(_REPLY, packet, "challenge reply", exact=True)
    return challenge, proof


def decode_ack(packet: bytes) -> bytes:
    """Return the acceptor's digest of our challenge."""
    _, proof = _unpack(_ACK, packet, "challenge ack", exact=True)
    found: bytes = proof
    return found


def _unpack(layout: struct.Struct, packet: bytes, packet_kind: str, *, exact: bool = False) -> tuple[Any, ...]:
    if len(packet) < layout.size:
        raise RemoteProtocolError(f"its {packet_kind} message is truncated: {packet[:60]!r}")
    if exact and len(packet) > layout.size:
        raise RemoteProtocolError(f"its {packet_kind} message has {len(packet)} bytes instead of {layout.size}")
    return layout.unpack_from(packet)


def _node_name(packet: bytes, start: int, length: int, packet_kind: str, *, host_only: bool = False) -> str:
    """Decode and check a name. With ``host_only`` it is a host alone, as in a request for a dynamic node name."""
    raw = packet[start : start + length]
    name = raw.decode("latin-1")  # never fails, so that an invalid name appears in the error text
    if len(raw) < length:
        raise RemoteProtocolError(f"its {packet_kind} message is truncated within the name {name[:60]!r}")
    if not is_node_name(f"x@{name}" if host_only else name):
        raise RemoteProtocolError(f"its {packet_kind} message has an invalid node name: {name[:60]!r}")
    return name
