"""The messages of Phoenix.Tracker: recorded ones, what is sent, and malformed ones."""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from erlmesh.core.phoenix_tracker.entries import Delta, Entry, FullState
from erlmesh.core.phoenix_tracker.messages import (
    GracefulPermdown,
    Heartbeat,
    TransferAnswer,
    TransferRequest,
    shard_name,
    shard_topic,
    to_term,
)
from erlmesh.core.phoenix_tracker.shard_book import Changed, Direct, Ignored, ShardBook, TrackerSettings
from erlmesh.core.phoenix_tracker.validation import Malformed, checked_term, parse_message
from erlmesh.etf import decode, encode
from erlmesh.terms import Atom, ImproperList, Map, Pid, Ref

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "phoenix_tracker.json").read_text())["messages"]
A, PY = Atom("a@127.0.0.1"), Atom("py@127.0.0.1")
REF = (A, 1796057452062503)
PID = Pid(A, 121, 0, 1)
ENTRY = Entry(PID, b"lobby", b"k", Map({Atom("phx_ref"): b"1"}))
CLOUDS = {REF: {3, 4, 6}}
MESSAGES = {
    "empty heartbeat": Heartbeat(REF, None, {REF: 7, (PY, 5): 0}),
    "heartbeat": Heartbeat(REF, Delta({(REF, 6): ENTRY}, CLOUDS), {REF: 6}),
    "request": TransferRequest(Ref(A, 1, (1, 2, 3)), (PY, 5), {REF: 0}),
    "delta": TransferAnswer(7, REF, Delta({(REF, 6): ENTRY}, CLOUDS)),
    "full": TransferAnswer(7, REF, FullState({REF: 2}, CLOUDS, {(REF, 6): ENTRY})),
    "permdown": GracefulPermdown(REF),
}


def keys(entries):
    return sorted(entry.key.decode() for entry in entries)


def test_recorded_messages_of_a_tracker_lead_to_the_recorded_lists():
    book = ShardBook((PY, 5), TrackerSettings(), 0.0, speaks=False, make_id=lambda: 1)
    for number, each in enumerate(RECORDED):
        effects = book.receive(decode(b64decode(each["message"])), 1.0 + number, lambda name: name is A)
        changes = [effect.changes for effect in effects if isinstance(effect, Changed)]

        assert sorted(key for change in changes for key in keys(change.joins)) == sorted(each["joins"]), number
        assert sorted(key for change in changes for key in keys(change.leaves)) == sorted(each["leaves"]), number
        assert keys(book.state.list(b"lobby")) == sorted(each["lobby"]), number
        if number == 0:
            (request,) = [effect for effect in effects if isinstance(effect, Direct)]
            asked = parse_message(request.message)
            assert (request.node, asked.ref, asked.clocks) == (A, (PY, 5), {(A, 1796057452062503): 0})
    assert not any(isinstance(effect, Ignored) for effect in effects)


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_recorded_message_is_written_as_it_was_read(number):
    term = decode(b64decode(RECORDED[number]["message"]))

    again = to_term(parse_message(term))

    # Elixir 1.15 and later leave out the version of a MapSet. The ranges of a full state are not used.
    assert _without_version(again) == _without_version(term)


def _without_version(term):
    if isinstance(term, tuple):
        return tuple(map(_without_version, term))
    if isinstance(term, Map):
        dropped = (Atom("version"), Atom("replicas"))
        return Map({key: _without_version(value) for key, value in term.items() if key not in dropped})
    return term


@pytest.mark.parametrize("name", MESSAGES)
def test_message_is_read_as_it_was_sent(name):
    message = MESSAGES[name]

    term = checked_term(message)

    read = parse_message(decode(encode(term)))
    assert to_term(read) == term
    assert type(read) is type(message)


@pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if name != "permdown"])
def test_message_with_any_part_replaced_is_malformed_or_still_read_whole(name):
    """No part of a message may reach the book unchecked: each is replaced by terms of all other kinds."""
    term = checked_term(MESSAGES[name])
    book = ShardBook((PY, 5), TrackerSettings(), 0.0, speaks=True, make_id=lambda: 1)
    malformed = 0
    for changed in _mutations(term):
        try:
            message = parse_message(changed)
        except Malformed:
            malformed += 1
            assert [type(effect) for effect in book.receive(changed, 1.0, lambda _: True)] == [Ignored]
        else:
            if message is not None:
                checked_term(message)
            book.receive(changed, 1.0, lambda _: True)
    assert malformed >= len(term)
    assert book.counts.malformed == malformed


STRANGE = (Atom("x"), 7, -1, 2**70, b"x", [], [1], Map(), (), (1, 2, 3), ImproperList((1,), 2), 1.5, True, PID)


def _mutations(term):
    """The term with each of its parts replaced, one at a time."""
    yield from (strange for strange in STRANGE if strange != term)
    if isinstance(term, tuple):
        for index, part in enumerate(term):
            for changed in _mutations(part):
                yield (*term[:index], changed, *term[index + 1 :])
        yield term[:-1]
        yield (*term, 1)
    elif isinstance(term, Map):
        for key, value in term.items():
            rest = [(other, kept) for other, kept in term.items() if other != key]
            yield Map(rest)
            for changed in _mutations(value):
                yield Map([(key, changed), *rest])
            if not isinstance(key, Atom):
                for changed in _mutations(key):
                    yield Map([(changed, value), *rest])


def test_state_of_another_mode_is_malformed():
    """A BEAM's shard ends at a heartbeat with a full state, and at an answer with a delta beside values."""
    pub, kind, ref, state, clocks = checked_term(MESSAGES["heartbeat"])
    normal = Map([*state.items(), (Atom("mode"), Atom("normal"))])
    for wrong in ((pub, kind, ref, normal, clocks), (pub, Atom("transfer_ack"), 1, ref, (state, Map()))):
        with pytest.raises(Malformed, match="mode"):
            parse_message(wrong)


def test_cloud_with_tags_of_another_replica_is_malformed():
    pub, kind, ref, state, clocks = checked_term(MESSAGES["heartbeat"])
    (cloud,) = state[Atom("clouds")].values()
    moved = Map([*state.items(), (Atom("clouds"), Map({(PY, 5): cloud}))])
    with pytest.raises(Malformed, match="its own replica"):
        parse_message((pub, kind, ref, moved, clocks))


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat((A, -1), None, {}),
        Heartbeat(REF, None, {REF: "7"}),
        Heartbeat(REF, Delta({(REF, 6): Entry(b"no pid", b"lobby", b"k", Map())}, CLOUDS), {REF: 6}),
        Heartbeat(REF, Delta({(REF, 6): Entry(PID, b"lobby", b"k", [])}, CLOUDS), {REF: 6}),
        Heartbeat(REF, Delta({}, {REF: {0}}), {REF: 6}),
        TransferAnswer(7, REF, FullState({REF: 2}, {}, {(REF, 6): (PID, "lobby")})),
        GracefulPermdown(A),
    ],
    ids=["vsn", "clock", "pid", "meta", "tag", "values", "permdown"],
)
def test_malformed_message_is_not_sent(message):
    with pytest.raises(Malformed):
        checked_term(message)


@pytest.mark.parametrize(
    "term", [b"x", (), (Atom("pub"),), (Atom("pub"), Atom("other"), 1), (Atom("x"), 1, 2)], ids=repr
)
def test_other_messages_on_the_topic_are_ignored(term):
    book = ShardBook((PY, 5), TrackerSettings(), 0.0, speaks=True, make_id=lambda: 1)

    assert parse_message(term) is None
    assert book.receive(term, 1.0, lambda _: True) == []
    assert book.counts.malformed == 0


def test_names_of_shards_and_topics_are_those_of_elixir():
    shard = shard_name(Atom("Elixir.MyTracker"), 3)

    assert shard == Atom("Elixir.MyTracker_shard3")
    assert shard_topic(shard) == "phx_presence:Elixir.MyTracker_shard3"
