"""Replays captured connections between real nodes: all frames are decoded, and encode to the same bytes again."""

import base64
import json
import re
import struct
import zlib
from enum import IntEnum
from pathlib import Path

import pytest

from erlmesh.etf import encode_term
from erlmesh.proto.atom_cache import AtomReader, encode_references
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.encode_control import encode_control
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.ops import NO_MESSAGE
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "otp25.json").read_text())


def body(frame):
    return bytes.fromhex(frame["hex"]) if "hex" in frame else zlib.decompress(base64.b64decode(frame["zlib_b64"]))


def python_beam_session(session):
    ends = {"beam->py": "a@127.0.0.1", "py->beam": "py@127.0.0.1"}
    return Flags(int(session["negotiated"], 16)), [[(ends[frame["dir"]], frame) for frame in session["frames"]]]


def beam_beam_session(session):
    """Return one list of frames for each connection. A handshake starts the next connection."""
    connections = []
    for frame in session["frames"]:
        if frame["kind"] == "handshake":
            if not connections or connections[-1]:
                connections.append([])
        else:
            connections[-1].append((frame["frm"], frame))
    return OFFERED, connections


SESSIONS = {session["title"]: python_beam_session(session) for session in VECTORS["sessions_python_beam"]} | {
    name: beam_beam_session(VECTORS[name]) for name in ("session_beam_beam", "session_beam_beam_pg2")
}
CONNECTIONS = [
    pytest.param(flags, connection, id=f"{title} {number}")
    for title, (flags, connections) in SESSIONS.items()
    for number, connection in enumerate(connections)
]


def as_captured(term):
    """Return a term in the notation of the captures."""
    match term:
        case IntEnum():
            return str(int(term))
        case Fun():
            identity = f"{as_captured(term.module)}, {term.index}, {term.arity}, {term.uniq.hex()!r}"
            rest = f"{term.old_index}, {term.old_uniq}, {as_captured(term.pid)}, {as_captured(term.free)}"
            return f"#Fun({identity}, {rest})"
        case BitString():
            return f"Bits(data={term.data!r}, bits={term.bits})"
        case Export():
            return f"Export(mod={term.module.name}, fun={term.function.name}, arity={term.arity})"
        case Port():
            return f"Port(node={term.node.name!r}, id={term.id}, creation={term.creation})"
        case Pid():
            return f"<{term.node.name}.{term.id}.{term.serial}/c{term.creation}>"
        case Ref():
            return f"#Ref<{term.node.name}/c{term.creation} {'.'.join(map(str, term.words))}>"
        case bool():
            return str(term).lower()
        case Atom():
            return term.name if re.fullmatch(r"[a-zа-я][a-zA-Z0-9_@а-я]*", term.name) else repr(term.name)
        case tuple():
            return f"({', '.join(map(as_captured, term))}{',' if len(term) == 1 else ''})"
        case list():
            return f"[{', '.join(map(as_captured, term))}]"
        case ImproperList():
            return f"[{','.join(map(as_captured, term.elements))}|{as_captured(term.tail)}]"
        case Map():
            return "#{" + ",".join(f"{as_captured(key)}=>{as_captured(value)}" for key, value in term.items()) + "}"
    return repr(term)


class Direction:
    """The receiver of what one node sent on one connection."""

    def __init__(self, sender, flags):
        self.channel = Channel(sender, "other@127.0.0.1", flags, now=0.0)
        self.cache = AtomReader()

    def signals(self, frame):
        return self.channel.receive_data(struct.pack(">I", len(frame)) + frame, 0.0)


def replay(flags, connection):
    directions = {}
    for sender, frame in connection:
        direction = directions.setdefault(sender, Direction(sender, flags))
        raw = body(frame)
        yield frame, raw, direction, direction.signals(raw)


@pytest.mark.parametrize(("flags", "connection"), CONNECTIONS)
def test_every_captured_frame_is_decoded(flags, connection):
    for frame, raw, _, signals in replay(flags, connection):
        assert not any(isinstance(signal, ConnectionLost) for signal in signals), (frame.get("op"), signals)
        assert len(signals) == 1 or raw[1] in b"EF"


@pytest.mark.parametrize(("flags", "connection"), CONNECTIONS)
def test_decoded_signals_match_the_capture(flags, connection):
    compared = 0
    for frame, _, _, signals in replay(flags, connection):
        shown = frame.get("control", frame.get("ctl"))
        if not shown:
            continue
        control, message = encode_control(signals[0], flags)
        assert shown in (as_captured(control), as_captured(control[1:]))
        if "message" in frame or "msg" in frame:
            captured = frame.get("message", frame.get("msg"))
            assert as_captured(message)[: len(captured)] == captured
            assert len(captured) in (len(as_captured(message)), 400, 500)
        else:
            assert message is NO_MESSAGE
        compared += 1
    assert compared > 10


@pytest.mark.parametrize(("flags", "connection"), CONNECTIONS)
def test_the_same_references_give_the_same_bytes(flags, connection):
    for _, raw, direction, signals in replay(flags, connection):
        if raw[:1] == b"p":
            control, message = encode_control(signals[0], flags)
            written = b"p\x83" + encode_term(control)
            written += b"\x83" + encode_term(message) if message is not NO_MESSAGE else b""
        elif raw[1:2] == b"D":
            atoms, _, offset = direction.cache.read(raw, 2)
            control, message = encode_control(signals[0], flags)
            numbers = {atom: number for number, atom in enumerate(atoms)}
            written = b"\x83D" + header(raw, offset)
            written += encode_term(control, numbers)
            written += encode_term(message, numbers) if message is not NO_MESSAGE else b""
        else:
            if raw[1:2] == b"E":
                direction.cache.read(raw, 18)
            continue
        assert written == raw


def header(raw, end):
    found, long_atoms = references(raw, end)
    return encode_references(found, long_atoms=long_atoms)


def references(raw, end):
    """Return the cells and texts of the header of ``raw``, and whether its lengths are long.

    This is a second implementation of the header, independent of the one under test.
    """
    count = raw[2]
    nibbles = [nibble for byte in raw[3 : 3 + count // 2 + 1] for nibble in (byte & 15, byte >> 4)]
    width = 2 if count and nibbles[count] & 1 else 1
    at, found = 3 + (count // 2 + 1 if count else 0), []
    for nibble in nibbles[:count]:
        cell, at = (nibble & 7) * 256 + raw[at], at + 1
        if nibble & 8:
            size = int.from_bytes(raw[at : at + width], "big")
            found.append((cell, raw[at + width : at + width + size]))
            at += width + size
        else:
            found.append((cell, None))
    assert at == end
    return found, width == 2


def test_atom_references_match_the_capture():
    checked = 0
    for session in VECTORS["sessions_python_beam"]:
        for frame in session["frames"]:
            if frame.get("header") == "normal" and "atom_refs" in frame:
                raw = body(frame)
                reader = AtomReader()
                reader._cells = dict.fromkeys(range(2048), Atom("filled"))
                expected = [
                    (segment * 256 + slot, name.encode() if kind == "new" else None)
                    for kind, segment, slot, name in frame["atom_refs"]
                ]
                assert references(raw, reader.read(raw, 2)[2])[0] == expected
                checked += 1
    assert checked > 60


@pytest.mark.parametrize(("flags", "connection"), CONNECTIONS)
def test_a_stream_in_single_bytes_gives_the_same_events(flags, connection):
    for sender in {sender for sender, _ in connection}:
        frames = [body(frame) for node, frame in connection if node == sender]
        stream = b"".join(struct.pack(">I", len(frame)) + frame for frame in frames if len(frame) < 2000)
        whole, pieces = (Channel(sender, "other@127.0.0.1", flags, now=0.0) for _ in range(2))

        events_of_whole = whole.receive_data(stream, 0.0)
        events_of_pieces = [event for byte in stream for event in pieces.receive_data(bytes([byte]), 0.0)]

        assert [repr(event) for event in events_of_pieces] == [repr(event) for event in events_of_whole]
