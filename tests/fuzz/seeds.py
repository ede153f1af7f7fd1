"""The first input of each target of the coverage-guided fuzzer, and the mutator that knows the actions on services."""

from __future__ import annotations

import struct
from random import Random

from erlmesh.etf import encode
from erlmesh.proto.flags import OFFERED
from erlmesh.proto.handshake import digest
from erlmesh.proto.wire import PureWire
from erlmesh.terms import Atom, ImproperList, Map
from fuzz.codec import PURE_ENCODE, outcome
from fuzz.random_terms import RandomTerms
from fuzz.service_words import ATOMS, MESSAGES, NAMES, SERVICES, SYSTEM_MESSAGES
from fuzz.targets.handshake import CHALLENGE
from fuzz.targets.services import parse
from fuzz.wire import FLAGS, Generator, refragmented, wire_pair

SEND, EXIT, SPAWN, WAIT = map(Atom, ("send", "exit", "spawn", "wait"))
THEIR_CHALLENGE = 77


def decoder_seeds():
    """Return encoded terms of all kinds."""
    terms = (RandomTerms(Random(seed)).term(5) for seed in range(60))
    encoded = (outcome(PURE_ENCODE.encode_term, term, None) for term in terms)
    return [result[1] for result in encoded if result[0] == "returned" and len(result[1]) < 4_000]


def framed(size, packets):
    """Return the packets, each behind its length."""
    return b"".join(struct.pack(size, len(packet)) + packet for packet in packets)


def handshake_seeds():
    """Return complete handshakes in both roles, old and new names, and each status."""
    name = b"there@h"
    flags = int(OFFERED)
    new = struct.pack(">cQIH", b"N", flags, 9, len(name)) + name
    old = struct.pack(">cHI", b"n", 5, flags & 0xFFFFFFFF) + name
    rest = struct.pack(">cII", b"c", flags >> 32, 9)
    reply = struct.pack(">cI", b"r", THEIR_CHALLENGE) + digest("fuzz", CHALLENGE)
    challenge = struct.pack(">cQIIH", b"N", flags, THEIR_CHALLENGE, 9, len(name)) + name
    ack = b"a" + digest("fuzz", CHALLENGE)
    accepted = [[new, reply], [old, rest, reply], [new, b"strue", reply], [new, b"sfalse"]]
    initiated = [[b"s" + status, challenge, ack] for status in (b"ok", b"ok_simultaneous", b"nok", b"alive", b"other")]
    seeds = []
    for tls, size in ((0, ">H"), (128, ">I")):
        for status in range(5):
            seeds += [bytes([tls | status << 2]) + framed(size, packets) + b"\0\0\0\0" for packets in accepted]
        for keep in (1, 3):
            seeds += [bytes([tls | keep]) + framed(size, packets) for packets in initiated]
    return seeds


def channel_seeds():
    """Return the bytes of some signals for each set of capabilities, also in fragments."""
    seeds = []
    for index, flags in enumerate(FLAGS):
        for number in range(6):
            random = Random(number)
            writer = wire_pair(PureWire, flags)[0]
            generator = Generator(random)
            for _ in range(random.randint(1, 8)):
                outcome(writer.write, generator.signal())
            stream = writer.data_to_send()
            if len(stream) < 8_000:
                seeds += [bytes([index]) + stream, bytes([index]) + refragmented(random, stream) + b"\0\0\0\0"]
    return seeds


def epmd_seeds():
    """Return each request and response."""
    register = struct.pack(">BHBBHHH", 120, 4_000, 77, 0, 6, 5, 8) + b"socrates" + struct.pack(">H", 0)
    requests = [register, b"zsocrates", b"n", b"d", b"k", b"ssocrates", b""]
    responses = [
        b"\x76\0\0\0\0\7",
        b"\x79\0\0\7",
        b"\x77\0" + struct.pack(">HBBHHH", 4_000, 77, 0, 6, 5, 8) + b"socrates\0\0",
        b"\x77\1",
        b"\0\0\x11\x11name socrates at port 4000\n",
    ]
    seeds = [bytes([role]) + framed(">H", [request]) for request in requests for role in (0, 60, 120)]
    return seeds + [bytes([160 + decoder]) + response for response in responses for decoder in range(3)]


def service_seeds():
    """Return each message alone, and all messages of a service in one input."""
    seeds = []
    for name, messages in SERVICES.items():
        actions = [(SEND, Atom(name), message) for message in messages]
        systems = [(SEND, Atom(name), message) for message in SYSTEM_MESSAGES]
        seeds += [encode(actions), encode(systems), encode([*actions, (WAIT, 10_000), *actions])]
        seeds += [encode([action]) for action in actions]
        seeds += [
            encode([(EXIT, Atom(name), Atom(reason)), (WAIT, 100), *actions[:3]]) for reason in ("kill", "normal")
        ]
    seeds += [
        encode([(SEND, number, message) for number in range(1, 40)]) for message in (7, MESSAGES[0], MESSAGES[-1])
    ]
    seeds.append(encode([(SPAWN, Atom("erlang"), Atom("apply"), [1]), (SPAWN, Atom("m"), Atom("f"), [])]))
    return seeds


SEEDS = {
    "decoder": decoder_seeds,
    "handshake": handshake_seeds,
    "channel": channel_seeds,
    "epmd": epmd_seeds,
    "services": service_seeds,
}


class TermMutator:
    """Changes a term in one place: another leaf, a missing or repeated element, or a part of another message."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._terms = RandomTerms(random)

    def mutate(self, term):
        """Return a changed copy of the term."""
        random = self._random
        if random.random() < 0.25:
            return self._other()
        match term:
            case tuple() if term:
                return tuple(self._changed(list(term)))
            case list() if term:
                return self._changed(term)
            case ImproperList():
                return ImproperList(tuple(self._changed(list(term.elements))) or (1,), term.tail)
            case Map() if len(term):
                return Map(zip(self._changed(list(term)), term.values(), strict=False))
        return self._other()

    def _changed(self, items):
        random, items = self._random, list(items)
        at = random.randrange(len(items))
        kind = random.random()
        if kind < 0.6:
            items[at] = self.mutate(items[at])
        elif kind < 0.75:
            del items[at]
        elif kind < 0.9:
            items.insert(at, items[random.randrange(len(items))])
        else:
            items[at] = [items[at]]
        return items

    def _other(self):
        random = self._random
        kind = random.random()
        if kind < 0.4:
            return random.choice(ATOMS)
        if kind < 0.5:
            message = random.choice(MESSAGES)
            return random.choice(message) if isinstance(message, tuple) else message
        if kind < 0.6:
            return random.choice([0, 1, -1, 1 << 70, 1.0, True, [], (), b"", "text", Map()])
        return self._terms.term(2)


def mutate_actions(data: bytes, max_size: int, seed: int) -> bytes:
    """Return changed actions for the target ``services``, at most ``max_size`` bytes; the interface of libFuzzer."""
    random = Random(seed)
    mutator, actions = TermMutator(random), parse(data)
    for _ in range(random.choice([1, 1, 2, 4])):
        kind = random.random()
        if kind < 0.3 or not actions:
            name = random.choice(NAMES)
            action = (SEND, name, random.choice(SERVICES[name.name] + SYSTEM_MESSAGES))
            actions.insert(random.randrange(len(actions) + 1), action)
        elif kind < 0.4:
            del actions[random.randrange(len(actions))]
        elif kind < 0.45:
            actions.insert(random.randrange(len(actions) + 1), (WAIT, random.choice([1, 1_000, 30_000])))
        elif kind < 0.5:
            reason = random.choice([Atom("kill"), Atom("normal"), Atom("shutdown")])
            actions.append((EXIT, random.choice(NAMES), reason))
        else:
            at = random.randrange(len(actions))
            first, *others = actions[at]
            actions[at] = (first, *others[:-1], mutator.mutate(others[-1])) if others else actions[at]
    while actions:
        result = outcome(encode, actions)
        if result[0] == "returned" and len(result[1]) <= max_size:
            return result[1]
        actions.pop()
    return encode([])
