"""``erlmesh top`` as a user runs it: once, for scripts, and on a terminal."""

import fcntl
import json
import signal
import struct
import sys
import termios
import time

import pytest

from terminal import CONTROL_SEQUENCES, TIMEOUT, Terminal

PLATO, SOCRATES = "plato@127.0.0.1", "socrates@127.0.0.1"


@pytest.fixture
def plato(erlmesh):
    node = erlmesh.start("start", "--name", "plato")
    node.wait_for("is up")
    return node


@pytest.fixture
def top(erlmesh):
    opened = []

    def open_terminal(*arguments, **environment):
        command = [sys.executable, "-m", "erlmesh", "top", *arguments]
        screen = Terminal(command, {**erlmesh.environment, **environment})
        opened.append(screen)
        screen.modes = termios.tcgetattr(screen.master)
        resize(screen, 30, 120)
        return screen

    yield open_terminal
    for each in opened:
        each.close()


def see(terminal, text):
    """Wait until ``text`` is on the screen. Ctrl-L lets all of it be written again, else only differences are."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        terminal.press("\x0c")
        start = len(terminal.output)
        while terminal._read():
            pass
        if text in CONTROL_SEQUENCES.sub("", terminal.output[start:]):
            return
    raise AssertionError(f"{text!r} is not on the screen: {terminal.output[-3000:]!r}")


def resize(terminal, lines, columns):
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def test_once_prints_the_tables_as_text_or_as_json(erlmesh, plato):
    code, out, err = erlmesh.run("top", "plato", "--once")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.endswith(":")] == ["nodes:", "links:", "processes:", "groups:"]

    code, out, err = erlmesh.run("top", "plato", "--once", "--json")
    found = json.loads(out)
    assert (code, err, found["schema"]) == (0, "", 1)
    (node,) = found["nodes"]
    assert (node["node"], node["state"], node["kind"], node["links"]) == (PLATO, "up", "python", 0)
    assert isinstance(node["cpu"], float)
    assert {"net_kernel", "rex", "pg"} <= {each["name"] for each in found["processes"]}
    assert found["links"] == found["groups"] == []


def test_one_table_is_sorted_by_the_column_that_is_named(erlmesh, plato):
    code, out, _ = erlmesh.run("top", "plato", "--once", "--table", "processes", "--sort", "name")

    names = [line.split()[2] for line in out.splitlines()[1:]]
    assert code == 0
    assert names[:3] == ["erlmesh", "global_group", "global_name_server"]


def test_a_long_table_is_printed_whole(erlmesh):
    shell = erlmesh.start("shell", "--name", "plato")
    shell.ask("for each in range(300): spawn(lambda me: me.receive())")

    code, out, _ = erlmesh.run("top", "plato", "--once", "--table", "processes")

    assert code == 0
    assert len(out.splitlines()) == 201
    assert len(out) > 20_000
    assert out.splitlines()[-1].startswith("plato@127.0.0.1  <0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plato"], "this is not a terminal: add --once"),
        (["plato", "--json"], "--json prints once: add --once"),
        (["plato", "--once", "--sort", "cpu"], "--sort needs --table"),
        (["plato", "--once", "--table", "links", "--sort", "cpu"], "the table of links has no column cpu"),
        (["plato", "--interval", "0"], "--interval is a number of seconds, at least 0.2"),
        (["plato", "--once", "--wait", "nan"], "--wait is a number of seconds"),
    ],
)
def test_wrong_arguments_are_one_line(erlmesh, arguments, message):
    code, out, err = erlmesh.run("top", *arguments)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_node_that_is_not_there_is_an_error(erlmesh):
    code, out, err = erlmesh.run("top", "nobody", "--once", "--wait", "0.5")

    assert (code, out) == (1, "")
    assert err.startswith("erlmesh: nobody@127.0.0.1: ")


def test_the_terminal_shows_tables_follows_keys_and_sizes_and_ends(erlmesh, plato, top):
    screen = top("plato")
    see(screen, "nodes 1-1 of 1")
    see(screen, "q quit  n nodes  l links  p processes  g groups")
    screen.press("p")
    see(screen, "net_kernel")
    screen.press("g")
    see(screen, "no rows")
    screen.press(" ")
    see(screen, "PAUSED")
    screen.press(" n")
    resize(screen, 3, 20)
    see(screen, "erlmesh top")
    resize(screen, 1, 1)
    resize(screen, 30, 100)
    see(screen, "q quit  n nodes")
    screen.press("q")

    assert screen.wait_exit() == 0
    assert termios.tcgetattr(screen.master)[:4] == screen.modes[:4]
    assert "Traceback" not in screen.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_restores_the_terminal(erlmesh, plato, top, number):
    screen = top("plato")
    see(screen, "nodes 1-1 of 1")

    if number == signal.SIGINT:
        screen.press("\x03")
    else:
        screen.process.send_signal(number)

    assert screen.wait_exit() == 0
    assert termios.tcgetattr(screen.master)[:4] == screen.modes[:4]
    assert "Traceback" not in screen.output


def test_a_node_that_starts_later_appears(erlmesh, top):
    screen = top("plato")
    see(screen, "cannot connect yet: plato@127.0.0.1")

    erlmesh.start("start", "--name", "plato").wait_for("is up")

    see(screen, "nodes 1-1 of 1")


def test_a_node_that_stands_still_holds_up_nothing(erlmesh, plato, top):
    socrates = erlmesh.start("start", "--name", "socrates", "--join", "plato")
    socrates.wait_for("is up")
    screen = top("plato", "--table", "nodes", "--sort", "age", "--interval", "0.3")
    see(screen, "socrates@127.0.0.1  python")
    socrates.process.send_signal(signal.SIGSTOP)
    try:
        see(screen, "5 s")
        screen.press("p")
        see(screen, "net_kernel")
        screen.press("q")

        assert screen.wait_exit() == 0
    finally:
        socrates.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("term", ["", "no-such-terminal"])
def test_an_unknown_terminal_is_an_error(erlmesh, plato, term):
    program = f"import os, sys; os.environ['TERM'] = {term!r}; from erlmesh.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "top", "plato"]
    screen = Terminal(command, erlmesh.environment)
    try:
        screen.wait_for("add --once")

        assert screen.wait_exit() == 1
        assert "Traceback" not in screen.output
    finally:
        screen.close()
