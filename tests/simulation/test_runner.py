"""The command that runs many scenarios: its output, its exit status, and the replay of a seed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from simulation import run_seeds
from simulation.processes import InvariantViolation
from simulation.run_seeds import ScenarioResult, run_one
from simulation.runner import main

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests"))}

COMMAND = [sys.executable, "-m", "simulation"]


def run(*arguments):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=100, env=ENVIRONMENT
    )


def test_passed_scenarios_end_with_a_count_and_exit_status_0():
    done = run("--first", "10", "--seeds", "3", "--jobs", "2")

    assert done.returncode == 0, done.stderr
    assert re.search(r"3 of 3 scenarios, \d+\.\d virtual hours, \d+\.\d per second, 0 failed\n$", done.stdout)
    assert done.stderr == ""


def test_one_seed_prints_the_same_history_and_fingerprint_each_time():
    one, two = run("--seed", "7"), run("--seed", "7")

    assert one.returncode == 0, one.stderr
    assert one.stdout == two.stdout
    assert "a@10.0.0.1 starts, creation 4" in one.stdout
    assert re.search(r"seed 7: passed, fingerprint [0-9a-f]{16}\n$", one.stdout)


def test_failed_seeds_are_listed_with_the_command_that_replays_one(monkeypatch, capsys):
    def fail_two_seeds(_actions, seed):
        return ScenarioResult(seed, 1.0, "InvariantViolation: a promise" if seed in (12, 14) else None)

    monkeypatch.setattr(run_seeds, "run_one", fail_two_seeds)

    assert main(["--first", "10", "--seeds", "6", "--jobs", "1"]) == 1

    shown = capsys.readouterr().out
    assert "seed 12: InvariantViolation: a promise\n" in shown
    assert shown.endswith(f"2 failed\nfailed: 12 14\nto replay one: {sys.executable} -m simulation --seed 12\n")


def test_replay_command_contains_the_number_of_actions(monkeypatch, capsys):
    monkeypatch.setattr(
        run_seeds, "run_one", lambda _, seed: ScenarioResult(seed, 1.0, "InvariantViolation: a promise")
    )

    main(["--seeds", "1", "--jobs", "1", "--actions", "90"])

    assert capsys.readouterr().out.endswith("--seed 0 --actions 90\n")


def test_violation_fails_the_seed_and_prints_the_history(monkeypatch, capsys):
    async def violate(self):
        self.model.note("something happens")
        self.model.record_violation("the sky is green")
        self.model.raise_violations()

    monkeypatch.setattr("simulation.scenario.Scenario.run", violate)

    assert run_one(40, 5).violation == "InvariantViolation: seed 5 at 0.000 s: the sky is green"
    assert main(["--seed", "5"]) == 1
    shown = capsys.readouterr()
    assert "0.000000 something happens\n0.000000 BROKEN: the sky is green\n" in shown.out
    assert InvariantViolation.__name__ in shown.err


def test_ctrl_c_prints_partial_results_and_stops_workers():
    code = (  # the parent process may ignore SIGINT
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from simulation.runner import main; sys.exit(main(['--seeds', '100000', '--jobs', '2']))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, process_group=0, env=ENVIRONMENT
    ) as running:
        first = running.stdout.readline()
        os.killpg(running.pid, signal.SIGINT)
        rest, errors = running.communicate(timeout=60)  # returns when all workers have closed the pipes

    assert "1 of 100000 scenarios" in first
    assert running.returncode == 130
    assert re.search(r"\d+ of 100000 scenarios.*0 failed.*\ninterrupted: .*\n$", rest)
    assert errors == ""
