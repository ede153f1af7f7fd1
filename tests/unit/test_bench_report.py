"""The tables, verdicts and the chart of ``make bench``, from given numbers."""

import json
from xml.etree import ElementTree as ET

import pytest

from bench.chart import chart
from bench.contenders import ROOT, parse_contenders
from bench.page import BEGIN, END, has_section, update_page
from bench.report import result, spread_table, summary, table, to_json, verdict, verdict_text
from bench.rows import ROWS, cpu_key

MACHINE = {
    "date": "2026-11-30",
    "otp": "25",
    "python": "3.11",
    "processor": "a processor",
    "cores": 2,
    "load_before": [0.5],
    "scale": 0.5,
}


def row(key):
    (found,) = (row for row in ROWS if row.key == key)
    return found


def rounds_of(key, beam, ours, beam_cpu=None, ours_cpu=None):
    """One round with one row."""
    return {
        "beam": [{key: beam} | ({} if beam_cpu is None else {cpu_key(key): beam_cpu})],
        "native": [{key: ours} | ({} if ours_cpu is None else {cpu_key(key): ours_cpu})],
    }


def text(key, *numbers):
    return verdict_text(result(rounds_of(key, *numbers), "native", row(key)))


def test_a_rate_meets_its_line_and_its_aim():
    assert text("received", 100, 150) == "met, aim"
    assert text("received", 100, 120) == "met"
    assert text("received", 100, 119) == "missed"


def test_the_cpu_time_decides_if_a_rate_misses_its_line():
    assert text("received", 100, 60, 1.2, 1.0) == "met by CPU"
    assert text("received", 100, 60, 1.2, 1.1) == "missed"


def test_the_cpu_time_decides_for_the_time_of_many_operations_too():
    assert text("learn", 10, 20, 1.0, 0.6) == "met by CPU"
    assert text("learn", 10, 20, 1.0, 0.7) == "missed"


def test_a_time_meets_its_line_only_by_itself():
    assert text("trip1 p50", 10, 11, 1.0, 1.0) == "met"
    assert text("trip1 p50", 10, 12, 1.0, 0.1) == "missed"


def test_erpc_is_decided_by_the_cpu_time_alone():
    assert text("erpc coroutine", 100, 1, 10, 15) == "met"
    assert text("erpc coroutine", 100, 900, 10, 16) == "missed"


def test_an_absolute_row_needs_no_beam():
    only_ours = {"beam": [{}], "native": [{"import": 54.0}]}

    assert verdict(result(only_ours, "native", row("import"))).met
    assert verdict_text(result({"beam": [{}], "native": [{"import": 56.0}]}, "native", row("import"))) == "missed"


def test_a_row_without_a_line_has_no_verdict():
    assert text("bare", 100, 1) == ""


def test_numbers_are_medians_and_a_ratio_is_that_of_the_medians():
    rounds = {
        "beam": [{"received": value} for value in (10, 20, 90)],
        "native": [{"received": value} for value in (30, 500, 40)],
    }

    one = result(rounds, "native", row("received"))

    assert vars(one.value) == {"median": 40, "least": 30, "most": 500}
    assert one.ratio == 2.0


def test_the_summary_names_the_missed_rows_worst_first():
    rounds = {
        "beam": [{"received": 100, "trip1 p50": 10}],
        "native": [{"received": 60, "trip1 p50": 12, "import": 20}],
    }

    missed, lines = summary(rounds, "native")

    assert lines == 3
    assert missed == [
        "small messages received: 0.60, must be ≥ 1.20; a factor of 2.00",
        "round trip, one core, median: 1.20, must be ≤ 1.10; a factor of 1.09",
    ]


def test_the_table_has_a_line_for_each_measured_row():
    rounds = rounds_of("received", 100_000, 150_000, 2.0, 1.0)

    heading, line = table(rounds, "native").splitlines()

    assert heading.split() == ["beam", "native", "ratio", "CPU", "line"]
    assert line.split()[3:] == ["1/s", "100,000", "150,000", "1.50", "0.50", "≥", "1.20", "met,", "aim"]
    assert "100,000 - 100,000" in spread_table(rounds)


def test_the_json_has_the_rounds_and_the_verdicts():
    rounds = rounds_of("received", 100, 60, 1.2, 1.0)

    document = json.loads(to_json(rounds, MACHINE, ["a failure"]))

    (only,) = document["rows"]
    assert only["contenders"]["native"]["verdict"] == "met by CPU"
    assert (document["rounds"], document["failures"]) == (rounds, ["a failure"])


def test_a_shorter_time_is_a_bar_to_the_right_of_the_line_of_the_beam():
    rounds = {
        "beam": [{"received": 100, "trip1 p50": 10}],
        "native": [{"received": 50, "trip1 p50": 5}],
    }

    tree = ET.fromstring(chart(rounds, MACHINE))

    texts = [each.text for each in tree.iter("{http://www.w3.org/2000/svg}text")]
    bars = [each for each in tree.iter("{http://www.w3.org/2000/svg}rect") if each.get("height") != "10"]
    (beam,) = (line for line in tree.iter("{http://www.w3.org/2000/svg}line") if line.get("class") == "beam")
    slower, faster = bars
    assert {"0.50", "2.00"} <= set(texts)
    assert float(slower.get("x")) < float(beam.get("x1")) == float(faster.get("x"))


def test_a_page_gets_the_table_between_its_two_comments(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    update_page(page, rounds_of("received", 100, 150, 2.0, 1.0), MACHINE)

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| small messages received | 100 1/s | 1.50× | 0.50 |" in text
    assert "0.5 times the numbers of messages" in text
    assert "old" not in text


def test_a_page_without_the_comments_has_no_section(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text")

    assert not has_section(page)
    assert has_section(ROOT / "docs" / "explanation" / "performance.md")


def test_contenders_are_read_from_a_list_and_a_beam_is_always_one():
    found = parse_contenders("pure,native-uvloop,pure+metrics")

    assert [contender.name for contender in found] == ["beam", "pure", "native-uvloop", "pure+metrics"]
    assert [contender.options for contender in found] == [(), (), (), ("metrics",)]


@pytest.mark.parametrize("wrong", ["fast", "pure-trio", "pure@/nowhere"])
def test_an_unknown_contender_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=wrong):
        parse_contenders(wrong)
