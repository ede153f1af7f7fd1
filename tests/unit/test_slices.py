"""A message with many elements is decoded in slices, and the event loop gets turns in between."""

import asyncio
import gc
import sys
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_dist_protocol import established, iterations, run

from erlmesh import native
from erlmesh.errors import DecodeError
from erlmesh.etf import encode_term, slices
from erlmesh.etf.decode import decode_term
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.control import ExitLink, Link, Send, SendName
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.frame_reader import SLICED_ELEMENTS
from erlmesh.proto.wire import PureWire
from erlmesh.terms import Atom, Map, Pid
from terms_strategy import floats, terms

SOCRATES, PLATO = "socrates@127.0.0.1", "plato@127.0.0.1"
HERE, THERE = Pid(Atom(SOCRATES), 85, 0, 7), Pid(Atom(PLATO), 90, 0, 9)
A = Atom("a")

CACHE_ONLY = OFFERED & ~Flags.FRAGMENTS
PASS_THROUGH = CACHE_ONLY & ~Flags.DIST_HDR_ATOM_CACHE
BUILDS = [PureWire] + ([native.module.Wire] if native.module is not None else [])
every_build = pytest.mark.parametrize("make_wire", BUILDS)
every_framing = pytest.mark.parametrize("flags", [OFFERED, CACHE_ONLY, PASS_THROUGH], ids=["all", "cache", "none"])

LONG = [(number, [A]) for number in range(SLICED_ELEMENTS // 2)]
SHORT = [Send(HERE, THERE, 1), Link(HERE, THERE), SendName(HERE, A, [2])]


def finish(steps):
    """Return the result of a generator."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except DecodeError as error:
        return str(error)


@pytest.fixture
def short_slices(monkeypatch):
    decode = sys.modules["erlmesh.etf.decode"]  # the package has a function of this name
    for module in (slices, decode):
        monkeypatch.setattr(module, "SLICE_ITEMS", 2)
    monkeypatch.setattr(decode, "MAP_PART", 4)


@pytest.mark.usefixtures("short_slices")
@pytest.mark.parametrize("decode_in_slices", [slices.decode_in_slices, slices.decode_in_python])
class TestDecoder:
    """What is decoded in slices is the same as what is decoded at once."""

    @given(terms)
    def test_terms(self, decode_in_slices, term):
        data = b"xy" + encode_term(term) + b"z"

        assert finish(decode_in_slices(data, 2)) == decode_term(data, 2)

    @given(st.lists(st.sampled_from([*b"FPRMXYZacdefgjklmnopqrstvwx\0\1\2\3"]), max_size=40).map(bytes))
    @example(b"t\0\0\0\3" + b"a\1j" * 2 + b"a\2j")
    @example(b"t\0\0\0\5" + b"a\1ja\2ja\3ja\1ja\4j")
    @example(b"l\0\0\0\1jl\0\0\0\1jh\1t\0\0\0\1jj")
    def test_any_tags(self, decode_in_slices, data):
        atoms = (Atom("x"), Atom("false"))

        assert outcome(lambda: finish(decode_in_slices(data, 0, atoms))) == outcome(decode_term, data, 0, atoms)

    @given(st.dictionaries(st.integers() | floats | st.binary() | st.tuples(st.integers()), st.none()))
    def test_maps_in_parts_keep_the_order_and_the_keys(self, decode_in_slices, pairs):
        term = Map((key, [A]) for key in pairs)
        made, _ = finish(decode_in_slices(encode_term(term), 0))

        assert [*made.items()] == [*term.items()]
        assert repr(made) == repr(term)
        assert made == term

    def test_it_yields_between_terms_and_between_the_ends_of_deep_ones(self, decode_in_slices):
        assert len([*decode_in_slices(b"h\1" * 100 + b"j", 0)]) >= 95
        assert len([*decode_in_slices(b"l\0\0\0\x64" + b"a\1" * 100 + b"j", 0)]) >= 45
        assert len([*decode_in_slices(b"k\4\0" + b"x" * 1024 + b"j", 0)]) == 0
        assert len([*decode_in_slices(b"h\2k\4\0" + b"x" * 1024 + b"j", 0)]) >= 1


def test_what_a_reader_has_begun_is_freed_with_it():
    if native.module is None:
        pytest.skip("the reader is native")
    word = Atom("kept")
    references = gc.get_referrers(word)
    data = b"h\3R\0h\2R\0t\0\0\0\2R\0h\1R\0"
    for steps in range(1, 8):
        reader = native.module.TermReader(data, 0, (word,))
        assert reader.read(steps) in (None, NotImplemented)
        del reader

    assert len(gc.get_referrers(word)) == len(references)


# Channels


def sent(signals, flags):
    sender = Channel(PLATO, SOCRATES, flags, now=0.0)
    for signal in signals:
        sender.send(signal)
    return sender.data_to_send(0.0)


def receiver(make_wire, flags=OFFERED, **options):
    channel = Channel(SOCRATES, PLATO, flags, now=0.0, make_wire=make_wire, **options)
    channel.allow_slices()
    return channel


def decode_all(channel):
    """Return what each further slice gives."""
    parts = []
    while channel.is_decoding:
        parts.append(channel.decode_more(0.0))
    return parts


@every_build
@every_framing
@pytest.mark.parametrize("long", [Send(HERE, THERE, LONG), ExitLink(HERE, THERE, LONG)])
def test_a_long_message_keeps_its_place(make_wire, flags, long):
    signals = [*SHORT, long, *SHORT, long, *SHORT]
    channel = receiver(make_wire, flags)
    first = channel.receive_data(sent(signals, flags), 0.0)
    assert first == SHORT
    assert channel.wire.buffered > len(LONG)
    parts = decode_all(channel)

    assert [signal for part in parts for signal in part] == signals[len(SHORT) :]
    assert [len(part) for part in parts if part] == [1 + len(SHORT)] * 2
    assert len(parts) > 10
    assert channel.wire.buffered == 0


@every_build
def test_what_arrives_while_a_message_is_decoded_comes_after_it(make_wire):
    channel = receiver(make_wire)
    data = sent([Send(HERE, THERE, LONG), *SHORT], OFFERED)
    cuts = [0, len(data) - 40, len(data) - 20, len(data)]
    events = [channel.receive_data(data[start:stop], 0.0) for start, stop in pairwise(cuts)]
    assert events == [[], [], []]

    assert [signal for part in decode_all(channel) for signal in part][1:] == SHORT


@every_build
def test_only_who_asks_for_slices_gets_them(make_wire):
    channel = Channel(SOCRATES, PLATO, OFFERED, now=0.0, make_wire=make_wire)

    assert channel.receive_data(sent([Send(HERE, THERE, LONG)], OFFERED), 0.0) == [Send(HERE, THERE, LONG)]
    assert channel.decode_more(0.0) == []


@every_build
@every_framing
def test_a_fault_in_a_long_message_ends_the_connection_after_all_before_it(make_wire, flags):
    whole = sent([*SHORT, Send(HERE, THERE, [*LONG, 77])], CACHE_ONLY if flags == OFFERED else flags)
    data = whole.replace(b"a\x4dj", b"\xff\x4dj")
    assert data != whole
    channel = receiver(make_wire, CACHE_ONLY if flags == OFFERED else flags)
    assert channel.receive_data(data, 0.0) == SHORT
    *parts, (lost,) = decode_all(channel)

    assert not any(parts)
    assert len(parts) > 5  # what the native reader gives up is decoded in slices, too
    assert lost.reason == "killed"
    assert "tag 255" in lost.detail
    assert not channel.is_decoding


@every_build
@every_framing
def test_a_long_message_with_too_many_elements_is_refused(make_wire, flags):
    channel = receiver(make_wire, flags, max_elements=SLICED_ELEMENTS * 2)
    assert channel.receive_data(sent([Send(HERE, THERE, LONG * 2)], flags), 0.0) == []
    *parts, (lost,) = decode_all(channel)

    assert not any(parts)
    assert isinstance(lost, ConnectionLost)
    assert lost.reason == "emsgsize"


@every_build
def test_a_lower_limit_than_that_of_slices_is_exact(make_wire):
    channel = receiver(make_wire, max_elements=50)
    channel.receive_data(sent([Send(HERE, THERE, [[]] * 50)], OFFERED), 0.0)
    parts = decode_all(channel)

    assert channel.lost
    assert not any(type(event) is Send for part in parts for event in part)


@every_build
def test_a_message_that_is_decoded_is_dropped_with_the_connection(make_wire):
    channel = receiver(make_wire)
    channel.receive_data(sent([Send(HERE, THERE, LONG)], OFFERED), 0.0)
    channel.decode_more(0.0)
    channel.wire.drop_received()

    assert not channel.is_decoding
    assert channel.wire.buffered == 0


@every_build
@pytest.mark.parametrize("size", [40_000, 64_000, 66_000, 100_000, 300_000])
def test_a_long_binary_is_not_decoded_in_slices(make_wire, size):
    """It is decoded quickly, also in two fragments."""
    channel = receiver(make_wire)
    signal = Send(HERE, THERE, (A, bytes(size)))

    assert channel.receive_data(sent([signal], OFFERED), 0.0) == [signal]


# Connections


async def until(condition):
    """Run the loop until the condition is true. Return the number of turns."""
    for turns in range(100_000):
        if condition():
            return turns
        await asyncio.sleep(0)
    raise AssertionError("the condition does not become true")


def test_the_event_loop_gets_turns_while_a_message_is_decoded():
    async def test(_loop):
        peer = await established()
        for signal in (Send(THERE, HERE, LONG), Send(THERE, HERE, 1)):
            peer.channel.send(signal)
        writing = asyncio.ensure_future(peer.write(peer.channel.data_to_send(0.0)))
        await until(lambda: peer.protocol.channel.is_decoding)
        turns = await until(lambda: not peer.protocol.channel.is_decoding)
        await writing
        await until(lambda: len(peer.delegate.received) == 2)

        assert turns > 5
        assert [signal.message for signal in peer.delegate.received] == [LONG, 1]
        assert peer.delegate.ended is None
        assert len(peer.protocol._unfinished_budget) == 0

    run(test)


def test_a_peer_that_closes_after_a_long_message_is_lost_after_it():
    async def test(_loop):
        peer = await established()
        peer.channel.send(Send(THERE, HERE, LONG))
        await peer.write(peer.channel.data_to_send(0.0))
        peer.connection.close()
        await until(lambda: peer.delegate.ended is not None)

        assert [signal.message for signal in peer.delegate.received] == [LONG]

    run(test)


def test_a_connection_that_closes_drops_the_message_that_it_decodes():
    async def test(_loop):
        peer = await established()
        peer.channel.send(Send(THERE, HERE, LONG))
        writing = asyncio.ensure_future(peer.write(peer.channel.data_to_send(0.0)))
        await until(lambda: peer.protocol.channel.is_decoding)
        await writing
        channel = peer.protocol.channel
        peer.protocol.close()
        await iterations()

        assert not channel.is_decoding
        assert channel.wire.buffered == 0
        assert peer.delegate.received == []

    run(test)
