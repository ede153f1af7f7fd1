"""How two nodes meet: the version 6 handshake of the distribution protocol (``erl_dist_protocol``, ``dist_util.erl``).

::

    caller                                   answerer
    N flags creation name            ──►
                                     ◄──     s ok | ok_simultaneous | nok | not_allowed | alive
    s true | false  (after "alive")  ──►
                                     ◄──     N flags challenge creation name
    r challenge digest               ──►
                                     ◄──     a digest

A digest is MD5 over the cookie and the other side's challenge in decimal: each proves that it knows the cookie, and
neither shows it. The two conversations below are generators that read like this picture: they yield a packet to say
it and a :class:`Hear` to be sent the next one, and return whom they :class:`Met`.
:class:`erlmesh.proto.handshake_driver.Handshake` gives them bytes and time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from erlmesh.errors import HandshakeRefused, LocalProtocolError, RemoteProtocolError
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.flags import OFFERED, REQUIRED, Flags
from erlmesh.proto.handshake_packets import digest, is_long_name, is_node_name

__all__ = [
    "HandshakeCompleted",
    "HandshakeSteps",
    "InitiatorClosed",
    "LocalNode",
    "NeedPacket",
    "PeerClosed",
    "SimultaneousConnect",
    "Status",
    "accept",
    "digest",
    "initiate",
    "is_long_name",
    "is_node_name",
]


class Status(Enum):
    """What an answerer says to a caller's name."""

    OK = "ok"
    OK_SIMULTANEOUS = "ok_simultaneous"
    """Go on; the answerer had its own attempt towards the caller and has just dropped it."""
    NOK = "nok"
    """Stop: the answerer's own attempt towards the caller goes on instead."""
    NOT_ALLOWED = "not_allowed"
    ALIVE = "alive"
    """The answerer believes that it is connected with the caller already."""


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """The handshake is done. ``flags`` is what both can do, ``theirs`` what the peer said of itself (expanded): whether
    it is visible is ``Flags.PUBLISHED in met.theirs``.
    """

    name: str
    flags: Flags
    peer_flags: Flags
    creation: int


class SimultaneousConnect(HandshakeRefused):
    """Our call ends because another connection with this node is coming or there already: wait for that one."""


class InitiatorClosed(HandshakeRefused):
    """A caller has seen who we are, and has left: it is for him to know why."""


class PeerClosed(Exception):
    """There will be no further packet. Thrown into a conversation that listens."""


@dataclass(frozen=True, slots=True)
class NeedPacket:
    """A conversation waits for a packet that begins with one of ``tags``; ``what`` names it for people."""

    description: str
    tags: bytes


HandshakeSteps: TypeAlias = Generator[bytes | NeedPacket, bytes, HandshakeCompleted]


@dataclass(frozen=True, slots=True)
class LocalNode:
    """What a node brings to every handshake.

    ``cookie_for`` gives the cookie shared with the named peer. ``challenge`` gives an unpredictable number 0 … 2³²-1.
    ``outstanding`` holds the challenges that we wait to see answered on any connection: a peer that asks us one of
    them wants to have its own answer written by us. All conversations of a node must share one set.
    """

    name: str
    creation: int
    cookie_for: Callable[[str], str]
    new_challenge: Callable[[], int]
    outstanding: set[int]
    flags: Flags = OFFERED


def initiate(
    local: LocalNode,
    name: str,
    keep_attempt: Callable[[], bool],
    refusal_reason: Callable[[int], str | None] = lambda _: None,
) -> HandshakeSteps:
    """Call the node ``name``, on a connection that we opened.

    ``still_wanted`` is asked when the peer believes that it is connected with us: true to replace that connection,
    false if by now we have a working one ourselves. ``why_not`` is asked for a reason not to meet the peer in the life
    of that creation, unless it was calling us, too. Raises :class:`CallMeNot`, HandshakeRefused, RemoteProtocolError.
    """
    if not is_node_name(name):
        raise LocalProtocolError(f"{name!r} is no node name: it must look like name@host, in ASCII")
    yield packets.encode_name(local.flags, local.creation, local.name)
    calls_us = yield from _receive_status(name, keep_attempt)

    theirs, challenge, creation, answered = packets.decode_challenge((yield NeedPacket(f"{name}'s challenge", b"N")))
    if answered != name:
        raise HandshakeRefused(
            f"the node at that address is {answered}, not {name}: "
            "a node must be called by exactly the name it was started with"
        )
    if not calls_us and (why := refusal_reason(creation)):
        raise HandshakeRefused(why)
    _require_flags(theirs, name)
    _reject_reflected_challenge(local, challenge, name)
    cookie = local.cookie_for(name)

    with _outstanding_challenge(local) as ours:
        yield packets.encode_reply(ours, digest(cookie, challenge))
        try:
            proof = packets.decode_ack((yield NeedPacket(f"{name}'s proof of the cookie", b"a")))
        except PeerClosed:
            raise HandshakeRefused(
                f"{name} closed the connection after our challenge reply: the cookies probably differ"
            ) from None
        if not hmac.compare_digest(proof, digest(cookie, ours)):
            raise HandshakeRefused(f"{name} does not know our cookie: its proof is wrong (the cookies differ)")
    return HandshakeCompleted(name, local.flags & theirs, theirs, creation)


def accept(local: LocalNode, decide: Callable[[str, Flags], Status]) -> HandshakeSteps:
    """Answer whoever calls, on a connection that the peer opened.

    ``decide(name, flags)`` is called once, the moment a well-formed caller has said its name, and must there and then
    reserve what it promises (`OK` makes a pending connection). Raises HandshakeRefused, RemoteProtocolError; then
    whatever was reserved is to be given back. After ``ALIVE`` the old connection must end before the last packet
    is written, as ``dist_util.erl`` does.
    """
    first = yield NeedPacket("the caller's name", b"Nn")
    theirs, creation, name = packets.decode_name(first)
    status = _preliminary_status(local, name, theirs) or decide(name, theirs)
    yield b"s" + status.value.encode()
    yield from _enforce_status(local, name, theirs, status)

    cookie = local.cookie_for(name)
    with _outstanding_challenge(local) as ours:
        yield packets.encode_challenge(local.flags, ours, local.creation, local.name)
        if packets.is_old(first):
            high, creation = packets.decode_complement((yield NeedPacket(f"the rest of {name}'s flags", b"c")))
            theirs = (theirs | Flags(high << 32)).expanded()
        try:
            challenge, proof = packets.decode_reply((yield NeedPacket(f"{name}'s challenge reply", b"r")))
        except PeerClosed:
            raise InitiatorClosed(f"{name} closed the connection after our challenge") from None
        if not hmac.compare_digest(proof, digest(cookie, ours)):
            raise HandshakeRefused(
                f"Connection attempt from node {name} rejected: invalid challenge reply (the cookies differ)"
            )
        _reject_reflected_challenge(local, challenge, name)
    yield b"a" + digest(cookie, challenge)
    return HandshakeCompleted(name, local.flags & theirs, theirs, creation)


# The middle of each conversation


def _receive_status(name: str, keep_attempt: Callable[[], bool]) -> Generator[bytes | NeedPacket, bytes, bool]:
    """Whether the peer was calling us at the same time, and has given that up for our call."""
    match (yield NeedPacket(f"{name}'s status", b"s"))[1:]:
        case b"ok":
            return False
        case b"ok_simultaneous":
            return True
        case b"nok":
            raise SimultaneousConnect(f"{name} is calling us at the same time, and its call goes first")
        case b"not_allowed":
            raise HandshakeRefused(
                f"{name} does not let us in: not_allowed (it misses something in us; its log says what)"
            )
        case b"alive":
            wanted = keep_attempt()
            yield b"strue" if wanted else b"sfalse"
            if not wanted:
                raise SimultaneousConnect(f"{name} has connected us in the meantime")
            return False
        case other:
            raise RemoteProtocolError(f"{name} answered our name with the unknown status {other[:40]!r}")


def _enforce_status(
    local: LocalNode, name: str, peer_flags: Flags, status: Status
) -> Generator[bytes | NeedPacket, bytes, None]:
    match status:
        case Status.NOK if name == local.name:
            raise HandshakeRefused(f"Connection attempt from a node with our own name, {name}, rejected")
        case Status.NOK:
            raise SimultaneousConnect(f"Connection attempt from node {name} rejected: our own call to it goes first")
        case Status.NOT_ALLOWED:
            _require_flags(peer_flags, name)
            raise HandshakeRefused(f"Connection attempt from node {name} rejected: not allowed here")
        case Status.ALIVE:
            match (yield NeedPacket(f"{name}'s word on the old connection", b"s"))[1:]:
                case b"true":
                    return
                case b"false":
                    raise HandshakeRefused(f"{name} keeps the connection that it has with us and drops its second call")
                case other:
                    raise RemoteProtocolError(
                        f"{name} answered our 'alive' with {other[:40]!r}, neither true nor false"
                    )


def _preliminary_status(local: LocalNode, name: str, peer_flags: Flags) -> Status | None:
    """What needs no asking: None to go on and ask."""
    if peer_flags.missing(REQUIRED) or Flags.NAME_ME in peer_flags:
        return Status.NOT_ALLOWED
    return Status.NOK if name == local.name else None


def _require_flags(peer_flags: Flags, name: str) -> None:
    if missing := peer_flags.missing(REQUIRED):
        raise HandshakeRefused(
            f"{name} cannot do what we need: it lacks {', '.join(missing)} (it is older than OTP 23)"
        )
    if Flags.NAME_ME in peer_flags:
        raise HandshakeRefused(
            f"{name} asks to be given a node name, which this node does not do: start it with a name"
        )


def _reject_reflected_challenge(local: LocalNode, challenge: int, name: str) -> None:
    if challenge in local.outstanding:
        raise HandshakeRefused(
            f"{name} sent our own challenge back to us, to have us answer it: it does not know the cookie"
        )


@contextmanager
def _outstanding_challenge(local: LocalNode) -> Iterator[int]:
    challenge = local.new_challenge()
    local.outstanding.add(challenge)
    try:
        yield challenge
    finally:
        local.outstanding.discard(challenge)
