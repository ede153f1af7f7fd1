"""``erlmesh bench`` as a user runs it."""

import json
import signal
import subprocess
import sys

FIGURES = {"node", "round_trips", "least_us", "median_us", "p99_us", "most_us", "calls_per_second"}


def test_a_python_node_is_measured(erlmesh):
    plato = erlmesh.start("start", "--name", "plato")
    plato.wait_for("is up")

    code, out, err = erlmesh.run("bench", "plato", "--seconds", "0.05")
    json_code, text, json_err = erlmesh.run("bench", "plato", "--seconds", "0.05", "--json")

    assert (code, err, json_code, json_err) == (0, "", 0, "")
    assert [line.split("  ")[0] for line in out.splitlines()] == ["round trip", "calls", "transfer"]
    figures = json.loads(text)
    assert figures["node"] == "plato@127.0.0.1"
    assert all(figures[name] for name in FIGURES | {"megabytes_per_second"})
    assert figures["least_us"] <= figures["median_us"] <= figures["p99_us"] <= figures["most_us"]


def test_a_node_that_does_not_run_is_named_with_the_reason(erlmesh):
    code, out, err = erlmesh.run("bench", "nobody")

    assert (code, out) == (1, "")
    assert "nobody@127.0.0.1" in err
    assert "Traceback" not in err


def test_wrong_seconds_are_refused(erlmesh):
    for seconds in ("0", "61", "long"):
        code, _, err = erlmesh.run("bench", "plato", "--seconds", seconds)
        assert (code, err.startswith("erlmesh: --seconds is")) == (2, True), err


def test_ctrl_c_ends_a_measurement_without_a_traceback(erlmesh):
    erlmesh.start("start", "--name", "plato").wait_for("is up")
    with subprocess.Popen(
        [sys.executable, "-m", "erlmesh", "bench", "plato", "--seconds", "60", "-v"],
        env=erlmesh.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as bench:  # fmt: skip
        bench.stderr.readline()  # the log says that it is connected
        bench.send_signal(signal.SIGINT)
        _, errors = bench.communicate(timeout=60)

    assert bench.returncode == 130
    assert "Traceback" not in errors
