"""Malformed input for a connection: control tuples, messages, fragments and headers that no node sends."""

from __future__ import annotations

import struct
import zlib

from erlmesh.etf import encode_term
from erlmesh.proto.ops import Op
from erlmesh.terms import Atom, ImproperList, Pid, Ref
from test_proto_otp import LOCAL_NAME, ME

__all__ = ["DEEP", "framed", "malformed_packets"]

X = Pid(Atom("third@127.0.0.1"), 64, 0, 5)
R = Ref(Atom(LOCAL_NAME), 77, (1, 2, 3))
WHAT, EMPTY = Atom("what"), Atom("")


def controls(v):
    """Control tuples that are wrong, and some that are only unusual. ``v`` is the pid of a victim."""
    mfa, options = (Atom("erlang"), Atom("node"), 0), [Atom("monitor")]
    return [
        (), (5,), (99, ME, v), (-1, ME, v), (1 << 70, ME, v), (1.0, ME, v),
        (True, ME, v), WHAT, [1, ME, v], 17, b"binary",
        (Op.LINK,), (Op.LINK, ME), (Op.LINK, ME, v, 1), (Op.LINK, WHAT, v), (Op.LINK, ME, WHAT), (Op.LINK, X, v),
        (Op.LINK, v, v), (Op.LINK, ME, X), (Op.LINK, R, v), (Op.LINK, [ME], v),
        (Op.SEND,), (Op.SEND, EMPTY), (Op.SEND, EMPTY, WHAT), (Op.SEND, EMPTY, v, 1), (Op.SEND, EMPTY, [v]),
        (Op.EXIT, ME, v), (Op.EXIT, WHAT, v, 1), (Op.EXIT, ME, WHAT, 1), (Op.EXIT, ME, v, 1, 2),
        (Op.UNLINK, ME), (Op.UNLINK, WHAT, v), (Op.UNLINK, ME, v, 1),
        (Op.REG_SEND, ME, EMPTY), (Op.REG_SEND, WHAT, EMPTY, Atom("pg")), (Op.REG_SEND, ME, EMPTY, b"pg"),
        (Op.REG_SEND, ME, EMPTY, v), (Op.REG_SEND, ME, EMPTY, Atom("nobody_here"), 1),
        (Op.GROUP_LEADER, ME), (Op.GROUP_LEADER, WHAT, v), (Op.GROUP_LEADER, ME, WHAT), (Op.GROUP_LEADER, ME, v, 1),
        (Op.EXIT2, ME, v), (Op.EXIT2, WHAT, v, 1), (Op.EXIT2, ME, WHAT, 1), (Op.EXIT2, X, v, 1),
        (Op.EXIT2, ME, v, 1, 1),
        (Op.MONITOR_P, ME, v), (Op.MONITOR_P, ME, v, WHAT), (Op.MONITOR_P, X, v, R), (Op.MONITOR_P, ME, b"pg", R),
        (Op.MONITOR_P, WHAT, v, R), (Op.MONITOR_P, ME, v, R, 1), (Op.MONITOR_P, ME, 5, R),
        (Op.DEMONITOR_P, ME, v), (Op.DEMONITOR_P, WHAT, v, R), (Op.DEMONITOR_P, ME, b"pg", R),
        (Op.DEMONITOR_P, ME, v, WHAT),
        (Op.MONITOR_P_EXIT, v, ME), (Op.MONITOR_P_EXIT, WHAT, WHAT, R, 1), (Op.MONITOR_P_EXIT, ME, v, WHAT, 1),
        (Op.MONITOR_P_EXIT, b"pg", v, R, 1),
        (Op.SEND_SENDER, ME), (Op.SEND_SENDER, ME, WHAT), (Op.SEND_SENDER, ME, v, 1),
        (Op.PAYLOAD_EXIT, ME), (Op.PAYLOAD_EXIT, WHAT, v), (Op.PAYLOAD_EXIT, ME, WHAT), (Op.PAYLOAD_EXIT, ME, v, 1),
        (Op.PAYLOAD_EXIT2, ME), (Op.PAYLOAD_EXIT2, WHAT, v), (Op.PAYLOAD_EXIT2, ME, WHAT), (Op.PAYLOAD_EXIT2, X, v),
        (Op.PAYLOAD_MONITOR_P_EXIT, ME, v), (Op.PAYLOAD_MONITOR_P_EXIT, WHAT, WHAT, R),
        (Op.PAYLOAD_MONITOR_P_EXIT, ME, v, WHAT),
        (Op.SPAWN_REQUEST, R, ME, ME, mfa), (Op.SPAWN_REQUEST, WHAT, ME, ME, mfa, options),
        (Op.SPAWN_REQUEST, R, WHAT, ME, mfa, options),
        (Op.SPAWN_REQUEST, R, X, ME, mfa, options), (Op.SPAWN_REQUEST, R, ME, WHAT, mfa, options),
        (Op.SPAWN_REQUEST, R, ME, ME, WHAT, options), (Op.SPAWN_REQUEST, R, ME, ME, mfa[:2], options),
        (Op.SPAWN_REQUEST, R, ME, ME, (b"erlang", Atom("node"), 0), options),
        (Op.SPAWN_REQUEST, R, ME, ME, (Atom("erlang"), 5, 0), options), (Op.SPAWN_REQUEST, R, ME, ME,
        (*mfa[:2], WHAT), options),
        (Op.SPAWN_REQUEST, R, ME, ME, (*mfa[:2], -1), options), (Op.SPAWN_REQUEST, R, ME, ME,
        (*mfa[:2], 300), options),
        (Op.SPAWN_REQUEST, R, ME, ME, (*mfa[:2], 3), options), (Op.SPAWN_REQUEST, R, ME, ME, mfa, WHAT),
        (Op.SPAWN_REQUEST, R, ME, ME, mfa, ImproperList([Atom("link")], 1)),
        (Op.SPAWN_REPLY, R, v, 0), (Op.SPAWN_REPLY, WHAT, v, 0, ME), (Op.SPAWN_REPLY, R, WHAT, 0, ME),
        (Op.SPAWN_REPLY, R, v, WHAT, ME),
        (Op.SPAWN_REPLY, R, v, 0, b"x"), (Op.SPAWN_REPLY, R, v, 0, ME), (Op.SPAWN_REPLY, R, v, -1, ME),
        (Op.ALIAS_SEND, ME), (Op.ALIAS_SEND, ME, WHAT), (Op.ALIAS_SEND, ME, R, 1), (Op.ALIAS_SEND, ME, ME),
        (Op.UNLINK_ID, 0, ME, v), (Op.UNLINK_ID, -1, ME, v), (Op.UNLINK_ID, 1 << 64, ME, v),
        (Op.UNLINK_ID, WHAT, ME, v),
        (Op.UNLINK_ID, 1, WHAT, v), (Op.UNLINK_ID, 1, ME, WHAT), (Op.UNLINK_ID, 1, X, v), (Op.UNLINK_ID, 1, ME),
        (Op.UNLINK_ID_ACK, 0, ME, v), (Op.UNLINK_ID_ACK, 1 << 64, ME, v), (Op.UNLINK_ID_ACK, 1, WHAT, v),
        (Op.UNLINK_ID_ACK, 9, ME, v),
        (Op.UNLINK_ID, 7, ME, v), (Op.MONITOR_P, ME, v, R), (Op.DEMONITOR_P, ME, v, R),
    ]  # fmt: skip


def framed(control, message=b""):
    return b"\x83D\x00" + encode_term(control) + message


ECHO = encode_term(5)
DEEP = b"h\x01" * 1_000_000 + b"a\x01"
BOMB = b"P" + struct.pack(">I", 1 << 30) + zlib.compress(bytes(1 << 24))


def messages(v):
    """Messages that are not terms, after a correct control tuple."""
    control = (Op.SEND_SENDER, ME, v)
    return {
        "nothing": b"", "no such tag": b"\x00", "cut binary": b"m\x00\x00\x00\x05ab",
        "endless binary": b"m\xff\xff\xff\xff",
        "endless list": b"l\xff\xff\xff\xff", "endless tuple": b"i\xff\xff\xff\xff",
        "endless map": b"t\xff\xff\xff\xff",
        "cut tuple": b"h\x05a\x01", "nan": b"F\x7f\xf8" + bytes(6), "infinite": b"F\x7f\xf0" + bytes(6),
        "double key": b"t\x00\x00\x00\x02a\x01a\x01a\x01a\x02", "bits": b"M\x00\x00\x00\x01\x09\xff",
        "no bits": b"M\x00\x00\x00\x01\x00\xff",
        "bad utf-8": b"w\x02\xff\xff", "long atom": b"v\x01\x00" + b"x" * 256, "compressed": BOMB,
        "a reference of 6 words": b"Z\x00\x06w\x01a" + bytes(28),
        "a reference of none": b"Z\x00\x00w\x01a" + bytes(4), "an absent atom": b"R\x05",
        "131 inside": b"\x83a\x01", "local": b"y" + bytes(20),
        "old fun": b"u\x00\x00\x00\x01", "a fun cut short": b"p\x00\x00\x00\x30\x00" + bytes(10),
        "many digits": b"o\x07\xff\xff\xff\x00",
        "a pid without a node": b"Xa\x01" + bytes(12), "trailing bytes": ECHO + b"trailing",
    }, control  # fmt: skip


def fragments(v):
    def begin(sequence, number, n=b"\x00"):
        return b"\x83E" + struct.pack(">QQ", sequence, number) + n

    def go_on(sequence, number):
        return b"\x83F" + struct.pack(">QQ", sequence, number)

    head = encode_term((Op.SEND_SENDER, ME, v))
    return {
        "from nowhere": [go_on(1, 2) + b"x"],
        "a gap": [begin(1, 5) + head + b"m\x00\x00", go_on(1, 3) + b"x"],
        "the same again": [begin(1, 3) + head + b"m", go_on(1, 2) + b"\x00", go_on(1, 2) + b"\x00"],
        "begun twice": [begin(1, 5) + head, begin(1, 5) + head],
        "number 0": [begin(1, 0) + head + ECHO],
        "a bad whole": [begin(1, 2) + head + b"m\xff\xff", go_on(1, 1) + b"\xff\xff"],
        "a cut head": [b"\x83E\x00\x00"],
        "a cut go on": [b"\x83F\x00"],
        "an absent atom": [begin(1, 2, b"\x01\x00\x09") + head, go_on(1, 1) + ECHO],
        "whole at once": [begin(1, 1) + head + ECHO],
    }


def headers():
    return {
        "pass-through": b"p\x83" + encode_term((Op.LINK, ME, ME)), "other kind": b"\x83G\x00",
        "no version": b"\x82D\x00", "empty header": b"\x83D",
        "many references": b"\x83D\xff", "an absent atom": b"\x83D\x01\x00\x07" + encode_term((Op.LINK, ME, ME)),
        "one byte": b"\x83",
        "bad utf-8 in the cache": b"\x83D\x01\x08\x07\x02\xff\xff" + encode_term((Op.LINK, ME, ME)),
        "no control": b"\x83D\x00",
    }  # fmt: skip


def malformed_packets(v):
    """All malformed input: a description → the frames to send."""
    everything = {}
    for control in controls(v):
        for kind, message in (("", b""), (" with a message", ECHO)):
            everything[f"{control}{kind}".replace(str(v), "VICTIM")] = [framed(control, message)]
    some, control = messages(v)
    everything |= {f"message: {name}": [framed(control, message)] for name, message in some.items()}
    everything |= {f"fragments: {name}": frames for name, frames in fragments(v).items()}
    everything |= {f"header: {name}": [frame] for name, frame in headers().items()}
    return everything
