r"""What other nodes say, on a terminal and in a log: a name with ``\x1b[2J`` must not clear the screen.

One test for each command that prints names or texts of other nodes, and one that reads all log calls of the source.
"""

import argparse
import ast
import asyncio
import contextlib
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_server_restarts import with_nodes

from erlmesh.cli import bench, connecting, doctor, health, members, output, ping
from erlmesh.cli.commands import run_command
from erlmesh.core.node_names import NodeTable
from erlmesh.doctor.findings import Finding, Status
from erlmesh.errors import ConnectError, ErlmeshError, RemoteError
from erlmesh.shell.display import format_error, format_value
from erlmesh.terms import Atom, Pid
from erlmesh.terms.foreign_text import printable_lines
from erlmesh.testing.loop import run_iterations

SOURCE = Path(__file__).parents[2] / "src" / "erlmesh"
HOSTILE = "evil\x1b[2J\x07\x9b31m\u202e\u2028\r@h"
"""Controls of both kinds, a mark that turns the direction of text, a line separator, and a carriage return."""
SPELT_OUT = r"evil\x1b[2J\x07\x9b31m\u202e\u2028\r@h"


def assert_shown(text, *, lines):
    """``text`` shows the name, and has nothing that a terminal would carry out."""
    assert SPELT_OUT in text
    assert text.count("\n") == lines
    assert text.replace("\n", "").isprintable()


class AnsweringNode:
    """A client whose calls are all answered with the same term."""

    def __init__(self, answer):
        self.answer = answer

    async def call(self, to, request, timeout=5.0):
        return [] if request[2] is Atom("blocked_peers") else self.answer


def client_of(node):
    @contextlib.asynccontextmanager
    async def hidden_client(_options, peer):
        if isinstance(node, Exception):
            raise node
        yield node, peer

    return hidden_client


@pytest.fixture(autouse=True)
def unchanged_log(monkeypatch):
    """Commands run in this process: they must not set up the log of the tests."""
    monkeypatch.setattr("erlmesh.cli.log_setup.configure_log", lambda *_: None)


@pytest.fixture
def ask_for_members(monkeypatch):
    def ask(answer):
        monkeypatch.setattr(members, "hidden_client", client_of(AnsweringNode(answer)))
        question = members._Question(Atom("group"), Atom("pg"))
        return asyncio.run(members._run(argparse.Namespace(on="good@h"), question))

    return ask


def test_members_prints_one_line_for_each_member(ask_for_members, capsys):
    ask_for_members([Pid(Atom(HOSTILE + "\n"), 1, 0, 1), Pid(Atom("good@h"), 2, 0, 1)])

    out = capsys.readouterr().out
    assert_shown(out, lines=2)
    assert out.endswith("good@h <0.2.0>\n")


@pytest.mark.parametrize("failure", [ConnectError, ErlmeshError, ValueError])
def test_the_error_of_a_command_is_printable(failure, monkeypatch, capsys):
    monkeypatch.setattr(members, "hidden_client", client_of(failure(f"{HOSTILE} is not there\nsecond line")))

    assert run_command(["members", "group", "--on", "good@h"]) in (1, 2)
    assert_shown(capsys.readouterr().err, lines=2)


def test_an_answer_of_another_node_is_printable_and_short(ask_for_members, monkeypatch, capsys):
    monkeypatch.setattr(members, "hidden_client", client_of(AnsweringNode((Atom("badrpc"), HOSTILE * 100_000))))

    assert run_command(["members", "group", "--on", "good@h"]) == 1
    error = capsys.readouterr().err
    assert error.replace("\n", "").isprintable()
    assert len(error) < 200_000


def test_ping_prints_why_it_failed(monkeypatch, capsys):
    monkeypatch.setattr(ping, "hidden_client", client_of(ConnectError(HOSTILE)))

    assert run_command(["ping", "good@h"]) == 1
    assert_shown(capsys.readouterr().err, lines=1)


def test_bench_prints_why_it_failed(monkeypatch, capsys):
    monkeypatch.setattr(bench, "hidden_client", client_of(ConnectError(HOSTILE)))

    assert run_command(["bench", "good@h"]) == 1
    assert_shown(capsys.readouterr().err, lines=1)


def test_doctor_prints_findings(monkeypatch, capsys):
    async def diagnose(_target):
        yield Finding("name", Status.FAILED, f"{HOSTILE} answers", explanation=HOSTILE, advice=(HOSTILE,))

    monkeypatch.setattr(doctor, "diagnose", diagnose)

    assert run_command(["doctor", "good@h", "--cookie", "x"]) == 1
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert text.count(r"evil\x1b[2J") == 3

    assert run_command(["doctor", "good@h", "--cookie", "x", "--json"]) == 1
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert json.loads(text)["steps"][0]["summary"] == f"{HOSTILE} answers"


@pytest.mark.parametrize(
    "report",
    [
        {"alive": True, "loop_ms": 1, "blocked_peers": {HOSTILE: 3}},
        {"alive": False, "blocked_by": HOSTILE},
        {"alive": False, "fault": HOSTILE},
    ],
)
def test_health_prints_its_line(report, monkeypatch, capsys):
    monkeypatch.setattr(health, "running_nodes", lambda _name, _timeout: [("good@h", report)])

    run_command(["health"])
    assert_shown(capsys.readouterr().out, lines=1)

    run_command(["health", "--json"])
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_start_prints_why_it_cannot_connect_yet(monkeypatch, capsys):
    class Node:
        internals = SimpleNamespace(keep_connecting=lambda _peer: None)

        async def ping(self, _peer):
            return False

    monkeypatch.setattr(connecting, "connect_failure", lambda _node, peer: f"{peer}: {HOSTILE}")
    asyncio.run(connecting.join_cluster(Node(), ["good@h"]))

    assert_shown(capsys.readouterr().err, lines=1)


def test_the_shell_prints_results_and_errors():
    error = RemoteError(f"{HOSTILE} failed\n    frame", Atom("badarg"), [])

    assert_shown(format_error(error) + "\n", lines=2)
    for value in (Atom(HOSTILE), HOSTILE.encode(), [(Atom(HOSTILE), HOSTILE.encode())], HOSTILE, error):
        assert format_value(value).isprintable()
    assert repr(NodeTable({HOSTILE: 1})).replace("\n", "").isprintable()


def test_a_printable_text_stays_as_it_is():
    assert output.shown("é → ✓\n  second") == printable_lines("é → ✓\n  second") == "é → ✓\n  second"


# The log

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def log_calls():
    """The log calls of the source, as pairs of a place and the call."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            target = ast.unparse(node.func.value)
            is_peer_log = node.func.attr == "write" and target.endswith("peer_log")
            if is_peer_log or (node.func.attr in LEVELS and target in ("log", "_log", "self._log")):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


@pytest.mark.slow
def test_no_log_call_formats_its_text_itself():
    """The text of a log call is a constant: what others say is an argument, so it can be cut and spelt out."""
    formatted = [
        place
        for place, call in log_calls()
        for argument in call.args
        if isinstance(argument, ast.JoinedStr) or ".format(" in ast.unparse(argument)
    ]
    assert len(list(log_calls())) > 60
    assert formatted == []


def test_no_log_call_prints_a_term_with_repr():
    """``%r`` builds the whole text of a term before it is cut, and fails for a term that is nested deeply."""
    assert [place for place, call in log_calls() if re.search(r"%[.\d]*r", ast.unparse(call))] == []


def test_log_lines_that_others_cause_at_the_debug_level_have_a_rate():
    """With ``--verbose``, a peer must not fill the disk."""
    calls = [(place, ast.unparse(call)) for place, call in log_calls()]
    assert [place for place, call in calls if call.startswith("log.debug(") and "ForeignText" in call] == []


@pytest.mark.parametrize("name", ["pg", "pg2", "rex", "net_kernel", "user", "global_name_server", "erlmesh"])
def test_a_service_logs_few_of_many_messages(name, caplog):
    @with_nodes("a@h")
    async def run_test(a):
        caplog.set_level(logging.DEBUG)
        for number in range(1_000):
            a.send(name, (Atom("unknown"), HOSTILE, number))
        await run_iterations()

        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) < 20
        assert all(line.isprintable() for line in lines)

    run_test()
