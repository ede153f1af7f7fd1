"""The handshake as it went, read from the bytes that came: status, flags, cookie; or who it was that spoke instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from erlmesh.doctor.findings import Fault, Finding, failed, ok
from erlmesh.errors import RemoteProtocolError
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.flags import OFFERED, REQUIRED, Flags

__all__ = ["Heard", "foreign_tongue", "generation", "greeted", "read_greeting"]

_OTHERS: Final = (
    (b"HTTP/", "an HTTP server"),
    (b"<!DOCTYPE", "an HTTP server"),
    (b"<html", "an HTTP server"),
    (b"SSH-", "an SSH server"),
    (b"220", "a mail or FTP server"),
    (b"+PONG", "a Redis server"),
    (b"-ERR", "a Redis server"),
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a peer said in a handshake that we began, as far as it came."""

    status: str | None = None
    name: str | None = None
    flags: Flags | None = None
    creation: int | None = None
    proved: bool = False
    """It has answered our challenge."""
    stranger: str | None = None
    """Whoever it is, it is no node; in words."""


def foreign_tongue(data: bytes) -> str | None:
    """Who speaks so; None for nobody that is known."""
    if data[:1] in (b"\x15", b"\x16") and data[1:2] == b"\x03":
        return "TLS"
    return next((who for beginning, who in _OTHERS if data.startswith(beginning)), None)


def read_greeting(data: bytes) -> Heard:
    """The packets of the handshake in ``data``, all that the peer sent since we connected."""
    if data and (stranger := foreign_tongue(data)):
        return Heard(stranger=stranger)
    status: str | None = None
    heard = Heard()
    while len(data) >= 2:
        size = int.from_bytes(data[:2], "big")
        packet, data = data[2 : 2 + size], data[2 + size :]
        if not packet or len(packet) < size:
            break
        if status is None:
            if packet[:1] != b"s":
                return Heard(stranger=f"somebody whose first bytes are {packet[:12]!r}")
            status = packet[1:].decode("latin-1")[:40]
            heard = Heard(status)
        elif heard.flags is None:
            try:
                flags, _, creation, name = packets.decode_challenge(packet)
            except RemoteProtocolError:
                return Heard(status, stranger=f"somebody who says {packet[:12]!r} where a challenge belongs")
            heard = Heard(status, name, flags, creation)
        else:
            return Heard(status, heard.name, heard.flags, heard.creation, proved=packet[:1] == b"a")
    return heard


def generation(flags: Flags) -> str:
    """Which OTP a node with these flags is of, as far as flags tell."""
    if Flags.ALTACT_SIG in flags:
        return "28 or later"
    if Flags.MANDATORY_25_DIGEST in flags:
        return "25 to 27"
    if Flags.V4_NC in flags:
        return "24"
    return "23" if Flags.HANDSHAKE_23 in flags else "22 or older"


def greeted(target: str, heard: Heard, *, up: bool, silent: bool, why: str) -> list[Finding]:
    """The findings on the handshake, the flags and the cookie. ``why`` is what the node itself says of the failure."""
    if heard.stranger is not None:
        return [_stranger(heard.stranger)]
    if heard.status is None:
        return [_wordless(Fault.SILENT if silent else Fault.CLOSED, why)]
    if heard.flags is None:
        return [_refused(target, heard.status, why)]
    if heard.name != target:
        return [
            failed(
                "handshake",
                f"the node at that port is {heard.name}, not {target}",
                "A node must be called by exactly the name it was started with; nodes refuse any other.",
                f"Use the name {heard.name}.",
                name=heard.name,
            )
        ]
    findings = [
        ok("handshake", f"{target} answers with {heard.status}", status=heard.status, creation=heard.creation),
        _flags(heard.flags),
    ]
    if up:
        findings.append(ok("cookie", "the cookies are the same: each side has proved it"))
    elif not heard.flags.expanded().missing(REQUIRED):
        findings.append(_cookie(heard, silent=silent, why=why))
    return findings


def _flags(flags: Flags) -> Finding:
    theirs = flags.expanded()
    facts = {"flags": f"{flags:#x}", "generation": generation(flags), "hidden": Flags.PUBLISHED not in flags}
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
    says = f"what it can do is what OTP {generation(flags)} can" + (
        f"; it lacks {', '.join(lacking)}, which is done without" if lacking else ""
    )
    return ok("flags", says + ("; it is hidden" if facts["hidden"] else ""), missing=lacking, **facts)


def _cookie(heard: Heard, *, silent: bool, why: str) -> Finding:
    if silent and not heard.proved:
        return failed(
            "cookie",
            "it does not answer our proof of the cookie",
            "A node whose cookie differs closes the connection at once; this one has stopped answering instead.",
            "Is it paused, or very busy? Try again.",
            detail=why,
        )
    return failed(
        "cookie",
        "the cookies differ",
        "It closed the connection when it had our proof of the cookie; nodes do so without a word. (Its log says: "
        "invalid challenge reply.)",
        "On that node,  erlang:get_cookie()  or  Node.get_cookie()  shows its cookie.",
        "Give the same one here: --cookie-file, ERLMESH_COOKIE_FILE, ERLMESH_COOKIE, or ~/.erlang.cookie.",
        "A node started by another user or in another container has another ~/.erlang.cookie.",
        detail=why,
    )


def _refused(target: str, status: str, why: str) -> Finding:
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
        detail=why,
    )


def _stranger(who: str) -> Finding:
    if who == "TLS":
        return failed(
            "handshake",
            "the node speaks TLS, and we called in plain TCP",
            "It was started with -proto_dist inet_tls; such a node takes no other connections.",
            "Start it without -proto_dist inet_tls, or all others with it; the two kinds never meet.",
            stranger=who,
        )
    return failed(
        "handshake",
        f"what answers there is no node: {who}",
        "Another service has the port. EPMD's entry is stale or wrong, or the port given is not the node's.",
        "On that host,  ss -ltnp  shows who listens; restart the node.",
        stranger=who,
    )


def _wordless(fault: Fault, why: str) -> Finding:
    if fault is Fault.SILENT:
        return failed(
            "handshake",
            "the port takes the connection, and nobody says a word",
            "The node is stopped or hangs (SIGSTOP, docker pause, a machine out of memory), or what listens is no "
            "node: the operating system accepts on its behalf.",
            "Is the process running?  ps -o stat,cmd  shows T for a stopped one.",
            "If it is a node of erlmesh, code may hold its event loop: there,  erlmesh health  says which.",
            "If it only hangs for a while, it answers again by itself: try later.",
            fault=fault.value,
            detail=why,
        )
    return failed(
        "handshake",
        "the connection is closed before a word is said",
        "The node does not like our name or is on its way down; or a proxy or port mapping has nobody behind it.",
        "Look into that node's log. In containers, check that the port is mapped to the node's own.",
        fault=fault.value,
        detail=why,
    )
