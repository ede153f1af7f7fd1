"""What ``erlmesh map`` says when it cannot start. Each command runs in a process of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent.parent / "src"
WITHOUT_H11 = """
import sys
sys.modules["h11"] = None
sys.argv[1:] = {arguments!r}
from erlmesh.cli.main import main
sys.exit(main())
"""


@pytest.fixture
def run(tmp_path):
    """``run(*arguments)`` returns the exit status and what is printed to standard error."""

    def run_command(*arguments, program=None):
        environment = {
            **os.environ, "PYTHONPATH": str(SRC), "HOME": str(tmp_path), "ERLMESH_STATE": str(tmp_path / "state"),
            "ERLMESH_COOKIE": "a cookie of the test",
        }  # fmt: skip
        start = ["-m", "erlmesh", *arguments] if program is None else ["-c", program.format(arguments=list(arguments))]
        done = subprocess.run(
            [sys.executable, "-W", "error", *start],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            check=False,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    return run_command


def test_without_a_node_on_this_machine_one_must_be_named(run):
    status, text = run("map")

    assert status == 2
    assert "no node runs here: name a node of the cluster, such as plato@127.0.0.1" in text


def test_a_recording_that_is_not_there_is_refused(run):
    status, text = run("map", "cluster.jsonl")

    assert status == 1
    assert "cannot read the recording cluster.jsonl: No such file or directory" in text


def test_a_recording_is_opened_alone(run, tmp_path):
    (tmp_path / "cluster.jsonl").touch()
    status, text = run("map", "cluster.jsonl", "plato@127.0.0.1")

    assert status == 2
    assert "a recording is opened alone" in text


def test_an_address_without_a_port_is_refused(run):
    status, text = run("map", "plato@127.0.0.1", "--listen", "here:")

    assert status == 1
    assert "--listen" in text


def test_a_short_token_is_refused(run, tmp_path):
    token = tmp_path / "token"
    token.write_text("short")
    token.chmod(0o600)
    status, text = run("map", "plato@127.0.0.1", "--map-token-file", str(token))

    assert status == 1
    assert "it needs at least 16" in text


def test_a_token_that_others_can_read_is_refused(run, tmp_path):
    token = tmp_path / "token"
    token.write_text("x" * 32)
    token.chmod(0o644)
    status, text = run("map", "plato@127.0.0.1", "--map-token-file", str(token))

    assert status == 1
    assert "other users can read the token" in text


def test_a_port_that_is_taken_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, text = run("map", "plato@127.0.0.1", "--listen", str(port))

    assert status == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in text


def test_without_h11_the_extra_is_named(run):
    status, text = run("map", "plato@127.0.0.1", program=WITHOUT_H11)

    assert status == 1
    assert "pip install 'erlmesh[web]'" in text
