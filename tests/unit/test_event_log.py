"""Log records with an event and fields, and the same as lines of JSON."""

import json
import logging
import math
import re
import sys
from pathlib import Path

import pytest

from erlmesh.json_log import MAX_TEXT, JsonFormatter
from erlmesh.log_events import EVENTS
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms import Atom, Pid
from erlmesh.terms.foreign_text import MAX_LENGTH
from erlmesh.terms.node_numbers import claim_local, release_local
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

ROOT = Path(__file__).parent.parent.parent
log = event_log("erlmesh.test")


@pytest.fixture(autouse=True)
def _all_levels(caplog):
    caplog.set_level(logging.DEBUG, "erlmesh")


def test_a_record_has_its_event_its_fields_and_the_place_of_the_call(caplog):
    log.warning("peer_down", "lost %s", "a@h", peer="a@h", seconds=1.5, reason=None)

    (record,) = caplog.records
    assert (record.getMessage(), record.event, record.peer, record.seconds) == ("lost a@h", "peer_down", "a@h", 1.5)
    assert not hasattr(record, "reason")
    assert (record.filename, record.funcName) == (Path(__file__).name, sys._getframe().f_code.co_name)


def test_a_peer_log_names_its_caller_too_and_counts_what_it_leaves_out(caplog):
    peer_log = PeerLog(log)

    for _ in range(10):
        peer_log.write(logging.INFO, "peer_up", "a@h", "connected with %s", "a@h")
    peer_log._rate._peers.get(("connected with %s", "a@h")).lines = 1.0
    peer_log.write(logging.INFO, "peer_up", "a@h", "connected with %s", "a@h")
    peer_log.debug("message_ignored", "ignored %s", 1)

    assert {record.filename for record in caplog.records} == {Path(__file__).name}
    assert [getattr(record, "left_out", 0) for record in caplog.records] == [0, 0, 0, 0, 0, 5, 0]
    assert [getattr(record, "peer", None) for record in caplog.records] == ["a@h"] * 6 + [None]


def test_an_address_is_no_peer_and_a_given_peer_wins(caplog):
    peer_log = PeerLog(log)

    peer_log.write(logging.INFO, "connection_refused", "10.0.0.1", "refused")
    peer_log.write(logging.INFO, "connection_refused", "10.0.0.1", "refused", peer="b@h")

    assert [getattr(record, "peer", None) for record in caplog.records] == [None, "b@h"]


def test_the_node_is_that_of_the_pid_or_the_only_one(caplog):
    a, b = Atom("only-a@h"), Atom("only-b@h")

    claim_local(a)
    try:
        log.info("node_up", "one node")
        log.info("process_failed", "a process", pid=Pid(b, 5, 0, 1))
        claim_local(b)
        log.info("node_up", "two nodes")
    finally:
        release_local(a)
        release_local(b)

    assert [getattr(record, "node", None) for record in caplog.records] == ["only-a@h", "only-b@h", None]


class Untouchable:
    """Whoever looks at it fails the test."""

    def __str__(self):
        raise AssertionError("it was formatted")

    __repr__ = __str__

    def bit_length(self):
        raise AssertionError("it was looked at")


def test_nothing_is_made_while_the_level_is_off(caplog):
    caplog.set_level(logging.ERROR, "erlmesh")

    log.warning("peer_down", "%s", Untouchable(), peer=Untouchable())
    PeerLog(log).write(logging.INFO, "peer_down", "a@h", "%s", Untouchable(), peer=Untouchable())

    assert caplog.records == []


def test_fields_of_others_are_printable_and_short(caplog):
    log.info("unknown_call", "x", request=("\x1b[31m\u202e" * 500, 1 << 100_000), peer="a\n@h", count=1 << 100_000)

    (record,) = caplog.records
    for text in (record.request, record.peer, record.count):
        assert isinstance(text, str)
        assert text.isprintable()
        assert len(text) <= MAX_LENGTH + 1


# JSON


def as_json(record):
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    return json.loads(line)


def test_a_record_is_a_line_of_json(caplog):
    log.warning("peer_down", "lost %s", "a\n\u202e@h", peer="a@h", node="b@h", seconds=1.5)

    line = as_json(caplog.records[0])

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "erlmesh.test",
        "event": "peer_down",
        "node": "b@h",
        "peer": "a@h",
        "message": "lost a\n\u202e@h",
        "seconds": 1.5,
    }


def test_a_record_of_a_program_keeps_its_own_fields(caplog):
    logging.getLogger("erlmesh.theirs").error(
        "x" * (MAX_TEXT + 5), extra={"order": 7, "ratio": float("nan"), "what": object(), "message_id": "m\x00"}
    )

    line = as_json(caplog.records[0])

    assert (line["order"], line["ratio"], line["what"], line["message_id"]) == (7, "nan", "<object>", "m\x00")
    assert len(line["message"]) == MAX_TEXT
    assert "event" not in line


class WithoutText(str):
    """A text whose methods fail."""

    __slots__ = ()

    def __getitem__(self, key):
        raise ValueError


class WithoutRepr:
    def __repr__(self):
        raise ValueError


@pytest.mark.parametrize(
    "value",
    ["\ud800", "\x00\n\u2028", b"\xff", math.nan, 10**5000, {"a": 1}, [1] * 10**5, WithoutText("a"), WithoutRepr()],
    ids=lambda value: type(value).__name__,
)
def test_a_field_of_any_type_is_one_line_of_json(value):
    line = JsonFormatter().format(logging.makeLogRecord({"msg": "\ud800\n\x1b[0m", "field": value}))

    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 70_000
    assert {*json.loads(line)} == {"time", "level", "logger", "message", "field"}


def test_an_exception_is_a_field(caplog):
    try:
        raise ValueError("no\nlines")
    except ValueError:
        log.exception("callback_failed", "it failed")

    line = as_json(caplog.records[0])

    assert line["level"] == "error"
    assert line["exception"].endswith("ValueError: no\nlines")


# The catalogue


def calls_of_the_source(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    from log_calls import log_calls

    return log_calls()


def test_every_log_call_has_an_event_of_the_list_and_the_list_has_no_other(monkeypatch):
    calls = calls_of_the_source(monkeypatch)

    assert [call.place for call in calls if call.event not in EVENTS] == []
    assert set(EVENTS) - {call.event for call in calls} == set()


def test_every_log_call_has_as_many_arguments_as_its_message_needs(monkeypatch):
    wrong = [
        call.place
        for call in calls_of_the_source(monkeypatch)
        if call.message is not None
        and not call.is_partial
        and len(re.findall(r"%[^%]", call.message.replace("%%", ""))) != call.arguments
    ]

    assert wrong == []


def test_no_module_writes_to_a_logger_of_logging_itself():
    """A module that only adds a handler to a logger may get it from ``logging``."""
    found = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "src" / "erlmesh").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.match(r"(\w+(: \w+)? = |.*PeerLog\()logging\.getLogger\(", line)
        or re.search(r"\b(logging|getLogger\([^)]*\))\.(debug|info|warning|error|exception|critical)\(", line)
    ]

    assert found == [], "use erlmesh.net.event_log.event_log, and name the event in erlmesh.log_events"


def test_the_table_of_events_is_current(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import docs_log_events

    assert docs_log_events.TARGET.read_text() == docs_log_events.page(), "run `make docs-tables`"


def test_no_field_has_the_name_of_an_attribute_of_records(monkeypatch):
    standard = {*logging.LogRecord("", 0, "", 0, None, None, None).__dict__, "message", "asctime", "event"}

    assert [call.place for call in calls_of_the_source(monkeypatch) if standard & {*call.fields}] == []


# Nodes


def test_a_connection_is_up_and_down_with_its_fields(caplog):
    async def main():
        async with Cluster(1) as cluster:
            a, b = await cluster.mesh(2)
            cluster.reset(a, b)
            await cluster.wait_until(lambda: not a.nodes())
            return a.name, b.name

    a, b = run(main)

    events = [
        (record.event, record.node, record.peer, getattr(record, "reason", None))
        for record in caplog.records
        if getattr(record, "event", "") in ("peer_up", "peer_down") and record.node == a
    ]
    assert events[:2] == [("peer_up", a, b, None), ("peer_down", a, b, "connection_closed")]
