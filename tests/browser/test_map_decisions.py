"""What the page of the map decides from reports: its modules without a document, called in the browser."""

from __future__ import annotations

from typing import Any

import pytest
from scenes import beam, group, link, report

NOW = 1_000_000.0
A, B, C = "a@h", "b@h", "c@h"


@pytest.fixture
def call(modules: Any) -> Any:
    """``call("links.linkView", ...)`` calls a function of a module. A list of reports becomes a Map for ``reports``."""

    def call(function: str, *arguments: Any) -> Any:
        return modules.evaluate(
            """async ([module, name, parameters]) => {
                const found = (await import(`/static/${module}.js`))[name];
                const byNode = (reports) => new Map(reports.map((one) => [one.node, one]));
                const given = parameters.map((each) => each?.reports ? byNode(each.reports) : each);
                return found(...given);
            }""",
            [*function.split("."), list(arguments)],
        )

    return call


def reports(*entries: dict[str, Any], age: float = 1.0) -> dict[str, Any]:
    return {"reports": [{**entry, "time": NOW - age} for entry in entries]}


def link_of(call: Any, of_a: dict[str, Any] | None, of_b: dict[str, Any] | None, **fields: Any) -> Any:
    """The view of the pair a and b, whose reports have the given link, or none."""
    told = [
        report(A, {} if of_a is None else {B: of_a}, **fields),
        report(B, {} if of_b is None else {A: of_b}, **fields),
    ]
    return call("links.linkView", reports(*told), A, B, NOW)


@pytest.mark.parametrize(
    ("of_a", "of_b", "state"),
    [
        (link(), link(), "up"),
        (link(silent=40), link(), "silent"),
        (link(), link(slow=True, queued=26e6), "slow"),
        (link(silent=40), link(slow=True), "silent"),
        (link(slow=True), link("down"), "one-sided"),
        (link(), link("down"), "one-sided"),
        (link(), None, "one-sided"),
        (link("down"), link("reconnecting"), "reconnecting"),
        (link("connecting"), link("down"), "connecting"),
        (link("down"), None, "down"),
        (None, None, "absent"),
    ],
)
def test_a_connection_has_the_state_that_both_sides_say(call, of_a, of_b, state):
    assert link_of(call, of_a, of_b)["state"] == state


def test_a_one_sided_connection_names_the_side_that_has_it(call):
    assert link_of(call, link("down"), link())["seenBy"] == B
    assert call("links.troubleText", link_of(call, link("down"), link())) == "only b has it"


def test_a_slow_connection_names_the_node_that_reads_slowly_and_what_waits(call):
    found = link_of(call, link(), link(slow=True, queued=26e6))

    assert call("links.troubleText", found) == "a reads slowly: 26 MB wait"


def test_nothing_flows_on_a_connection_that_is_lost(call):
    told = {
        "reports": [
            {**report(A, {B: link("reconnecting", out=9e5)}), "time": NOW - 1},
            {**report(B, {A: link(**{"in": 9e5, "out": 9e5})}), "time": NOW - 60},
        ]
    }

    assert call("links.flowOf", call("links.linkView", told, A, B, NOW)) == [0, 0]
    assert call("links.flowOf", link_of(call, link(out=9e5), link(out=7))) == [900_000, 7]


def test_an_old_report_does_not_contradict_a_current_one(call):
    told = {
        "reports": [{**report(A, {B: link()}), "time": NOW - 1}, {**report(B, {A: link("down")}), "time": NOW - 60}]
    }

    assert call("links.linkView", told, A, B, NOW)["state"] == "up"


def test_silence_grows_between_reports_up_to_the_age_of_an_old_one(call):
    told = reports(report(A, {B: link(silent=29)}), report(B, {A: link()}), age=3)

    assert call("links.troubleText", call("links.linkView", told, A, B, NOW)) == "silent for 32 of 60 s"


def test_a_shorter_net_tick_time_makes_silence_a_fault_earlier(call):
    assert link_of(call, link(silent=2), link(), tick_time=4)["state"] == "silent"
    assert link_of(call, link(silent=2), link(), tick_time=60)["state"] == "up"


def test_the_countdown_of_the_next_attempt_runs_between_reports(call):
    told = reports(report(A, {B: link("reconnecting", next=7.5, attempt=3)}), age=2)

    assert call("links.troubleText", call("links.linkView", told, A, B, NOW)) == "reconnects in 6 s (attempt 3)"


def test_a_node_named_like_a_method_of_objects_is_no_connection(call):
    told = reports(report(A), report("constructor"))

    assert call("links.linkView", told, A, "constructor", NOW)["state"] == "absent"


def test_hidden_and_lost_nodes_are_not_expected_to_be_connected(call):
    told = reports(report(A), report(B, hidden=True), report(C, alive=False))

    assert call("links.linksToDraw", told, [A, B, C], NOW) == []


@pytest.mark.parametrize(
    ("fields", "age", "state", "warning"),
    [
        ({}, 1, "up", ""),
        ({}, 12, "old", "last report 12 s ago"),
        ({"alive": False}, 1, "gone", "gone"),
        ({"source": "none"}, 1, "unknown", ""),
        (
            {"busy": {"for": 2, "since": NOW - 3, "line": "/srv/my app/app.py:7 in f", "gil": False}},
            5,
            "busy",
            "busy 3 s: app.py:7 in f",
        ),
        ({"busy": {"for": 2, "line": "a.py:7", "gil": False}}, 1, "busy", "busy 2 s: a.py:7"),
        ({"busy": {"for": 2, "line": "", "gil": True}}, 0, "busy", "busy 2 s (holds the GIL)"),
    ],
)
def test_a_node_shows_the_worst_that_is_known_of_it(call, fields, age, state, warning):
    view = call("nodes.nodeView", A, {**report(A, **fields), "time": NOW - age}, NOW)

    assert (view["state"], view["warning"]) == (state, warning)


def test_the_badge_says_python_or_the_otp_release(call):
    badges = [call("nodes.nodeView", A, each, NOW)["badge"] for each in (report(A), beam(A), beam(A, hidden=True))]

    assert badges == ["Python · native", "BEAM · OTP 25", "BEAM · OTP 25 · hidden"]


def test_the_same_names_have_the_same_places(call):
    places = call("layout.places", 4)

    assert places == call("layout.places", 4)
    assert [(place["x"], place["y"]) for place in places] == [(0, -355), (355, 0), (0, 355), (-355, 0)]


def test_all_lines_of_a_label_are_inside_the_area(call):
    sizes, (_, _, bottom, _) = call("layout.sizesFor", 4), call("layout.places", 4)
    height = 4 * 1.15 * sizes["font"]

    middle = bottom["y"] + call("layout.insideArea", 28, bottom, height)

    assert middle + height / 2 <= 450
    assert call("layout.insideArea", 0, {"x": 0, "y": 0}, height) == 0


def test_ten_nodes_have_none_at_the_top_where_its_label_would_reach_the_next(call):
    places = call("layout.places", 10)

    assert [place["x"] for place in (places[0], places[-1])] == [117.4, -117.4]


def test_members_are_listed_by_node_with_their_duplicates(call):
    workers = group("workers", ("<0.9.0>", A), ("<0.8.0>", B))
    workers["members"][0]["count"] = 2

    (table,) = call("groups.groupTable", reports(report(A, groups=[workers])), {"now": NOW})

    assert (table["total"], table["duplicates"]) == (3, 1)
    assert [(row["node"], [member["pid"] for member in row["members"]]) for row in table["nodes"]] == [
        (A, ["<0.9.0>"]),
        (B, ["<0.8.0>"]),
    ]


def test_a_member_that_one_node_does_not_see_is_marked(call):
    told = reports(
        report(A, groups=[group("g", ("<0.9.0>", A), ("<0.8.0>", B))]), report(B, groups=[group("g", ("<0.8.0>", B))])
    )

    (table,) = call("groups.groupTable", told, {"now": NOW})

    assert {member["pid"]: member["unseenBy"] for row in table["nodes"] for member in row["members"]} == {
        "<0.9.0>": [B],
        "<0.8.0>": [],
    }
    (as_b,) = call("groups.groupTable", told, {"now": NOW, "observer": B})
    assert as_b["total"] == 1


def test_a_member_keeps_its_name_while_the_report_of_its_node_is_old(call):
    named = group("g", ("<0.9.0>", B))
    named["members"][0]["name"] = "sink"
    told = {
        "reports": [
            {**report(A, groups=[group("g", ("<0.9.0>", B))]), "time": NOW - 1},
            {**report(B, groups=[named]), "time": NOW - 60},
        ]
    }

    (table,) = call("groups.groupTable", told, {"now": NOW})

    assert table["nodes"][0]["members"][0]["name"] == "sink"


def test_a_cut_list_of_members_does_not_say_that_one_is_missing(call):
    told = reports(report(A, groups=[group("g", ("<0.9.0>", A))]), report(B, groups=[group("g", more=300)]))

    (table,) = call("groups.groupTable", told, {"now": NOW})

    assert table["total"] == 301
    assert table["nodes"][0]["members"][0]["unseenBy"] == []


def test_the_filter_finds_groups_by_name_node_and_pid(call):
    told = reports(report(A, groups=[group("orders", ("<0.9.0>", B)), group("mail", ("<0.7.0>", C))]))

    found = [
        [table["group"] for table in call("groups.groupTable", told, {"now": NOW, "filter": text})]
        for text in ("ORD", "c@h", "0.9", "none")
    ]

    assert found == [["orders"], ["mail"], ["orders"], []]


def test_shards_have_one_owner_none_or_a_conflict(call):
    shards = {"orders": {"count": 4, "holders": {A: [0, 1], B: [1]}, "taking": [3]}}

    (table,) = call("groups.shardTable", reports(report(A, shards=shards)), {"now": NOW})

    assert [cell["state"] for cell in table["cells"]] == ["owned", "conflict", "free", "taking"]
    assert table["load"] == [{"node": A, "count": 2}, {"node": B, "count": 1}]


def test_a_name_that_nodes_give_to_two_processes_has_two_holders(call):
    told = reports(
        report(A, names={"leader": {"pid": "<0.9.0>", "node": A}}),
        report(B, names={"leader": {"pid": "<0.8.0>", "node": B}}),
    )

    (name,) = call("groups.nameTable", told, {"now": NOW})

    assert [holder["node"] for holder in name["holders"]] == [A, B]


def test_the_summary_counts_what_is_wrong(call):
    nodes = [{"name": str(i), "state": state} for i, state in enumerate(("up", "up", "gone", "busy"))]
    links = [{"a": "0", "b": "1", "state": each} for each in ("up", "one-sided", "down", "silent", "silent", "slow")]
    links.append({"a": "0", "b": "2", "state": "down"})  # of the node that is gone

    assert [part["text"] for part in call("summary.summaryOf", nodes, links)] == [
        "3 nodes", "1 gone", "1 busy", "1 connection one-sided", "2 connections silent",
        "1 connection slow", "1 connection down",
    ]  # fmt: skip
    assert [part["text"] for part in call("summary.summaryOf", nodes[:2], links[:1])] == ["2 nodes", "all connected"]


def test_nodes_that_were_never_connected_are_not_said_to_have_lost_a_connection(call):
    nodes = [{"name": name, "state": "up"} for name in "abc"]
    links = [{"a": "a", "b": "b", "state": "absent"}, {"a": "a", "b": "c", "state": "down"}]

    texts = [part["text"] for part in call("summary.summaryOf", nodes, links)]

    assert texts == ["3 nodes", "1 connection down", "1 pair not connected"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (12.2, "12 s"), (59.7, "1 min"), (185, "3 min 5 s"), (7440, "2 h 4 min"), (442800, "5 d 3 h")],
)
def test_a_duration_has_at_most_two_units(call, seconds, text):
    assert call("text.duration", seconds) == text


def test_bytes_have_a_unit_that_fits(call):
    assert [call("text.bytes", amount) for amount in (0, 312, 4100, 999_700, 25e6)] == [
        "0 B", "312 B", "4.1 kB", "1.0 MB", "25 MB",
    ]  # fmt: skip
