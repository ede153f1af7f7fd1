"""The tables of ``erlmesh top``: their rows, their order, their text, and the keys."""

import re
from pathlib import Path

import pytest

from erlmesh import Atom, Pid
from erlmesh.cli.top_view import TopView
from erlmesh.core.cluster_view.cluster import ClusterView
from erlmesh.core.cluster_view.processes import ProcessRow, beam_row, etop_row, sample
from erlmesh.core.cluster_view.tables import TABLES, cell_text, make_table, sorted_rows
from erlmesh.core.cluster_view.texts import columns_of, fitting

ROOT = Path(__file__).parent.parent.parent
A, B = "a@10.0.0.1", "b@10.0.0.2"
PID = Pid(Atom(A), 64, 0, 7)


def row(pid="<0.1.0>", messages=0, memory=None, reductions=None):
    return ProcessRow(pid, None, "m:f/1", "m:f/1", messages, memory, reductions)


def link(**values):
    return {
        "state": "up", "silent": 1.0, "bytes_in": 0, "bytes_out": 0, "queued": 0, "suspended": False, "hidden": False,
        "reason": None, "attempt": None, "next": None, **values,
    }  # fmt: skip


def view(**values):
    return {
        "kind": "python", "otp": None, "version": "1", "build": None, "hidden": False, "creation": 1, "uptime": 1.0,
        "processes": 3, "tick_time": 60.0, "links": {}, "partial": None, "groups": [], "more_groups": 0, "names": {},
        "shards": {}, **values,
    }  # fmt: skip


def group(*pids):
    members = [{"pid": pid, "node": A, "name": None, "count": 2} for pid in pids]
    return {"scope": "pg", "group": "g", "members": members, "more": 0}


def reports(**views):
    cluster = ClusterView("me@10.0.0.9", is_member=False)
    for name, each in views.items():
        full = {"a": A, "b": B}[name]
        cluster.node_up(full, 100.0)
        cluster.put_view(full, each, "push", 100.0)
    return cluster.reports()


def test_rates_are_differences_per_second():
    before = sample(None, 10.0, 1, [row(reductions=100)], 1000)
    after = sample(before, 12.0, 1, [row(reductions=500), row("<0.2.0>", reductions=9)], 2000)

    assert (before.cpu, before.rows[0].rate) == (None, None)
    assert after.cpu == 50.0
    assert {each.pid: each.rate for each in after.rows} == {"<0.1.0>": 200.0, "<0.2.0>": None}


def test_a_sample_keeps_the_processes_that_stand_out():
    rows = [row(f"<0.{number}.0>", messages=number, memory=-number + 5000) for number in range(3000)]

    kept = {each.pid for each in sample(None, 1.0, 3000, rows, None).rows}

    assert {"<0.2999.0>", "<0.0.0>"} <= kept
    assert len(kept) <= 600


def test_rows_of_both_kinds_of_node_are_read():
    etop = (Atom("etop_proc_info"), PID, 3000, 0, Atom("worker"), 0, (Atom("m"), Atom("f"), 2), 5)
    items = [(Atom("registered_name"), []), (Atom("current_function"), (Atom("m"), Atom("f"), 2)),
             (Atom("message_queue_len"), 5), (Atom("reductions"), 9)]  # fmt: skip

    assert etop_row(etop) == ProcessRow("<0.64.0>", "worker", "", "m:f/2", 5, 3000, None)
    assert beam_row(PID, items) == ProcessRow("<0.64.0>", None, "", "m:f/2", 5, None, 9)


@pytest.mark.parametrize("wrong", [Atom("undefined"), [], (), (Atom("etop_proc_info"), 1), [(1, 2)], "text", -1])
def test_a_row_that_is_none_is_left_out_or_empty(wrong):
    assert etop_row(wrong) is None
    found = beam_row(PID, wrong)
    assert found is None or (found.messages, found.name, found.memory) == (0, None, None)
    assert beam_row(wrong, []) is None


def test_texts_of_other_nodes_are_printable():
    found = etop_row((Atom("etop_proc_info"), PID, 1, 0, Atom("\x1b[2J"), 0, (Atom("m\n"), Atom("f"), 2), 5))

    assert (found.name + found.waits_in).isprintable()


def test_a_node_row_says_what_is_wrong_with_it():
    found = reports(a=view(links={B: link(), "c@10.0.0.3": link(state="down")}), b=view(kind="beam", otp="25"))
    found[B] = {**found[B], "busy": {"for": 7.0, "line": "x.py:3 in f", "gil": False}}

    first, second = make_table("nodes", found, {A: sample(None, 101.0, 9, [row(messages=4)], None)}, 103.0)

    assert (first["state"], first["age"], first["links"], first["processes"], first["messages"]) == ("up", 3.0, 1, 9, 4)
    assert (second["state"], second["version"]) == ("blocked for 7 s at x.py:3 in f", "OTP 25")


def test_the_silence_of_a_link_grows_with_the_age_of_its_report():
    (found,) = make_table("links", reports(a=view(links={B: link(queued=5, suspended=True)}), b=view()), {}, 103.0)

    assert (found["node"], found["peer"], found["silent"], found["queued"]) == (A, B, 4.0, 5)
    assert found["state"] == "up, suspended"


def test_a_group_that_nodes_see_differently_says_so():
    same = make_table(
        "groups", reports(a=view(groups=[group("<0.1.0>")]), b=view(groups=[group("<0.1.0>")])), {}, 100.0
    )
    differ = make_table("groups", reports(a=view(groups=[group("<0.1.0>")]), b=view(groups=[group()])), {}, 100.0)

    assert [(each["members"], each["nodes"], each["seen_by"], each["views"]) for each in same] == [
        (2, 1, 2, "the same")
    ]
    assert [each["views"] for each in differ] == ["differ"]


def test_numbers_sort_from_the_largest_and_unknown_ones_come_last():
    messages = next(column for column in TABLES[2].columns if column.key == "messages")
    rows = [{"messages": number} for number in (1, None, 7, 3)]

    assert [each["messages"] for each in sorted_rows(rows, messages, reverse=False)] == [7, 3, 1, None]
    assert [each["messages"] for each in sorted_rows(rows, messages, reverse=True)] == [1, 3, 7, None]
    name = TABLES[2].columns[2]
    rows = [{"name": text} for text in ("b", None, "a")]
    assert [each["name"] for each in sorted_rows(rows, name, reverse=False)] == ["a", "b", None]
    assert [each["name"] for each in sorted_rows(rows, name, reverse=True)] == ["b", "a", None]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "count", ""), ("x", "text", "x"), (5, "count", "5"), (1500, "bytes", "2 kB"), (900, "rate", "900 B/s"),
        (119, "seconds", "119 s"), (120, "seconds", "2 min"), (7300, "seconds", "2 h"), (200000, "seconds", "2 d"),
        (12.4, "percent", "12 %"), (1e15, "bytes", "1000 TB"),
    ],
)  # fmt: skip
def test_values_are_printed_with_their_units(value, kind, text):
    assert cell_text(value, kind) == text


def test_keys_choose_the_table_its_order_and_its_rows():
    top = TopView("nodes")

    assert top.press("p")
    assert top.name == "processes"
    rows = [{column.key: None for column in top.shape.columns} | {"messages": n, "memory": -n} for n in range(30)]
    assert top.sorted("processes", rows)[0]["messages"] == 29
    assert top.press(">")
    assert top.press("right")
    assert top.sorted("processes", rows)[0]["memory"] == 0
    assert top.press("r")
    assert top.sorted("processes", rows)[0]["memory"] == -29
    for key in ("pagedown", "down", "down", "up"):
        assert top.press(key, page=10)
    assert top.offset == 11
    top.clamp(15, 10)
    assert top.offset == 5
    assert top.press("home")
    assert top.offset == 0
    assert top.press(" ")
    assert top.is_paused
    assert top.press("x")
    assert not top.press("q")


def test_wide_letters_and_marks_do_not_move_the_columns():
    rows = make_table("groups", reports(a=view(groups=[group("<0.1.0>")])), {}, 100.0)
    rows = [{**rows[0], "group": name} for name in ("日本語", "e\u0301\u0301", "g" * 60, "日" * 60)]

    lines = TopView("groups").lines("groups", rows)

    assert {columns_of(line[: line.index("the same")]) for line in lines[1:]} == {lines[0].index("views")}
    assert fitting("日本語", 3) == "日"
    assert fitting("e\u0301x", 1) == "e\u0301"
    assert fitting("abc", -1) == ""


def test_the_guide_lists_the_keys_of_each_table():
    text = (ROOT / "docs" / "howto" / "watching.md").read_text()
    row = make_table("nodes", reports(a=view()), {}, 100.0)[0]
    keys = {shape.name: [column.key for column in shape.columns] for shape in TABLES}
    keys["nodes"] = [*row]

    for name, names in keys.items():
        (line,) = re.findall(rf"^\| `{name}` \| (.*) \|$", text, re.MULTILINE)
        assert re.findall(r"`(\w+)`", line) == names


def test_a_wrong_column_is_an_error_that_lists_the_columns():
    with pytest.raises(ValueError, match="the table of links has no column cpu: it has node, peer, state"):
        TopView("links").sort_by("cpu")


def test_lines_are_aligned_and_mark_the_order():
    rows = make_table("groups", reports(a=view(groups=[group("<0.1.0>")])), {}, 100.0)

    assert TopView("groups").lines("groups", rows, mark_order=True) == [
        "scope  group  members*  nodes  seen by  views",
        "pg     g             2      1        1  the same",
    ]
