"""What the page of the map keeps, and the recordings that it reads: its modules without a document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scenes import event, group, link, mesh, report, snapshot

A, B = "a@h", "b@h"

HISTORY = """async ([messages, question]) => {
    const { History } = await import("/static/history.js");
    const history = new History(question.options);
    for (const [type, data, at] of messages) history.add(type, data, at);
    const at = (time) => [...history.reportsAt(time)].map(([name, report]) => [name, report.alive]);
    return { states: question.times.map(at), start: history.start, end: history.end, size: history.size,
             lines: history.lines().map(JSON.parse), events: history.eventsUntil(question.times.at(-1)).length };
}"""


@pytest.fixture
def remember(modules: Any) -> Any:
    """``remember(messages, times)`` is what a history says of these times."""
    return lambda messages, times, **options: modules.evaluate(
        HISTORY, [messages, {"times": times, "options": options}]
    )


def test_each_moment_can_be_shown_again(remember):
    messages = [
        ("snapshot", snapshot([report(A), report(B)]), 10),
        ("report", {"report": report(B, alive=False)}, 20),
        ("gone", {"node": B}, 30),
        ("report", {"report": report(B)}, 40),
    ]

    said = remember(messages, [9, 10, 25, 35, 45])

    both, lost = [[A, True], [B, True]], [[A, True], [B, False]]
    assert said["states"] == [[], both, lost, [[A, True]], both]


def test_a_snapshot_after_a_reconnect_replaces_all_and_repeats_no_event(remember):
    happened = event("node_up", "b@h is up")
    messages = [
        ("snapshot", snapshot([report(A), report(B)], [happened]), 10),
        ("snapshot", snapshot([report(A)], [happened]), 20),
    ]

    said = remember(messages, [happened["time"]])

    assert said["events"] == 1
    assert [name for name, _ in remember(messages, [25])["states"][0]] == [A]


def test_a_report_without_groups_keeps_those_before(remember):
    first = report(A, groups=[group("workers", ("<0.9.0>", A))])
    fast = {key: value for key, value in report(A, processes=41).items() if key not in ("groups", "names", "shards")}

    said = remember([("snapshot", snapshot([first]), 10), ("report", {"report": fast}, 11)], [12])

    assert said["lines"][-1]["report"]["groups"] == first["groups"]
    assert said["lines"][-1]["report"]["processes"] == 41


def test_figures_alone_make_a_new_version_once_in_a_while(remember):
    messages = [("report", {"report": report(A, {B: link(silent=i)})}, 10 + i / 10) for i in range(100)]

    said = remember(messages, [25])

    assert 10 <= len(said["lines"]) <= 14


def test_a_change_of_state_is_always_kept(remember):
    states = ["up", "down"] * 20
    messages = [("report", {"report": report(A, {B: link(each)})}, 10 + i / 10) for i, each in enumerate(states)]

    said = remember(messages, [25])

    assert len(said["lines"]) == 40


def test_the_history_forgets_what_is_older_than_its_span(remember):
    messages = [("report", {"report": report(A, {B: link("up" if i % 2 else "down")})}, i) for i in range(200)]

    said = remember(messages, [199], span=60)

    assert said["start"] == 199 - 60
    assert len(said["lines"]) <= 62


def test_the_size_of_the_history_is_bounded(remember):
    peers = {f"n{i}@h": link() for i in range(10)}
    messages = [("report", {"report": report(A, {**peers, B: link(reason=str(i))})}, i) for i in range(100)]

    said = remember(messages, [99], budget=500)

    assert said["size"] <= 500
    assert [name for name, _ in said["states"][0]] == [A]


def test_a_saved_history_is_a_recording_with_the_same_states(modules):
    messages = [
        ("snapshot", snapshot(mesh([A, B])), 10),
        ("report", {"report": report(B, alive=False)}, 20),
        ("event", {"event": {**event("node_down", "b@h is down"), "time": 20}}, 20),
        ("gone", {"node": B}, 30),
    ]
    lines = modules.evaluate(
        """async (messages) => {
            const { History } = await import("/static/history.js");
            const history = new History();
            for (const [type, data, at] of messages) history.add(type, data, at);
            return history.lines();
        }""",
        messages,
    )

    read = modules.evaluate(
        """async (text) => {
            const { history } = (await import("/static/recording.js")).readRecording(text);
            const states = (time) => [...history.reportsAt(time).values()].map(({ alive }) => alive);
            return { states: [15, 25, 35].map(states), events: history.events.map(({ text }) => text) };
        }""",
        "\n".join(lines),
    )

    assert read == {"states": [[True, True], [True, False], [True]], "events": ["b@h is down"]}


HEAD = '{"schema": 1, "now": 1, "reports": {}, "events": []}\n'
HOSTILE_PARTS = [
    {"links": 5}, {"links": {"a@h": None}}, {"links": {"a@h": {"state": {}}}}, {"links": {B: link(reason={})}},
    {"groups": {}}, {"groups": [None]}, {"groups": [group("g", (1, A))]}, {"groups": [{"group": []}]},
    {"names": [1]}, {"names": {"n": {"pid": 1}}}, {"shards": {"s": None}},
    {"shards": {"s": {"holders": {"a@h": "0"}}}}, {"busy": 7}, {"busy": {"line": {}}}, {"node": {}}, {"time": "1"},
]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE_PARTS)
def test_a_hostile_report_in_a_recording_is_refused(modules, part):
    line = json.dumps({"at": 2, "type": "report", "report": {**report(A), **part}})

    assert problem_of(modules, HEAD + line) == "Line 2 has no report."


@pytest.mark.parametrize("part", [{"text": {}}, {"kind": 3}, {"observer": None}, {"time": "x"}])
def test_a_hostile_event_in_a_recording_is_refused(modules, part):
    line = json.dumps({"at": 2, "type": "event", "event": {**event("node_up", "a"), **part}})

    assert problem_of(modules, HEAD + line) == "Line 2 has no event."


def test_the_lines_of_a_long_recording_are_not_copied_for_each_line(modules):
    copied = modules.evaluate(
        """async (text) => {
            const { readRecording } = await import("/static/recording.js");
            const { slice } = Array.prototype;
            let copied = 0;
            Array.prototype.slice = function (...range) {
                const part = slice.apply(this, range);
                copied += part.length;
                return part;
            };
            try { readRecording(text); } finally { Array.prototype.slice = slice; }
            return copied;
        }""",
        HEAD + '{"at": 2, "type": "later version"}\n' * 1000,
    )

    assert copied < 1000


def problem_of(modules, text):
    return modules.evaluate(
        """async (text) => {
            const { readRecording } = await import("/static/recording.js");
            try { readRecording(text); return ""; } catch (error) { return error.message; }
        }""",
        text,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The file is empty."),
        ("{oops", "Line 1 is not a JSON object."),
        ("[1]", "Line 1 is not a JSON object."),
        ('{"at": 1, "type": "gone", "node": "a@h"}', "Line 1 is not a snapshot."),
        ('{"schema": 2, "at": 1, "type": "snapshot"}', "Line 1 has schema 2."),
        ('{"schema": 1, "at": 1, "type": "snapshot", "reports": [], "events": []}', "Line 1 has no reports."),
        ('{"schema": 1, "now": 1, "reports": {}, "events": []}\n{"at": 2, "type": "report"}', "Line 2 has no report."),
        ('{"schema": 1, "now": 1, "reports": {}, "events": []}\nrubbish\n{}', "Line 2 is not a JSON object."),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_the_line(modules, text, problem):
    assert problem_of(modules, text).startswith(problem)


def test_a_recording_that_was_cut_off_in_its_last_line_is_read(modules):
    text = '{"schema": 1, "now": 1, "reports": {}, "events": []}\n{"at": 2, "type": "rep'

    assert (
        modules.evaluate("async (text) => (await import('/static/recording.js')).readRecording(text).history.end", text)
        == 1
    )
