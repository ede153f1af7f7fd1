"""The command that tells many stories: what it shows, how it ends, and that what it shows replays."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from simulation import runner
from simulation.processes import InvariantViolation
from simulation.runner import ScenarioResult, main

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests"))}

COMMAND = [sys.executable, "-m", "simulation"]


def run(*arguments):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=100, env=ENVIRONMENT
    )


def test_true_stories_end_with_a_count_and_exit_status_0():
    done = run("--first", "10", "--seeds", "3", "--jobs", "2")

    assert done.returncode == 0, done.stderr
    assert re.search(r"3 of 3 stories, \d+\.\d virtual hours, \d+\.\d a second, 0 failed\n$", done.stdout)
    assert done.stderr == ""


def test_one_story_shows_its_history_and_its_fingerprint_each_time_the_same():
    one, two = run("--seed", "7"), run("--seed", "7")

    assert one.returncode == 0, one.stderr
    assert one.stdout == two.stdout
    assert "a@10.0.0.1 starts, creation 4" in one.stdout
    assert re.search(r"seed 7: fine, fingerprint [0-9a-f]{16}\n$", one.stdout)


def test_failed_seeds_are_named_at_the_end_with_the_command_that_replays_one(monkeypatch, capsys):
    def told(_acts, seed):
        return ScenarioResult(seed, 1.0, "InvariantViolation: a promise" if seed in (12, 14) else None)

    monkeypatch.setattr(runner, "_run_one", told)

    assert main(["--first", "10", "--seeds", "6", "--jobs", "1"]) == 1

    shown = capsys.readouterr().out
    assert "seed 12: InvariantViolation: a promise\n" in shown
    assert shown.endswith(f"2 failed\nfailed: 12 14\nto replay one: {sys.executable} -m simulation --seed 12\n")


def test_what_replays_a_failure_is_told_the_number_of_acts_too(monkeypatch, capsys):
    monkeypatch.setattr(runner, "_run_one", lambda _, seed: ScenarioResult(seed, 1.0, "InvariantViolation: a promise"))

    main(["--seeds", "1", "--jobs", "1", "--actions", "90"])

    assert capsys.readouterr().out.endswith("--seed 0 --actions 90\n")


def test_a_broken_promise_is_a_failed_seed_and_its_history_is_shown(monkeypatch, capsys):
    async def breaks(self):
        self.model.note("something happens")
        self.model.record_violation("the sky is green")
        self.model.raise_violations()

    monkeypatch.setattr("simulation.scenario.Scenario.run", breaks)

    assert runner._run_one(40, 5).violation == "InvariantViolation: seed 5 at 0.000 s: the sky is green"
    assert main(["--seed", "5"]) == 1
    shown = capsys.readouterr()
    assert "0.000000 something happens\n0.000000 BROKEN: the sky is green\n" in shown.out
    assert InvariantViolation.__name__ in shown.err


def test_ctrl_c_shows_what_was_found_so_far_and_leaves_nobody_behind():
    code = (  # whoever started us may ignore SIGINT
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from simulation.runner import main; sys.exit(main(['--seeds', '100000', '--jobs', '2']))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, process_group=0, env=ENVIRONMENT
    ) as running:
        first = running.stdout.readline()
        os.killpg(running.pid, signal.SIGINT)
        rest, errors = running.communicate(timeout=60)  # until the last one who could write has ended

    assert "1 of 100000 stories" in first
    assert running.returncode == 130
    assert re.search(r"\d+ of 100000 stories.*0 failed.*\ninterrupted: .*\n$", rest)
    assert errors == ""
