"""The handshake of the distribution protocol, version 6 (``erl_dist_protocol``, "Distribution Handshake";
``dist_util.erl``), without I/O.

::

    initiator                                acceptor
    N flags creation name            ──►
                                     ◄──     s ok | ok_simultaneous | nok | not_allowed | alive | named …
    s true | false  (after "alive")  ──►
                                     ◄──     N flags challenge creation name
    r challenge digest               ──►
                                     ◄──     a digest

An initiator without a name (``erl -sname undefined``) sends the flag ``NAME_ME`` and its host in place of a name. The
status ``named`` brings the name and the creation that it has from then on: a dynamic node name.

A digest is the MD5 of the cookie and the other side's challenge in decimal. So each side proves that it knows the
cookie and does not reveal it.

:func:`initiate` and :func:`accept` are generators that read like this picture. They yield ``bytes`` to send a packet,
:class:`NeedPacket` to receive the next one, and :class:`Pause` to wait. They return :class:`HandshakeCompleted`.
:class:`erlmesh.proto.handshake_driver.HandshakeDriver` runs them with bytes and time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TypeAlias

from erlmesh.errors import HandshakeRefused, LocalProtocolError, RemoteProtocolError
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.flags import OFFERED, REQUIRED, Flags
from erlmesh.proto.handshake_packets import digest, is_digest, is_long_name, is_node_name
from erlmesh.records import record

__all__ = [
    "HandshakeCompleted",
    "HandshakeSteps",
    "InitiatorClosed",
    "LocalNode",
    "NeedPacket",
    "Pause",
    "PeerClosed",
    "SimultaneousConnect",
    "Status",
    "TooManyGuesses",
    "WrongCookie",
    "accept",
    "digest",
    "initiate",
    "is_long_name",
    "is_node_name",
]


class Status(Enum):
    """The acceptor's answer to the initiator's name."""

    OK = "ok"
    OK_SIMULTANEOUS = "ok_simultaneous"
    """Continue. The acceptor also had an attempt to connect to the initiator, and has just dropped it."""
    NOK = "nok"
    """Stop. The acceptor's own attempt to connect to the initiator goes on instead."""
    NOT_ALLOWED = "not_allowed"
    """Stop. The acceptor does not accept this initiator."""
    ALIVE = "alive"
    """The acceptor still has a connection with the initiator. The initiator answers whether to replace it."""


@record(frozen=True)
class HandshakeCompleted:
    """The handshake is complete.

    ``flags`` are the capabilities that both nodes have. ``peer_flags`` are those that the peer sent, expanded. The peer
    is visible if ``Flags.PUBLISHED in event.peer_flags``. ``creation`` is the creation of the peer.
    """

    name: str
    flags: Flags
    peer_flags: Flags
    creation: int


class SimultaneousConnect(HandshakeRefused):
    """Our attempt ends because another connection with this node exists or is being set up. Wait for that one."""


class InitiatorClosed(HandshakeRefused):
    """The initiator closed the connection after it received our name and challenge. Only it knows the reason."""


class WrongCookie(HandshakeRefused):
    """The initiator does not know the cookie. ``name`` is what it calls itself."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Connection attempt from node {name} rejected: invalid challenge reply (the cookies differ)")
        self.name = name


class TooManyGuesses(HandshakeRefused):
    """The initiator's digest was not checked, because its address has sent too many wrong ones."""


class PeerClosed(Exception):
    """Thrown into the generator at a :class:`NeedPacket` if the peer closed the connection: no packet will follow."""


@record(frozen=True)
class NeedPacket:
    """The handshake needs a packet that starts with one of ``tags``. ``description`` names it in error texts."""

    description: str
    tags: bytes


@record(frozen=True)
class Pause:
    """The handshake goes on after ``seconds``. The peer must send nothing until then."""

    seconds: float


HandshakeSteps: TypeAlias = Generator[bytes | NeedPacket | Pause, bytes, HandshakeCompleted]


@record(frozen=True)
class LocalNode:
    """The local node's data for every handshake.

    ``cookie_for`` returns the cookie shared with the named peer. ``new_challenge`` returns an unpredictable number,
    0 … 2³²-1.

    ``outstanding`` contains all challenges that we have sent and that are not answered yet, on any connection. A peer
    that sends us one of them wants us to compute its own reply (a reflection attack). All handshakes of a node must
    share one set.
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
    """Run the handshake with the node ``name`` on a connection that we opened.

    ``keep_attempt`` is called if the peer answers that it already has a connection with us. It returns true to replace
    that connection, and false if we have a working connection by now.

    ``refusal_reason`` is called with the creation of the peer. It returns a reason not to connect to this incarnation,
    or None. It is not called if the peer was connecting to us at the same time.

    Raises :class:`SimultaneousConnect`, HandshakeRefused, RemoteProtocolError, and LocalProtocolError for an invalid
    ``name``.
    """
    if not is_node_name(name):
        raise LocalProtocolError(f"{name!r} is not a node name: it must have the form name@host, in ASCII")
    yield packets.encode_name(local.flags, local.creation, local.name)
    peer_yielded = yield from _receive_status(name, keep_attempt)

    challenge_packet = yield NeedPacket(f"{name}'s challenge", b"N")
    peer_flags, challenge, creation, peer_name = packets.decode_challenge(challenge_packet)
    if peer_name != name:  # EPMD was wrong, or the host has another name
        raise HandshakeRefused(
            f"the node at that address is {peer_name}, not {name}: use exactly the name that the node was started with"
        )
    # A peer that was connecting to us wants this connection, so a local reason against it does not count.
    if not peer_yielded and (reason := refusal_reason(creation)):
        raise HandshakeRefused(reason)
    _require_flags(peer_flags, name)
    _reject_reflected_challenge(local, challenge, name)
    cookie = local.cookie_for(name)

    with _outstanding_challenge(local) as our_challenge:
        yield packets.encode_reply(our_challenge, digest(cookie, challenge))
        try:
            proof = packets.decode_ack((yield NeedPacket(f"{name}'s challenge ack", b"a")))
        except PeerClosed:  # the protocol has no message for a wrong digest: the acceptor just closes
            raise HandshakeRefused(
                f"{name} closed the connection after our challenge reply: the cookies probably differ"
            ) from None
        if not is_digest(proof, cookie, our_challenge):
            raise HandshakeRefused(f"{name} does not know our cookie: its digest is wrong (the cookies differ)")
    return HandshakeCompleted(name, local.flags & peer_flags, peer_flags, creation)


def accept(
    local: LocalNode,
    decide: Callable[[str, Flags], Status],
    wait_before_check: Callable[[str], float | None] = lambda _: 0.0,
    make_dynamic_name: Callable[[str], tuple[str, int]] | None = None,
) -> HandshakeSteps:
    """Run the handshake on a connection that the peer opened.

    ``decide(name, flags)`` is called once, when a well-formed name packet has arrived. It must reserve at once what its
    answer promises: ``OK`` makes a pending connection. After ``ALIVE`` the caller must close the old connection before
    the last packet is written, as ``dist_util.erl`` does.

    ``wait_before_check(name)`` is called when the digest is there. It returns the seconds until it may be checked, or
    None to refuse it unchecked. See :mod:`erlmesh.core.guess_limiter`.

    ``make_dynamic_name(host)`` returns a new name at that host and a creation, for an initiator without a name.
    ``decide`` gets this name. Without the function such initiators are refused.

    Raises HandshakeRefused (:class:`WrongCookie` for a wrong digest) and RemoteProtocolError. The caller must then
    release what ``decide`` reserved.
    """
    name_packet = yield NeedPacket("the initiator's name", b"Nn")
    peer_flags, creation, name = packets.decode_name(name_packet)
    is_dynamic = Flags.NAME_ME in peer_flags
    if is_dynamic and make_dynamic_name is not None:
        name, creation = make_dynamic_name(name)
        if not is_node_name(name):  # the host alone has nearly the length of a name
            raise RemoteProtocolError(f"asks for a dynamic node name that would have {len(name)} characters")
    status = _preliminary_status(local, name, peer_flags) or decide(name, peer_flags)
    if is_dynamic and status is not Status.OK:
        status = Status.NOT_ALLOWED  # dist_util expects no other answer from the one that gives it a name
    is_named = is_dynamic and status is Status.OK
    yield packets.encode_named(name, creation) if is_named else b"s" + status.value.encode()
    yield from _enforce_status(local, name, peer_flags, status)

    cookie = local.cookie_for(name)
    # dist_util:publish_flag/3. The initiator takes its name only if both sides have sent NAME_ME.
    flags = local.flags & ~Flags.PUBLISHED | Flags.NAME_ME if is_dynamic else local.flags
    with _outstanding_challenge(local) as our_challenge:
        yield packets.encode_challenge(flags, our_challenge, local.creation, local.name)
        if packets.is_old(name_packet):
            # The old name packet has only the low 32 flags and no creation. The complement brings the rest.
            high, creation = packets.decode_complement((yield NeedPacket(f"the rest of {name}'s flags", b"c")))
            peer_flags = (peer_flags | Flags(high << 32)).expanded()
        try:
            challenge, proof = packets.decode_reply((yield NeedPacket(f"{name}'s challenge reply", b"r")))
        except PeerClosed:
            raise InitiatorClosed(f"{name} closed the connection after our challenge") from None
        seconds = wait_before_check(name)
        if seconds is None:
            raise TooManyGuesses(
                f"Connection attempt from node {name} rejected: too many wrong cookies came from there"
            )
        if seconds > 0:
            yield Pause(seconds)
        if not is_digest(proof, cookie, our_challenge):
            raise WrongCookie(name)
        _reject_reflected_challenge(local, challenge, name)
    yield b"a" + digest(cookie, challenge)
    return HandshakeCompleted(name, flags & peer_flags, peer_flags, creation)


# Parts of the two handshakes


def _receive_status(name: str, keep_attempt: Callable[[], bool]) -> Generator[bytes | NeedPacket | Pause, bytes, bool]:
    """Receive the status packet. Return true if the peer dropped its own attempt to connect to us in favour of ours."""
    match (yield NeedPacket(f"{name}'s status", b"s"))[1:]:
        case b"ok":
            return False
        case b"ok_simultaneous":
            return True
        case b"nok":
            raise SimultaneousConnect(f"{name} is connecting to us at the same time, and its attempt goes on")
        case b"not_allowed":
            raise HandshakeRefused(
                f"{name} refused the connection: not_allowed (this node lacks something that it requires; "
                "its log has the reason)"
            )
        case b"alive":
            replaces = keep_attempt()
            yield b"strue" if replaces else b"sfalse"
            if not replaces:
                raise SimultaneousConnect(f"{name} has connected to us in the meantime")
            return False
        case other:
            raise RemoteProtocolError(f"{name} answered our name with the unknown status {other[:40]!r}")


def _enforce_status(
    local: LocalNode, name: str, peer_flags: Flags, status: Status
) -> Generator[bytes | NeedPacket | Pause, bytes, None]:
    """End the handshake if the status that we sent does not let it continue."""
    match status:
        case Status.NOK if name == local.name:
            raise HandshakeRefused(f"Connection attempt from a node with our own name, {name}, rejected")
        case Status.NOK:
            raise SimultaneousConnect(f"Connection attempt from node {name} rejected: our own attempt goes on")
        case Status.NOT_ALLOWED:
            _require_flags(peer_flags, name)  # raises with the exact reason, if it is one of these
            raise HandshakeRefused(f"Connection attempt from node {name} rejected: not allowed here")
        case Status.ALIVE:
            match (yield NeedPacket(f"{name}'s answer to 'alive'", b"s"))[1:]:
                case b"true":
                    return
                case b"false":
                    raise HandshakeRefused(f"{name} keeps its existing connection with us and drops its second attempt")
                case other:
                    raise RemoteProtocolError(
                        f"{name} answered our 'alive' with {other[:40]!r}, neither true nor false"
                    )


def _preliminary_status(local: LocalNode, name: str, peer_flags: Flags) -> Status | None:
    """Return the status for an initiator that can never connect; None if ``decide`` must be asked.

    Like OTP, we answer ``nok`` to our own name and ``not_allowed`` to missing flags.
    """
    if peer_flags.missing(REQUIRED) or _is_nameless(name):
        return Status.NOT_ALLOWED
    return Status.NOK if name == local.name else None


def _is_nameless(name: str) -> bool:
    """Return whether an initiator that asks for a dynamic node name has sent its host only, and got no name."""
    return "@" not in name


def _require_flags(peer_flags: Flags, name: str) -> None:
    """Raise HandshakeRefused if the peer lacks a required capability, or a name."""
    if missing := peer_flags.missing(REQUIRED):
        raise HandshakeRefused(f"{name} lacks required capabilities: {', '.join(missing)} (it is older than OTP 23)")
    if _is_nameless(name):
        raise HandshakeRefused(
            f"a node at {name} asks for a dynamic node name, which this node does not assign: start it with a name"
        )


def _reject_reflected_challenge(local: LocalNode, challenge: int, name: str) -> None:
    """Raise HandshakeRefused if the peer's challenge is one of ours: our reply to it would be the digest it needs."""
    if challenge in local.outstanding:
        raise HandshakeRefused(
            f"{name} sent our own challenge back to us so that we compute the reply: it does not know the cookie"
        )


@contextmanager
def _outstanding_challenge(local: LocalNode) -> Iterator[int]:
    """Make a new challenge that is in ``local.outstanding`` until the reply to it has been checked."""
    challenge = local.new_challenge()
    local.outstanding.add(challenge)
    try:
        yield challenge
    finally:
        local.outstanding.discard(challenge)
