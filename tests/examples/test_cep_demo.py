"""The demo of examples/cep: a short run with real processes, and what its parts print and draw."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from cep.app import SYMBOLS
from cep.demo.chart import ChartUnavailable, draw
from cep.demo.comparison import compare
from cep.demo.observer import Observer
from cep.demo.record import Record
from cep.demo.scenes import Story
from cep.pattern import Pattern, down, up
from cep.symbol import Settings
from cep.window import Tick, Timed

from erlmesh import Atom

EXAMPLES = Path(__file__).parents[2] / "examples"


def start_demo(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "cep.demo", "--out", str(folder), "--patience", "10", *arguments],
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent / "src"), "PYTHONUNBUFFERED": "1"},
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(folder):
    """The processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if str(folder).encode() in path.read_bytes() else []
    return found


def test_a_short_demo_passes_all_of_its_checks(tmp_path):
    with_elixir = shutil.which("elixir") is not None
    assert with_elixir or os.environ.get("CI") != "true"

    with start_demo(tmp_path, "--short", "-v", *(["--scene", "elixir"] if with_elixir else [])) as demo:
        output = demo.stdout.read()

    assert demo.returncode == 0, output
    assert f"All {14 if with_elixir else 13} checks passed" in output
    assert "0 without a final mean" in output
    assert ("600 ticks of 3 symbols: their final means are the oracle's" in output) == with_elixir
    assert (tmp_path / "cep-demo.svg").stat().st_size > 10_000
    assert (tmp_path / "cep-demo.png").read_bytes().startswith(b"\x89PNG")
    assert len(Record.read(tmp_path / "cep-demo.json").scenes) == 5 + with_elixir


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(tmp_path, number, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_demo(tmp_path, "--short") as demo:
        assert any("each symbol has one owner" in line for line in demo.stdout)  # All nodes run.
        assert len(processes_of(tmp_path)) > 6

        demo.send_signal(number)

        rest = demo.stdout.read()
        assert demo.wait(timeout=30) == 130
    assert "Traceback" not in rest
    assert processes_of(tmp_path) == []
    assert not list(tmp_path.glob("erlmesh-cep-*"))


@pytest.mark.parametrize("arguments", [["--net-ticktime", "0"], ["--net-ticktime", "soon"], ["--scene", "lunch"]])
def test_wrong_options_are_refused(tmp_path, arguments):
    with start_demo(tmp_path, *arguments) as demo:
        output = demo.stdout.read()

    assert demo.returncode == 2
    assert "usage:" in output
    assert "Traceback" not in output


# The comparison


SETTINGS = Settings(span=Timed(100), pattern=Pattern("v").next(up).next(down).within(100))
TICKS = {"AAPL": [Tick(10, b"s", 1, 5), Tick(20, b"s", 2, 4)]}
MEANS = {"AAPL": {(b"s", 1): (5, 1, 0), (b"s", 2): (9, 2, 0)}}
FINALS = {"AAPL": {(b"s", 1): (5, 1), (b"s", 2): (9, 2)}}
MATCHES = {"AAPL": {tuple(TICKS["AAPL"])}}


def report(means=MEANS, finals=FINALS, matches=MATCHES, tolerate=()):
    found = compare(TICKS, means, finals, matches, settings=SETTINGS, tolerate=tolerate)
    assert len(found.pop("examples")) == found["missing"] + found["wrong"]
    return {name: count for name, count in found.items() if count}


def test_results_that_are_those_of_the_oracle_are_counted():
    assert report() == {"ticks": 2, "final": 2, "eager": 2, "matches": 1}


def test_each_difference_is_counted():
    right = {"ticks": 2, "final": 2, "eager": 2, "matches": 1}

    assert report(finals={"AAPL": {(b"s", 1): (5, 1)}}) == right | {"final": 1, "eager": 1, "missing": 1}
    assert report(finals={"AAPL": FINALS["AAPL"] | {(b"s", 2): (4, 1)}}) == right | {"final": 1, "eager": 1, "wrong": 1}
    assert report(means={}) == {"ticks": 2, "final": 2, "matches": 1, "wrong_eager": 2}
    assert report(matches={}) == {"ticks": 2, "final": 2, "eager": 2, "wrong_matches": 1}


def test_what_a_split_made_incomplete_is_counted_apart():
    assert report(means={}, tolerate=[(0.015, 0.025)]) == {
        "ticks": 2, "final": 2, "matches": 1, "wrong_eager": 1, "incomplete": 1,
    }  # fmt: skip
    assert report(matches={}, tolerate=[(1, 2)])["wrong_matches"] == 1
    assert report(finals={}, tolerate=[(0.015, 0.025)]) == {"ticks": 2, "matches": 1, "missing": 1, "unfinished": 1}


# Which ticks a split concerns


def test_the_observer_knows_up_to_which_time_all_symbols_have_means():
    node = SimpleNamespace(inbox=lambda *_, **__: None, shards=lambda *_, **__: None)
    observer = Observer(node)
    assert observer.reached() == 0
    for symbol in SYMBOLS:
        for at in (7_000, 6_500):  # The second tick is late.
            observer._take(symbol, (Atom("mean"), b"s", at, at, 5, 1, 0))
    observer._take(SYMBOLS[0], (Atom("mean"), b"s", 9_000, 9_000, 5, 1, 0))

    assert observer.reached() == 7.0


@pytest.mark.parametrize("scene", ["long_pause", "cut"])
@pytest.mark.parametrize("behind", [0, 100])
def test_a_split_begins_with_the_ticks_that_no_owner_has_taken(scene, behind, monkeypatch):
    for step in ("_scene", "_passed", "_taken_over", "_play", "_wait", "_wait_whole", "_moved_with_windows",
                 "_one_owner_each", "_means_arrive", "_owned_by", "_owners"):  # fmt: skip
        monkeypatch.setattr(Story, step, lambda *_: None)
    begin = time.time()
    nothing = SimpleNamespace(sides=((), ()), comment=print, cut=bool, heal=bool, signal=lambda *_: None)
    answers = {"reached": begin - behind}
    story = Story(nothing, nothing, SimpleNamespace(ask=answers.__getitem__), 8.0)

    getattr(story, scene)()

    ((start, end),) = story.split
    assert start == begin - behind - 5
    assert end > begin


# The chart


def test_a_chart_without_matplotlib_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(ChartUnavailable, match=r"pip install 'erlmesh\[chart\]'"):
        draw(Record(owners=[(1.0, "AAPL", ["plato"])]), tmp_path / "chart.svg")


def test_a_chart_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(Record(), tmp_path / "chart.svg")


def test_a_record_can_be_drawn_again(tmp_path):
    record = Record(
        owners=[(1.0, "AAPL", ["plato"]), (3.0, "AAPL", ["plato", "socrates"]), (4.0, "AAPL", [])],
        latencies=[(1.5, 0.01, 0.02)],
        scenes=[(1.0, "plain"), (3.0, "a cut")],
    )
    record.write(tmp_path / "record.json")
    command = [sys.executable, "-m", "cep.demo.chart", tmp_path / "record.json", tmp_path / "chart.svg"]

    subprocess.run(command, cwd=EXAMPLES, check=True)

    assert "a cut" in (tmp_path / "chart.svg").read_text()
    assert subprocess.run([*command[:3], tmp_path / "none.json"], cwd=EXAMPLES, check=False).returncode == 1
