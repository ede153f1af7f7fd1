"""``erlmesh start --under-port`` without a BEAM: the guard, the cookie and the events."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polling import wait_until

COOKIE = b"cookie-on-stdin\n"
APP = """
import asyncio, ctypes, subprocess, sys, time

async def main(me):
    child = subprocess.Popen(["sleep", "600"])
    print("stdin of the program:", repr(sys.stdin.read()))
    print("child", child.pid)
    async for _ in me:
        pass

async def held(me):
    child = subprocess.Popen(["sleep", "600"])
    print("child", child.pid)
    sys.stdout.flush()
    await me.sleep(0.5)
    print("held")
    await asyncio.to_thread(ctypes.PyDLL(None).sleep, 600)

async def named(me):
    for name in ("one", "two"):
        await me.sleep(0.2)
        me.node.spawn(waiting, name=name)
        print("registered", name)
    await me.receive()

async def waiting(me):
    await me.receive()

async def stubborn(me):
    me.trap_exit = True
    print("child", 0)
    async for _ in me:
        pass
"""


@pytest.fixture
def port(erlmesh, tmp_path):
    """``port(arguments)`` starts a node with pipes as a port has them. All end with the test."""
    (tmp_path / "app.py").write_text(APP)
    environment = {name: value for name, value in erlmesh.environment.items() if name != "ERLMESH_COOKIE_FILE"}
    started = []

    def start(*arguments, cookie=COOKIE):
        command = [sys.executable, "-m", "erlmesh", "start", "--under-port", "--name", "model@127.0.0.1", *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            cwd=tmp_path,
        )  # fmt: skip
        started.append(process)
        process.stdin.write(cookie)
        process.stdin.flush()
        return process

    yield start
    for process in started:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # the guard ends the node and its children
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def lines_until(process, start):
    lines = []
    for line in process.stdout:
        lines.append(line.decode().rstrip("\n"))
        if lines[-1].startswith(start):
            return lines
    raise AssertionError(f"it ended without {start!r}: {lines}")


def started(process):
    """The pids of the node and of its child."""
    lines = lines_until(process, "\x1eready")
    name, pid = lines[-1].split()[1:]
    while not any(line.startswith("child") for line in lines):  # the app runs beside the start
        lines += lines_until(process, "child")
    (child,) = (line for line in lines if line.startswith("child"))
    assert name == "model@127.0.0.1"
    return int(pid), int(child.split()[1])


def is_running(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", ["end of stdin", "stop", "SIGTERM", "kill", "node killed"])
def test_nothing_is_left_of_a_node(port, how):
    process = port("--app", "app:main")
    node, child = started(process)
    assert node != process.pid

    if how == "end of stdin":
        process.stdin.close()
    elif how == "SIGTERM":
        process.terminate()
    elif how == "node killed":
        os.kill(node, signal.SIGKILL)
    else:
        process.stdin.write(how.encode() + b"\n")
        process.stdin.flush()

    assert process.wait(60) == (128 + signal.SIGKILL if "kill" in how else 0)
    assert not is_running(node)
    wait_until(lambda: not is_running(child))


def test_a_node_whose_gil_is_held_is_killed_after_its_grace(port):
    process = port("--app", "app:held", "--grace", "0.1")
    node, child = started(process)
    lines_until(process, "held")

    process.stdin.close()

    assert process.wait(60) == 128 + signal.SIGKILL
    assert b"did not stop in time and is killed" in process.stdout.read()
    wait_until(lambda: not is_running(node) and not is_running(child))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the node")
def test_the_node_ends_with_its_guard(port):
    process = port("--app", "app:held")
    node, child = started(process)
    lines_until(process, "held")

    process.kill()

    wait_until(lambda: not is_running(node))
    os.kill(child, signal.SIGKILL)


def test_a_node_is_ready_when_the_names_are_registered(port):
    process = port("--app", "app:named", "--wait-for", "one", "--wait-for", "two")

    lines = lines_until(process, "\x1eready")

    assert lines.index("registered two") > lines.index("registered one")


def test_only_a_node_under_a_port_waits_for_names(erlmesh):
    code, _, error = erlmesh.run("start", "--name", "model@127.0.0.1", "--wait-for", "one")

    assert code == 2
    assert "--wait-for is for a node under a port" in error


def test_the_program_cannot_read_what_the_guard_reads(port):
    process = port("--app", "app:main")

    assert "stdin of the program: ''" in lines_until(process, "child")


def test_the_cookie_is_the_first_line_of_stdin_and_can_be_seen_nowhere(port, erlmesh):
    process = port("--app", "app:main")
    node, _ = started(process)

    for pid in (node, process.pid):
        for file in ("cmdline", "environ"):
            assert COOKIE.strip() not in Path(f"/proc/{pid}/{file}").read_bytes()
    erlmesh.cookie.write_text(COOKIE.decode())
    assert erlmesh.run("ping", "model@127.0.0.1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "cookie", "status", "text"),
    [
        (["--expose", "no_module"], COOKIE, 2, "cannot import no_module"),
        (["--join", "nobody@127.0.0.1"], COOKIE, 1, "cannot connect: nobody@127.0.0.1: "),
        (["--wait-for", "x" * 300], COOKIE, 1, "erlmesh: "),
        (["--cookie", "c"], COOKIE, 2, "takes the cookie from stdin"),
        ([], b"\n", 1, "the cookie of stdin is empty"),
        ([], b"x" * 300 + b"\n", 1, "at most 255"),
    ],
    ids=["module", "peer", "name", "second cookie", "empty cookie", "long cookie"],
)
def test_a_start_that_fails_says_why(port, arguments, cookie, status, text):
    process = port(*arguments, cookie=cookie)

    assert process.wait(60) == status
    assert text in process.stdout.read().decode()


def test_a_node_that_does_not_react_to_its_grace_ends(port):
    process = port("--app", "app:stubborn", "--grace", "0.1")
    started(process)

    process.stdin.close()

    assert process.wait(60) == 0
    assert b"did not end in time and is killed" in process.stdout.read()
