"""Findings about the handshake, from the received bytes: status, flags, cookie, or another protocol. No I/O."""

from __future__ import annotations

from typing import Final

from erlmesh.doctor.findings import Finding, ProbeFailure, failed, ok
from erlmesh.errors import RemoteProtocolError
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.flags import OFFERED, REQUIRED, Flags
from erlmesh.records import record

__all__ = ["HandshakeTranscript", "check_handshake", "identify_protocol", "otp_generation", "parse_handshake"]

# The first bytes that a server sends, and its description. Some speak first; others answer an HTTP request.
_PROTOCOL_SIGNATURES: Final = (
    (b"HTTP/", "an HTTP server"),
    (b"<!DOCTYPE", "an HTTP server"),
    (b"<html", "an HTTP server"),
    (b"SSH-", "an SSH server"),
    (b"220", "a mail or FTP server"),
    (b"+PONG", "a Redis server"),
    (b"-ERR", "a Redis server"),
)


@record(frozen=True)
class HandshakeTranscript:
    """The packets of the peer in a handshake that we initiated, as far as they arrived."""

    status: str | None = None
    name: str | None = None
    flags: Flags | None = None
    creation: int | None = None
    ack_received: bool = False
    """True if the peer sent ``challenge_ack``: it accepts our digest."""
    other_protocol: str | None = None
    """A description of the service if it is not an Erlang node."""


def identify_protocol(data: bytes) -> str | None:
    """Describe the service that sends ``data`` first, or return None if it is unknown."""
    if data[:1] in (b"\x15", b"\x16") and data[1:2] == b"\x03":
        return "TLS"
    return next((service for prefix, service in _PROTOCOL_SIGNATURES if data.startswith(prefix)), None)


def parse_handshake(data: bytes, *, tls: bool = False) -> HandshakeTranscript:
    """Parse ``data``, everything that the peer sent since we connected. A packet that is cut off is ignored.

    ``tls`` is true if the data was inside TLS.
    """
    if data and not tls and (other_protocol := identify_protocol(data)):
        return HandshakeTranscript(other_protocol=other_protocol)
    status: str | None = None
    transcript = HandshakeTranscript()
    prefix = 4 if tls else 2
    while len(data) >= prefix:
        size = int.from_bytes(data[:prefix], "big")
        packet, data = data[prefix : prefix + size], data[prefix + size :]
        if not packet or len(packet) < size:
            break
        if status is None:
            if packet[:1] != b"s":
                return HandshakeTranscript(other_protocol=f"an unknown service whose first bytes are {packet[:12]!r}")
            status = packet[1:].decode("latin-1")[:40]
            transcript = HandshakeTranscript(status)
        elif transcript.flags is None:
            try:
                flags, _, creation, name = packets.decode_challenge(packet)
            except RemoteProtocolError:
                return HandshakeTranscript(
                    status, other_protocol=f"an unknown service that sends {packet[:12]!r} instead of a challenge"
                )
            transcript = HandshakeTranscript(status, name, flags, creation)
        else:
            ack_received = packet[:1] == b"a"
            return HandshakeTranscript(status, transcript.name, transcript.flags, transcript.creation, ack_received)
    return transcript


def otp_generation(flags: Flags) -> str:
    """Return the OTP releases that send these flags, such as ``25 to 27``."""
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
    """Return the findings about the handshake, the flags and the cookie.

    ``up`` is true if the connection is established. ``reason`` is the error text of the local node.
    """
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
                f"the node on that port is {transcript.name}, not {target}",
                "A node accepts only the exact name that it was started with.",
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
        findings.append(ok("cookie", "the cookies match: both sides have proved it"))
    elif not transcript.flags.expanded().missing(REQUIRED):
        findings.append(_cookie_mismatch(transcript, timed_out=timed_out, reason=reason))
    return findings


def _check_flags(flags: Flags) -> Finding:
    peer_flags = flags.expanded()
    facts = {"flags": f"{flags:#x}", "generation": otp_generation(flags), "hidden": Flags.PUBLISHED not in flags}
    if missing := peer_flags.missing(REQUIRED):
        return failed(
            "flags",
            f"the node lacks required flags: {', '.join(missing)}",
            "The node is OTP 22 or older, or an incomplete implementation of the protocol.",
            "Run that node with OTP 23 or later.",
            missing=missing,
            **facts,
        )
    lacking = peer_flags.missing(OFFERED & ~Flags.PUBLISHED & ~Flags.MANDATORY_25_DIGEST)
    summary = f"the flags are those of OTP {otp_generation(flags)}" + (
        f", without the optional {', '.join(lacking)}" if lacking else ""
    )
    return ok("flags", summary + ("; the node is hidden" if facts["hidden"] else ""), missing=lacking, **facts)


def _cookie_mismatch(transcript: HandshakeTranscript, *, timed_out: bool, reason: str) -> Finding:
    if timed_out and not transcript.ack_received:
        return failed(
            "cookie",
            "the node does not answer our digest of the cookie",
            "A node with another cookie closes the connection at once. This node stopped answering instead.",
            "Is it paused or overloaded? Try again.",
            detail=reason,
        )
    return failed(
        "cookie",
        "the cookies differ",
        "The node closed the connection after it received our digest of the cookie. Nodes do that without an error "
        "message. (Its log shows: invalid challenge reply.)",
        "On that node,  erlang:get_cookie()  or  Node.get_cookie()  shows its cookie.",
        "Use the same cookie here: --cookie-file, ERLMESH_COOKIE_FILE, ERLMESH_COOKIE, or ~/.erlang.cookie.",
        "A node of another user or in another container has its own ~/.erlang.cookie.",
        detail=reason,
    )


def _handshake_refused(target: str, status: str, reason: str) -> Finding:
    if status == "not_allowed":
        return failed(
            "handshake",
            f"{target} refuses the connection: not_allowed",
            "Our name is not on its allow-list (net_kernel:allow/1; erlmesh: --allow), or it requires a flag that we "
            "lack.",
            "Its log shows the reason. Allow this node there, or use a name that is allowed (--name).",
            "With TLS, our certificate may have to be for the host of our name. --name gives that host.",
            status=status,
        )
    if status.startswith("nok"):
        return failed(
            "handshake",
            f"{target} answers {status}: it is connecting to a node with our name at the same time",
            "Two nodes that connect to each other at the same time keep one of the two connections.",
            "Try again. If --name was given, choose another name.",
            status=status,
        )
    return failed(
        "handshake",
        f"{target} sent the status {status!r} and nothing more",
        "The handshake stopped in the middle.",
        "Try again, and read the log of that node.",
        status=status,
        detail=reason,
    )


def _other_protocol(protocol: str) -> Finding:
    if protocol == "TLS":
        return failed(
            "handshake",
            "the node expects TLS, but we connected with plain TCP",
            "It was started with TLS (erl -proto_dist inet_tls; erlmesh --tls-cert). Such a node accepts only TLS.",
            "Give  --tls-cert, --tls-key  and  --tls-ca  here. For a trial,  erlmesh certs  makes the files.",
            "Or start it without TLS. All nodes of a cluster use TLS, or none does.",
            other_protocol=protocol,
        )
    return failed(
        "handshake",
        f"the service on that port is not an Erlang node: {protocol}",
        "Another service uses the port. EPMD's entry is out of date, or the given port is not the node's.",
        "On that host,  ss -ltnp  shows which program listens. Restart the node.",
        other_protocol=protocol,
    )


def _no_data(failure: ProbeFailure, reason: str) -> Finding:
    if failure is ProbeFailure.NO_RESPONSE:
        return failed(
            "handshake",
            "connection accepted, but no handshake data received",
            "The node is stopped or hangs (SIGSTOP, docker pause, out of memory), or another program listens there. "
            "The operating system accepts connections even if the program does not run.",
            "Is the process running?  ps -o stat,cmd  shows T for a stopped process.",
            "If it is an erlmesh node, its event loop may be blocked:  erlmesh health  on that machine names the code.",
            "If it only hangs for a while, it recovers by itself. Try again later.",
            fault=failure.value,
            detail=reason,
        )
    return failed(
        "handshake",
        "the connection was closed before any handshake data arrived",
        "The node refuses our name or is shutting down. Or a proxy or port mapping has no service behind it.",
        "Read the log of that node. In containers, check that the port is mapped to the port of the node.",
        "With TLS and an allow-list, a BEAM closes the connection if our certificate is not for an allowed host.",
        fault=failure.value,
        detail=reason,
    )
