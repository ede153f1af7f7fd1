"""Shutdown: every command stops soon after a signal, in order if it can, and without a traceback."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

IN_TIME = 1.0
LEEWAY = 2.0
"""Seconds that a busy machine may need in addition. The tests look for commands that never stop."""
APPS = """
import asyncio, time

async def stubborn(me):
    print("app is running", flush=True)
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

async def member(me):
    me.register("app")
    for number in range(1000):
        me.node.pg.join(number, me.pid)
    async for _ in me:
        pass

async def ignorant(me):
    me.trap_exit = True
    print("app is running", flush=True)
    async for message in me:
        print("was told", flush=True)

async def tidy(me):
    me.trap_exit = True
    print("app is running", flush=True)
    _, pid, reason = await me.receive()
    await me.sleep(0.1)
    print("tidied up after", reason, flush=True)

async def blocked(me):
    print("app is running", flush=True)
    while True:
        time.sleep(100)

def sleep():
    print("app is running", flush=True)
    time.sleep(100)

async def threaded(me):
    await asyncio.to_thread(sleep)
"""


@pytest.fixture
def silent_port():
    """An address of this machine, with its EPMD port, that accepts connections and sends nothing."""
    connections = []

    def accept(server):
        while True:
            try:
                connections.append(server.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.9", 0)) as server:
        thread = threading.Thread(target=accept, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()


@pytest.fixture
def start(erlmesh, tmp_path):
    (tmp_path / "apps.py").write_text(APPS)
    path = os.pathsep.join([erlmesh.environment["PYTHONPATH"], str(tmp_path)])
    return lambda *arguments, **more: erlmesh.start("start", "--name", "plato", *arguments, PYTHONPATH=path, **more)


def exit_code_after(started, *signals, within=IN_TIME + LEEWAY):
    """The exit code after one signal or several. The lines printed meanwhile are in ``started.last``."""
    began = time.monotonic()
    for number in signals:
        started.process.send_signal(number)
        time.sleep(0.02)  # Two pending signals of one kind are delivered as one.
    code = started.process.wait(timeout=60)
    taken = time.monotonic() - began
    started.last = list(iter(started.line, None))
    assert not any("Traceback" in line for line in started.last), started.last
    assert taken < within, started.last
    return code


def epmd_names(erlmesh):
    return erlmesh.run("epmd", "--names")[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_node_leaves_its_groups_its_peers_and_epmd(erlmesh, start, number):
    erlmesh.start("epmd").wait_for("is up")
    plato = start("--app", "apps:member")
    plato.wait_for("is up")
    shell = erlmesh.start("shell", "--name", "socrates", "--join", "plato")
    shell.until("length(pg.get_members(999))", "1")
    assert "plato at" in epmd_names(erlmesh)

    assert exit_code_after(plato, number) == 0

    assert shell.ask("pg.get_members(999)") == "[]"
    assert shell.ask("Node.list") == "[]"
    assert "plato at" not in epmd_names(erlmesh)


def test_a_node_stops_while_it_connects_to_a_silent_address(start, silent_port):
    plato = start("--join", "b@127.0.0.9", "-vv", ERL_EPMD_PORT=str(silent_port))
    plato.wait_for("is up")

    assert exit_code_after(plato, signal.SIGTERM) == 0


@pytest.mark.parametrize("app", ["stubborn", "threaded", "blocked"])
def test_an_app_that_does_not_stop_is_ended_by_force(start, app):
    plato = start("--app", f"apps:{app}", "--grace", "0.2")
    plato.wait_for("app is running")

    assert exit_code_after(plato, signal.SIGTERM) == 0

    assert any("forced exit" in line for line in plato.last)


@pytest.mark.parametrize("grace", ["--grace", "ERLMESH_GRACE"])
def test_an_app_that_ignores_the_shutdown_is_killed_after_the_grace(start, grace):
    options = {"ERLMESH_GRACE": "0.3"} if grace == "ERLMESH_GRACE" else {}
    plato = start("--app", "apps:ignorant", *([] if options else ["--grace", "0.3"]), **options)
    plato.wait_for("app is running")

    assert exit_code_after(plato, signal.SIGTERM) == 0

    assert [line for line in plato.last if "ignorant did not end in time" in line], plato.last


def test_an_app_that_traps_exits_is_told_and_ends_by_itself(start):
    plato = start("--app", "apps:tidy")
    plato.wait_for("app is running")

    assert exit_code_after(plato, signal.SIGTERM) == 0

    assert any("tidied up after shutdown" in line for line in plato.last), plato.last


def test_a_second_signal_ends_a_node_that_waits_for_its_app(start):
    plato = start("--app", "apps:ignorant", "--grace", "60")
    plato.wait_for("app is running")
    plato.process.send_signal(signal.SIGTERM)
    plato.wait_for("was told")

    assert exit_code_after(plato, signal.SIGTERM) == 0


def test_a_second_ctrl_c_exits_at_once(start):
    plato = start("--app", "apps:blocked", "--grace", "60")
    plato.wait_for("app is running")

    assert exit_code_after(plato, signal.SIGINT, signal.SIGINT) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_epmd_stops_at_a_signal(erlmesh, number):
    epmd = erlmesh.start("epmd")
    epmd.wait_for("is up")

    assert exit_code_after(epmd, number) == 0


def test_a_shell_stops_while_a_line_waits(erlmesh):
    shell = erlmesh.start("shell", "--name", "socrates")
    shell.ask("1")
    shell.type("print('waiting'); receive()")
    shell.wait_for("waiting")

    assert exit_code_after(shell, signal.SIGTERM) == 0


def test_a_shell_stops_while_it_connects_to_a_silent_address(erlmesh, silent_port):
    shell = erlmesh.start("shell", "--name", "socrates", "--join", "b@127.0.0.9", "-vv", ERL_EPMD_PORT=str(silent_port))
    shell.wait_for("started one in this node")

    assert exit_code_after(shell, signal.SIGTERM) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    "command",
    [
        ("ping", "b@127.0.0.9"),
        ("doctor", "b@127.0.0.9"),
        ("members", "g", "--on", "b@127.0.0.9"),
        ("remsh", "b@127.0.0.9"),
    ],
    ids=lambda command: command[0],
)
def test_a_command_stops_while_it_waits_for_an_answer(erlmesh, silent_port, command, number, code):
    waiting = erlmesh.start(*command, "-vv", ERL_EPMD_PORT=str(silent_port))
    wait_for_a_connection(silent_port)

    assert exit_code_after(waiting, number) == code


def wait_for_a_connection(port):
    """Waits until a process is connected to the silent address."""
    wanted = f"0900007F:{port:04X}"
    for _ in range(2000):
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if any(row[2] == wanted and row[3] == "01" for row in rows):
            return
        time.sleep(0.01)
    raise AssertionError("no process connects")
