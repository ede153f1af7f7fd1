"""The output and the exit code of each command."""

import shutil
import signal
import socket
from pathlib import Path

import pytest

from erlmesh import __version__, native
from skips import skip_or_fail


def test_version_and_help_are_printed_with_an_example_for_each_command(erlmesh):
    build = f"erlmesh {__version__}, {native.description}, event loop asyncio\n"
    assert erlmesh.run("--version")[:2] == (0, build)
    for command in ("shell", "start", "ping", "members", "epmd", "demo"):
        code, out, _ = erlmesh.run(command, "--help")
        assert code == 0
        assert f"example:\n  erlmesh {command}" in out


def test_without_a_command_the_help_is_printed(erlmesh):
    code, out, err = erlmesh.run()

    assert (code, out) == (2, "")
    assert "diagnose step by step why a node cannot be reached" in err


def test_ping_prints_pong_for_a_running_node_and_pang_for_another(erlmesh):
    plato = erlmesh.start("start", "--name", "plato")
    assert plato.line().startswith("plato@127.0.0.1 is up: listening on port ")

    code, out, err = erlmesh.run("ping", "plato@127.0.0.1")
    assert (code, out[:4], err) == (0, "pong", "")

    code, out, err = erlmesh.run("ping", "aristotle")
    assert (code, out) == (1, "pang\n")
    assert "aristotle" in err
    assert "not running" in err


def test_errors_say_what_is_wrong_without_a_traceback(erlmesh):
    plato = erlmesh.start("start", "--name", "plato")
    plato.wait_for("is up")

    for arguments, text in [
        (("ping", "plato", "--cookie", "wrong"), "cookies"),
        (("ping", "x@no-such-host.invalid"), "'no-such-host.invalid' cannot be resolved"),
        (("ping", "plato@localhost"), "plato@localhost"),
        (("start", "--name", "plato"), "is taken by another node"),
        (("start", "--name", "a@b@c"), "is not a node name"),
        (("start", "--name", "bob", "--join", "plato@short"), "cannot connect"),
        (("start", "--name", "bob@no-such-host.invalid"), "no-such-host.invalid"),
        (("start", "--cookie-file", "/nonexistent"), "there is no cookie file /nonexistent"),
        (("members", "g", "--on", "plato", "--pg2"), 'plato@127.0.0.1 has no pg2 group "g"'),
        (("epmd", "--port", str(erlmesh.port)), "is taken"),
        (("epmd", "--port", "99999"), "1 to 65535"),
    ]:
        code, _, err = erlmesh.run(*arguments)
        assert code in (1, 2), arguments
        assert text in err, arguments
        assert "Traceback" not in err


def test_an_epmd_port_that_another_program_uses_is_named(erlmesh):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        code, _, err = erlmesh.run("start", "--name", "bob", ERL_EPMD_PORT=port)

    assert code == 1
    assert port in err


def test_without_a_cookie_a_command_says_how_to_make_one(erlmesh):
    code, _, err = erlmesh.run("shell", ERLMESH_COOKIE_FILE="")

    assert code == 1
    assert ".erlang.cookie" in err


def test_members_prints_the_members_of_the_whole_cluster(erlmesh):
    socrates = erlmesh.start("shell", "--name", "socrates")
    socrates.ask(":pg.join(:g, self)")
    plato = erlmesh.start("shell", "--name", "plato", "--join", "socrates")
    plato.ask(":pg.join(:g, self)")
    plato.until("length(pg.get_members(:g))", "2")

    code, out, err = erlmesh.run("members", ":g", "--on", "plato")

    assert (code, err) == (0, "")
    assert sorted(line.split()[0] for line in out.splitlines()) == ["plato@127.0.0.1", "socrates@127.0.0.1"]
    assert erlmesh.run("members", "missing", "--on", ":plato")[:2] == (1, "")
    assert plato.ask("Node.list") == '[:"socrates@127.0.0.1"]'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_started_node_stops_at_a_signal(erlmesh, number):
    plato = erlmesh.start("start", "--name", "plato")
    plato.wait_for("is up")

    plato.process.send_signal(number)

    assert plato.process.wait(timeout=60) == 0


def test_verbose_logs_nodes_that_connect_and_disconnect(erlmesh):
    plato = erlmesh.start("start", "--name", "plato", "--verbose")
    plato.wait_for("is up")

    erlmesh.run("shell", "--name", "socrates", "--join", "plato")

    assert "socrates@127.0.0.1" in plato.wait_for("connected with")
    assert "socrates@127.0.0.1" in plato.wait_for("lost")


def test_epmd_runs_alone_and_lists_names(erlmesh):
    epmd = erlmesh.start("epmd", "--address", "127.0.0.1")
    assert epmd.line() == f"EPMD is up on port {erlmesh.port}"
    erlmesh.start("start", "--name", "plato").wait_for("is up")

    assert erlmesh.run("epmd", "--names")[1].startswith("plato at port ")
    epmd.process.send_signal(signal.SIGTERM)
    assert epmd.process.wait(timeout=60) == 0


def test_listing_names_without_an_epmd_is_an_error(erlmesh):
    code, _, err = erlmesh.run("epmd", "--names")

    assert code == 1
    assert "no EPMD answers" in err


def test_the_demo_succeeds(erlmesh):
    code, out, err = erlmesh.run("demo", "--without-elixir")

    assert code == 0, out + err
    assert "✗" not in out
    assert out.count("✓") >= 10


@pytest.mark.otp
def test_the_demo_succeeds_with_a_real_elixir(erlmesh):
    if shutil.which("iex") is None:
        skip_or_fail("Elixir is not installed")
    code, out, err = erlmesh.run("demo")

    assert code == 0, out + err
    assert "Elixir is in the mesh" in out


def test_a_demo_that_is_interrupted_leaves_nothing_behind(erlmesh):
    demo = erlmesh.start("demo")
    demo.wait_for("Node.self")
    shells = children(demo.process.pid)

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(timeout=60) == 130
    assert len(shells) >= 3
    assert not [pid for pid in shells if Path(f"/proc/{pid}").exists()]


def children(pid):
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
