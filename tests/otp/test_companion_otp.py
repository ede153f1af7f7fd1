"""The Elixir companion (``elixir/``) with real Elixir: its own tests, and the ends of Python and its BEAM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from elixir_tools import COMPANION, PROBE, elixir_environment, elixir_program, mix, run_elixir
from os_process import OsProcess
from polling import HANG, wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.otps(25, 29)]
COOKIE = "cookie-of-the-companion"
ENDS = ["kill", "kill while the GIL is held", "sigterm", "halt", "stop", "raise"]
BUILT: dict[int | None, Path] = {}


@pytest.fixture
def environment(cluster, otp, tmp_path):
    cluster.start_epmd_once()
    return elixir_environment(otp, cluster.epmd_port, tmp_path)


@pytest.fixture
def compiled(otp, environment, tmp_path_factory):
    """The folder with the compiled companion, without Mix: one file that was copied."""
    if otp not in BUILT:
        folder = tmp_path_factory.mktemp("companion")
        command = [elixir_program(otp, "elixirc"), "-o", str(folder), str(COMPANION / "lib/erlmesh.ex")]
        assert "warning" not in run_elixir(command, environment)
        BUILT[otp] = folder
    return BUILT[otp]


def test_the_source_is_formatted(otp, environment):
    run_elixir(mix(otp, "format", "--check-formatted"), environment)


def test_the_tests_of_the_companion_pass(otp, environment):
    options = ("--name", "test@127.0.0.1", "--cookie", COOKIE)

    output = run_elixir(mix(otp, "test", "--warnings-as-errors", options=options), environment)

    assert re.search(r"\b[1-9]\d* (tests, 0 failures|passed)|Result: (\d+)/\2 passed|Result: \d+ passed", output), (
        output
    )


def is_running(pid: int) -> bool:
    """Whether a process runs. A zombie has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return ") Z " not in status


@pytest.fixture
def start_beam(cluster, otp, environment, compiled):
    """``start_beam(mode)`` starts a BEAM with a Python node.

    It returns the BEAM, and the pids of the run-time system, the node, its guard and a child of the node.
    """

    def start(mode: str, name: tuple[str, str] = ("--name", "shop@127.0.0.1")) -> tuple[OsProcess, list[int]]:
        command = [
            *(elixir_program(otp), *name, "--cookie", COOKIE, "-pa", str(compiled)),
            *(str(Path(__file__).with_name("companion.exs")), sys.executable, str(PROBE), mode),
        ]
        beam = OsProcess("shop", command, environment)
        cluster.processes.append(beam)
        wait_until(lambda: beam.logged("pids ") or not beam.is_running(), timeout=2 * HANG, what="a Python node")
        assert beam.is_running(), beam.recent_log()
        (line,) = (line for line in beam.log if line.startswith("pids "))
        return beam, [int(word) for word in line.split()[1:]]

    return start


def end(beam: OsProcess, beam_pid: int, how: str) -> None:
    if how.startswith("kill"):
        os.kill(beam_pid, signal.SIGKILL)
    elif how == "sigterm":
        os.kill(beam_pid, signal.SIGTERM)
    else:
        beam.write(how)


@pytest.mark.timeout(3600)  # `--rounds 50` takes some minutes
@pytest.mark.parametrize("how", ENDS)
def test_python_ends_with_its_beam(cluster, environment, start_beam, rounds, how):
    for _ in range(rounds(1)):
        beam, pids = start_beam("held" if "held" in how else "free")
        beam_pid, node, guard, _ = pids
        for file in ("cmdline", "environ"):
            assert COOKIE not in Path(f"/proc/{node}/{file}").read_text()
            assert COOKIE not in Path(f"/proc/{guard}/{file}").read_text()

        end(beam, beam_pid, how)

        wait_until(
            lambda pids=pids: not any(map(is_running, pids)),
            timeout=HANG,
            details=beam.recent_log,
            what="without Python",
        )
        names = subprocess.run(
            [sys.executable, "-m", "erlmesh", "epmd", "--names"],
            env={**os.environ, **environment}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "model" not in names.stdout
        beam.wait()
        cluster.processes.remove(beam)


def test_the_kernel_ends_the_node_if_its_guard_is_killed_with_its_beam(cluster, start_beam):
    beam, (beam_pid, node, guard, child) = start_beam("free")
    try:
        for pid in (beam_pid, guard):
            os.kill(pid, signal.SIGKILL)

        wait_until(lambda: not is_running(node), timeout=HANG, what="without the node")
    finally:  # Nobody is left who ends what the node has started.
        os.kill(child, signal.SIGKILL)
    beam.wait()
    cluster.processes.remove(beam)


def test_the_node_has_a_short_name_if_its_beam_has_one(start_beam):
    beam, _ = start_beam("free", ("--sname", "shop@localhost"))

    beam.write("stop")

    assert beam.wait() == 0
    assert "node model@localhost" in beam.log
