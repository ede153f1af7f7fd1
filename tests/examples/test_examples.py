"""The programs in examples/ run as their headers say, and stay short. Those that need Elixir are in tests/otp."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from erlmesh import Atom, Node

EXAMPLES = Path(__file__).parents[2] / "examples"
WITH_ELIXIR = {"chat_with_elixir.py", "expose_model.py"}  # tests/otp/test_examples_otp.py runs these


@pytest.fixture
def start(free_port):
    """Start an example as a program, on a private EPMD port. The programs end with the test."""
    with contextlib.ExitStack() as stack:

        def start(*command):
            environment = os.environ | {"ERL_EPMD_PORT": str(free_port), "PYTHONUNBUFFERED": "1"}
            program = subprocess.Popen(
                [sys.executable, EXAMPLES / command[0], *command[1:]],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(program.stdout.close)
            stack.callback(program.wait)
            stack.callback(program.kill)
            return program

        yield start


def start_until_registered(start, *command):
    """Start a program that prints nothing by itself, and wait until its node is registered."""
    program = start(*command)
    name = next(word for word in command[1:] if "@" in word) if len(command) > 2 else f"{command[1]}@127.0.0.1"
    while subprocess.run(
        [sys.executable, "-m", "erlmesh", "ping", name, "--cookie", "monster"], check=False
    ).returncode:
        assert program.poll() is None
    return program


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_has_less_than_60_lines(path):
    assert len(path.read_text().splitlines()) < 60


def test_every_example_is_listed():
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))

    assert listed == {path.name for path in EXAMPLES.glob("*.py")}


def test_ping_pong(start, monkeypatch, free_port):
    monkeypatch.setenv("ERL_EPMD_PORT", str(free_port))
    start_until_registered(start, "ping_pong.py", "pong")

    ping = start("ping_pong.py", "ping")

    assert ping.stdout.readline() == "pong from pong@127.0.0.1\n"
    assert ping.wait(timeout=60) == 0


def test_worker_pool_continues_when_a_worker_is_killed(start, monkeypatch, free_port):
    monkeypatch.setenv("ERL_EPMD_PORT", str(free_port))
    one = start_until_registered(start, "worker_pool.py", "worker", "one@127.0.0.1")
    start_until_registered(start, "worker_pool.py", "worker", "two@127.0.0.1", "one@127.0.0.1")
    one.kill()

    client = start("worker_pool.py", "client", "me@127.0.0.1", "two@127.0.0.1")

    assert [client.stdout.readline() for _ in range(3)] == ["5! = 120\n", "6! = 720\n", "7! = 5040\n"]
    assert client.wait(timeout=60) == 0


def test_stops_in_order_answers_the_calls_in_flight(free_port, monkeypatch):
    monkeypatch.setenv("ERL_EPMD_PORT", str(free_port))
    options = ["--name", "py@127.0.0.1", "--cookie", "monster", "--app", "stops_in_order:main"]
    app = subprocess.Popen(
        [sys.executable, "-m", "erlmesh", "start", *options],
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent / "src"), "PYTHONUNBUFFERED": "1"},
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        text=True,
    )
    answers = []

    async def call_and_terminate():
        async with Node("me@127.0.0.1", cookie="monster", join=["py@127.0.0.1"]) as node:
            assert await node.joined(20)
            request = (Atom("resize"), b"cat.png")
            call = asyncio.create_task(node.call(("images", "py@127.0.0.1"), request, timeout=60))
            await asyncio.sleep(0)  # It sends its request.
            assert await node.ping("py@127.0.0.1")  # So the request has arrived, too.
            app.terminate()
            answers.append(await call)

    with app:
        lines = iter(app.stdout.readline, "")
        assert any(line == "ready\n" for line in lines)
        asyncio.run(call_and_terminate())
        left = sorted(lines)

    assert answers == [(Atom("ok"), b"cat.png")]
    assert left == ["1 images done, ends with shutdown\n", "audit written after shutdown\n"]
    assert app.returncode == 0


def test_watcher_gives_up_after_three_restarts(start):
    watcher = start("watcher.py")

    assert watcher.stdout.read().count("worker terminated") == 4
    assert watcher.wait(timeout=60) == 0


def test_tests_on_a_simulated_cluster():
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent / "src")}
    options = ["-n", "0", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, EXAMPLES / "test_my_service.py"]

    run = subprocess.run(command, env=environment, cwd=EXAMPLES.parent, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
