"""The native wire does what the pure one does.

Both get the same signals and the same bytes, valid and faulty. They write the same bytes, read the same signals, raise
the same errors and count the same numbers.
"""

import struct
from enum import IntEnum
from random import Random

from erlmesh import native
from erlmesh.errors import ErlmeshError
from erlmesh.etf import EncodedTerm
from erlmesh.formatting import format_erlang
from erlmesh.proto.atom_cache import encode_references
from erlmesh.proto.control import (
    Demonitor,
    Down,
    ExitLink,
    ExitSend,
    GroupLeader,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    SpawnReply,
    SpawnRequest,
    Unlink,
    UnlinkAck,
)
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.wire import PureWire
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref

LOCAL, PEER = Atom("local@h"), Atom("peer@h")
NODES = [LOCAL, PEER, Atom("third@h"), Atom("ж" * 200)]
ATOMS = [Atom(name) for name in ("ping", "ok", "", "true", "false", "nil", "ж" * 200, *(f"a{i}" for i in range(30)))]
FLAGS = [
    OFFERED,
    OFFERED,
    OFFERED & ~Flags.FRAGMENTS,
    OFFERED & ~Flags.DIST_HDR_ATOM_CACHE,
    OFFERED & ~Flags.FRAGMENTS & ~Flags.DIST_HDR_ATOM_CACHE,
    OFFERED & ~Flags.SEND_SENDER & ~Flags.EXIT_PAYLOAD,
    OFFERED & ~Flags.ALIAS & ~Flags.SPAWN & ~Flags.UNLINK_ID,
]
LONG = [bytes(20_000), bytes(range(256)) * 300, bytes(70_000), bytes(140_000), bytes(300_000)]
MAX_FRAME, MAX_UNFINISHED, MAX_ELEMENTS = 200_000, 300_000, 1_000_000


class Number(IntEnum):
    """An int that is not an exact int."""

    SEVEN = 7


def wire_pair(make_wire, flags, max_elements=MAX_ELEMENTS):
    """Return the sending wire of the local node, and the receiving wire of its peer."""
    return (
        make_wire(PEER, LOCAL, flags, (MAX_FRAME, MAX_UNFINISHED, max_elements)),
        make_wire(LOCAL, PEER, flags, (MAX_FRAME, MAX_UNFINISHED, max_elements)),
    )


class Generator:
    """Makes terms and signals. Many are alike, as in real traffic, so that prefixes and cells are used again."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.atoms = random.sample(ATOMS, random.randint(3, len(ATOMS)))
        self.pids = [self.pid(self.node()) for _ in range(random.choice([1, 4, 40]))]
        self.refs = [self.ref() for _ in range(4)]

    def node(self):
        return self.random.choice(NODES if self.random.random() < 0.1 else NODES[:2])

    def pid(self, node):
        return Pid(node, self.random.choice([1, 2, 1 << 27, (1 << 32) - 1]), self.random.choice([0, 1]), 7)

    def ref(self):
        words = 3 if self.random.random() < 0.8 else self.random.randint(1, 5)
        return Ref(self.node(), 9, tuple(self.random.randrange(1 << 32) for _ in range(words)))

    def fresh_ref(self):
        old = self.random.choice(self.refs)
        return Ref(old.node, old.creation, tuple(self.random.randrange(1 << 32) for _ in old.words))

    def atom(self):
        if self.random.random() < 0.02:
            return Atom(f"new{self.random.randrange(1 << 40)}")
        return self.random.choice(self.atoms)

    def leaf(self):
        choose = self.random.choice
        return choose(
            [
                self.atom,
                self.atom,
                lambda: choose([0, 1, 255, 256, -1, 1 << 31, -(1 << 31), 1 << 60, 1 << 64, -(1 << 80), 1 << 2050]),
                lambda: choose([True, False, 0.5, -0.0, 1e300]),
                lambda: choose([b"", b"x", b"abc" * 50, "text", "ü"]),
                lambda: choose(self.pids),
                lambda: choose(self.refs),
                lambda: choose([Number.SEVEN, bytearray(b"ab"), Port(PEER, 3, 7), Export(Atom("m"), Atom("f"), 2)]),
                lambda: choose([BitString(b"\x80", 1), [], {}, (), [1, 2, 3], list(range(300))]),
                lambda: Fun(1, bytes(16), 0, self.atom(), 0, 5, choose(self.pids), (self.atom(),)),
            ]
        )()

    def term(self, depth=0):
        choose = self.random.choice
        if depth > 3 or self.random.random() < 0.4:
            return self.leaf()
        count = choose([1, 2, 2, 3, 5])
        items = [self.term(depth + 1) for _ in range(count)]
        kind = self.random.random()
        if kind < 0.6:
            return tuple(items)
        if kind < 0.85:
            return items
        if kind < 0.95:
            return Map(zip((self.atom() for _ in items), items, strict=True))
        return ImproperList(tuple(items), self.atom())

    def message(self):
        kind = self.random.random()
        if kind < 0.04:
            return (self.atom(), self.random.choice(LONG), self.term(2))
        if kind < 0.06:
            return self.random.choice(LONG)
        if kind < 0.09:
            return (self.atom(), self.random.choice([None, float("nan"), "\ud800", object, {"a": 1, b"a": 2}]))
        if kind < 0.095:
            return EncodedTerm(self.random.choice([self.term(), LONG[1]]))
        if kind < 0.10:
            deep = self.atom()
            for _ in range(self.random.choice([390, 405, 1500])):
                deep = [deep]
            return deep
        return self.term()

    def signal(self):
        choose, pids = self.random.choice, self.pids
        sender, to = choose(pids), choose(pids)
        target = choose([to, to, self.atom()])
        ref = self.fresh_ref()
        token = self.term() if self.random.random() < 0.05 else None
        return choose(
            [
                lambda: Send(sender, to, self.message(), token),
                lambda: Send(sender, to, self.message()),
                lambda: Send(sender, to, self.message()),
                lambda: Send(None, to, self.message()),
                lambda: SendName(sender, self.atom(), self.message(), token),
                lambda: SendAlias(sender, ref, self.message(), token),
                lambda: Monitor(sender, target, ref),
                lambda: Demonitor(sender, target, ref),
                lambda: Down(target, to, ref, self.message()),
                lambda: Down(Pid(LOCAL, 5, 0, 7), Pid(PEER, 6, 0, 7), Ref(PEER, 9, (1, 2, 3)), self.message()),
                lambda: SpawnReply(Ref(PEER, 9, (1, 2, 3)), Pid(PEER, 6, 0, 7), choose([0, 3, 255, 256]), target),
                lambda: SpawnReply(ref, to, 1, target, token),
                lambda: Link(sender, to),
                lambda: Unlink(choose([None, 1, 1 << 63]), sender, to),
                lambda: UnlinkAck(7, sender, to),
                lambda: ExitLink(sender, to, self.message(), token),
                lambda: ExitSend(sender, to, self.message(), token),
                lambda: GroupLeader(sender, to),
                lambda: SpawnRequest(ref, sender, to, self.atom(), self.atom(), 1, [self.atom()], [self.term()], token),
            ]
        )()


def outcome(function, *arguments):
    """Return what a call raises; None if it raises nothing."""
    try:
        function(*arguments)
    except ErlmeshError as error:
        return type(error), str(error), getattr(error, "offset", None)
    return None


def shown(signal: object) -> str:
    text = repr(signal)
    return text if len(text) < 500 else f"{text[:250]} ... {text[-250:]}"


def compare_writers(random: Random) -> tuple[Flags, bytes]:
    """Write the same signals to both wires. Return the flags and the bytes, which are equal."""
    generator, flags = Generator(random), random.choice(FLAGS)
    pure, other = wire_pair(PureWire, flags)[0], wire_pair(native.module.Wire, flags)[0]
    stream = b""
    for _ in range(random.choice([1, 5, 30, 100])):
        if random.random() < 0.05:
            pure.write_tick()
            other.write_tick()
        signal = generator.signal()
        if type(signal) is Send and signal.token is None and random.random() < 0.5:
            assert outcome(pure.send, signal.sender, signal.to, signal.message) == outcome(
                other.send, signal.sender, signal.to, signal.message
            ), shown(signal)
        else:
            assert outcome(pure.write, signal) == outcome(other.write, signal), shown(signal)
        assert pure.queued == other.queued, shown(signal)
        assert pure.signals_out == other.signals_out, shown(signal)
        if random.random() < 0.2:
            data = pure.data_to_send()
            assert data == other.data_to_send(), shown(signal)
            stream += data
    data = pure.data_to_send()
    assert data == other.data_to_send()
    return flags, stream + data


def split_frames(stream: bytes) -> list[bytes]:
    frames = []
    while stream:
        (length,) = struct.unpack_from(">I", stream)
        frames.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return frames


def refragmented(random: Random, stream: bytes) -> bytes:
    """Return the stream with some frames in two or three fragments, as a BEAM sends messages of 64 KiB and more."""
    frames: list[bytes] = []
    late: list[bytes] = []
    for sequence, frame in enumerate(split_frames(stream)):
        if not frame.startswith(b"\x83D") or random.random() < 0.5:
            frames.append(frame)
            continue
        last = random.randrange(max(3, len(frame) - 30), len(frame) + 1)
        cuts = sorted({2, last, *random.choices([last, random.randrange(3, len(frame) + 1)])})
        pieces = [frame[start:end] for start, end in zip(cuts, [*cuts[1:], len(frame)], strict=True)]
        heads = [struct.pack(">QQ", sequence, number) for number in range(len(pieces), 0, -1)]
        first, *others = [head + piece for head, piece in zip(heads, pieces, strict=True)]
        frames += [b"\x83E" + first, *late]
        late = [b"\x83F" + other for other in others]
        if random.random() < 0.7:  # directly behind the first
            frames += late
            late = []
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in [*frames, *late])


def mutated(random: Random, stream: bytes) -> bytes:
    """Return the stream with some faults: in bytes of frames, in their order, in lengths, in headers."""
    kind = random.random()
    if kind < 0.2 or not stream:
        return stream
    frames = split_frames(stream)
    if kind < 0.8:
        for _ in range(random.choice([1, 1, 3])):
            at = random.randrange(len(frames))
            frame = bytearray(frames[at])
            for _ in range(random.choice([1, 1, 2, 5]) if frame else 0):
                # Most faults are near the start, where the header and the control tuple are.
                place = random.randrange(len(frame) if random.random() < 0.3 else min(len(frame), 80))
                change = random.random()
                if change < 0.7:
                    frame[place] = random.choice([0, 1, 2, 255, frame[place] ^ 1, random.randrange(256)])
                elif change < 0.85:
                    del frame[place : place + random.choice([1, 1, 4])]
                else:
                    frame[place:place] = random.randbytes(random.choice([1, 1, 4]))
                if not frame:
                    break
            frames[at] = bytes(frame)
    elif kind < 0.9:
        at = random.randrange(len(frames))
        other = random.randrange(len(frames))
        frames[at], frames[other] = frames[other], frames[at]
    else:
        references = [(random.randrange(2048), random.choice([None, b"x", b"\xff", b"y" * 300])) for _ in range(3)]
        head = b"\x83" + random.choice([b"D", b"E" + struct.pack(">QQ", 1, random.randrange(3)), b"F", b"G"])
        frames.insert(random.randrange(len(frames)), head + encode_references(references) + random.randbytes(9))
    stream = b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)
    if random.random() < 0.05:
        at = random.randrange(len(stream) + 1)
        stream = stream[:at] + random.randbytes(3) + stream[at:]
    return stream


def as_text(signal: object) -> str:
    """Return a signal as text, which differs for 1, 1.0 and True. The fields may be deep terms."""
    fields = [getattr(signal, name) for name in type(signal).__match_args__]
    return f"{type(signal).__name__} {[format_erlang(field) for field in fields]}"


def compare_readers(random: Random, flags: Flags, stream: bytes) -> None:
    """Feed the same bytes in the same pieces to both wires."""
    max_elements = random.choice([MAX_ELEMENTS, MAX_ELEMENTS, 250, 20])
    pure, other = (wire_pair(make, flags, max_elements)[1] for make in (PureWire, native.module.Wire))
    if Flags.FRAGMENTS in flags and random.random() < 0.5:
        stream = refragmented(random, stream)
    stream = mutated(random, stream)
    cuts = sorted(random.randrange(len(stream) + 1) for _ in range(random.choice([0, 0, 3, 30])))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        expected, got = [], []
        error = outcome(pure.receive_data, stream[start:end], expected)
        assert outcome(other.receive_data, stream[start:end], got) == error
        assert [as_text(signal) for signal in got] == [as_text(signal) for signal in expected]
        assert other.ticks_in == pure.ticks_in
        if error is not None:
            break
        assert other.buffered == pure.buffered


def run_case(seed: object) -> None:
    """Compare the wires with one set of signals and four streams. Raise AssertionError if they differ."""
    random = Random(f"wire-{seed}")
    flags, stream = compare_writers(random)
    for _ in range(4):
        compare_readers(random, flags, stream)
