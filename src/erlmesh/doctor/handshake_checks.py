"""The handshake as it went, read from the bytes that came: status, flags, cookie; or who it was that spoke instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from erlmesh.doctor.findings import Finding, ProbeFailure, failed, ok
from erlmesh.errors import RemoteProtocolError
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.flags import OFFERED, REQUIRED, Flags

__all__ = ["HandshakeTranscript", "check_handshake", "identify_protocol", "otp_generation", "parse_handshake"]

_PROTOCOL_SIGNATURES: Final = (
    (b"HTTP/", "an HTTP server"),
    (b"<!DOCTYPE", "an HTTP server"),
    (b"<html", "an HTTP server"),
    (b"SSH-", "an SSH server"),
    (b"220", "a mail or FTP server"),
    (b"+PONG", "a Redis server"),
    (b"-ERR", "a Redis server"),
)


@dataclass(frozen=True, slots=True)
class HandshakeTranscript:
    """What a peer said in a handshake that we began, as far as it came."""

    status: str | None = None
    name: str | None = None
    flags: Flags | None = None
    creation: int | None = None
    ack_received: bool = False
    """It has answered our challenge."""
    other_protocol: str | None = None
    """Whoever it is, it is no node; in words."""


def identify_protocol(data: bytes) -> str | None:
    """Who speaks so; None for nobody that is known."""
    if data[:1] in (b"\x15", b"\x16") and data[1:2] == b"\x03":
        return "TLS"
    return next((who for beginning, who in _PROTOCOL_SIGNATURES if data.startswith(beginning)), None)


def parse_handshake(data: bytes) -> HandshakeTranscript:
    """The packets of the handshake in ``data``, all that the peer sent since we connected."""
    if data and (stranger := identify_protocol(data)):
        return HandshakeTranscript(other_protocol=stranger)
    status: str | None = None
    heard = HandshakeTranscript()
    while len(data) >= 2:
        size = int.from_bytes(data[:2], "big")
        packet, data = data[2 : 2 + size], data[2 + size :]
        if not packet or len(packet) < size:
            break
        if status is None:
            if packet[:1] != b"s":
                return HandshakeTranscript(other_protocol=f"somebody whose first bytes are {packet[:12]!r}")
            status = packet[1:].decode("latin-1")[:40]
            heard = HandshakeTranscript(status)
        elif heard.flags is None:
            try:
                flags, _, creation, name = packets.decode_challenge(packet)
            except RemoteProtocolError:
                return HandshakeTranscript(
                    status, other_protocol=f"somebody who says {packet[:12]!r} where a challenge belongs"
                )
            heard = HandshakeTranscript(status, name, flags, creation)
        else:
            return HandshakeTranscript(status, heard.name, heard.flags, heard.creation, ack_received=packet[:1] == b"a")
    return heard


def otp_generation(flags: Flags) -> str:
    """Which OTP a node with these flags is of, as far as flags tell."""
    if Flags.ALTACT_SIG in flags:
        return "28 or later"
    if Flags.MANDATORY_25_DIGEST in flags:
        return "25 to 27"
    if Flags.V4_NC in flags:
        return "24"
    return "23" if Flags.HANDSHAKE_23 in flags else "22 or older"


def check_handshake(
    target: str, transcript: HandshakeTranscript, *, up: bool, timed_out: bool, reason: str
) -> list[Finding]:
    """The findings on the handshake, the flags and the cookie. ``why`` is what the node itself says of the failure."""
    if transcript.other_protocol is not None:
        return [_other_protocol(transcript.other_protocol)]
    if transcript.status is None:
        return [_no_data(ProbeFailure.NO_RESPONSE if timed_out else ProbeFailure.CLOSED, reason)]
    if transcript.flags is None:
        return [_handshake_refused(target, transcript.status, reason)]
    if transcript.name != target:
        return [
            failed(
                "handshake",
                f"the node at that port is {transcript.name}, not {target}",
                "A node must be called by exactly the name it was started with; nodes refuse any other.",
                f"Use the name {transcript.name}.",
                name=transcript.name,
            )
        ]
    findings = [
        ok(
            "handshake",
            f"{target} answers with {transcript.status}",
            status=transcript.status,
            creation=transcript.creation,
        ),
        _check_flags(transcript.flags),
    ]
    if up:
        findings.append(ok("cookie", "the cookies are the same: each side has proved it"))
    elif not transcript.flags.expanded().missing(REQUIRED):
        findings.append(_cookie_mismatch(transcript, timed_out=timed_out, reason=reason))
    return findings


def _check_flags(flags: Flags) -> Finding:
    theirs = flags.expanded()
    facts = {"flags": f"{flags:#x}", "generation": otp_generation(flags), "hidden": Flags.PUBLISHED not in flags}
    if missing := theirs.missing(REQUIRED):
        return failed(
            "flags",
            f"it lacks what every node needs: {', '.join(missing)}",
            "It is OTP 22 or older, or another implementation that is not finished.",
            "Run that node with OTP 23 or later.",
            missing=missing,
            **facts,
        )
    lacking = theirs.missing(OFFERED & ~Flags.PUBLISHED & ~Flags.MANDATORY_25_DIGEST)
    says = f"what it can do is what OTP {otp_generation(flags)} can" + (
        f"; it lacks {', '.join(lacking)}, which is done without" if lacking else ""
    )
    return ok("flags", says + ("; it is hidden" if facts["hidden"] else ""), missing=lacking, **facts)


def _cookie_mismatch(transcript: HandshakeTranscript, *, timed_out: bool, reason: str) -> Finding:
    if timed_out and not transcript.ack_received:
        return failed(
            "cookie",
            "it does not answer our proof of the cookie",
            "A node whose cookie differs closes the connection at once; this one has stopped answering instead.",
            "Is it paused, or very busy? Try again.",
            detail=reason,
        )
    return failed(
        "cookie",
        "the cookies differ",
        "It closed the connection when it had our proof of the cookie; nodes do so without a word. (Its log says: "
        "invalid challenge reply.)",
        "On that node,  erlang:get_cookie()  or  Node.get_cookie()  shows its cookie.",
        "Give the same one here: --cookie-file, ERLMESH_COOKIE_FILE, ERLMESH_COOKIE, or ~/.erlang.cookie.",
        "A node started by another user or in another container has another ~/.erlang.cookie.",
        detail=reason,
    )


def _handshake_refused(target: str, status: str, reason: str) -> Finding:
    if status == "not_allowed":
        return failed(
            "handshake",
            f"{target} does not let us in: not_allowed",
            "We are not on its allow-list (net_kernel:allow/1; erlmesh: --allow), or it misses a flag in us.",
            "Its log names the reason. Allow this node there, or ask from one that is allowed (--name).",
            status=status,
        )
    if status.startswith("nok"):
        return failed(
            "handshake",
            f"{target} says {status}: it is calling a node of our name at the same moment",
            "Two nodes that call each other at once keep one of the calls.",
            "Try again; choose another --name if one was given.",
            status=status,
        )
    return failed(
        "handshake",
        f"{target} said {status!r} and nothing more",
        "The handshake broke off in the middle.",
        "Try again, and look into that node's log.",
        status=status,
        detail=reason,
    )


def _other_protocol(protocol: str) -> Finding:
    if protocol == "TLS":
        return failed(
            "handshake",
            "the node speaks TLS, and we called in plain TCP",
            "It was started with -proto_dist inet_tls; such a node takes no other connections.",
            "Start it without -proto_dist inet_tls, or all others with it; the two kinds never meet.",
            other_protocol=protocol,
        )
    return failed(
        "handshake",
        f"what answers there is no node: {protocol}",
        "Another service has the port. EPMD's entry is stale or wrong, or the port given is not the node's.",
        "On that host,  ss -ltnp  shows who listens; restart the node.",
        other_protocol=protocol,
    )


def _no_data(failure: ProbeFailure, reason: str) -> Finding:
    if failure is ProbeFailure.NO_RESPONSE:
        return failed(
            "handshake",
            "the port takes the connection, and nobody says a word",
            "The node is stopped or hangs (SIGSTOP, docker pause, a machine out of memory), or what listens is no "
            "node: the operating system accepts on its behalf.",
            "Is the process running?  ps -o stat,cmd  shows T for a stopped one.",
            "If it is a node of erlmesh, code may hold its event loop: there,  erlmesh health  says which.",
            "If it only hangs for a while, it answers again by itself: try later.",
            fault=failure.value,
            detail=reason,
        )
    return failed(
        "handshake",
        "the connection is closed before a word is said",
        "The node does not like our name or is on its way down; or a proxy or port mapping has nobody behind it.",
        "Look into that node's log. In containers, check that the port is mapped to the node's own.",
        fault=failure.value,
        detail=reason,
    )
