"""The group leader: io requests and their replies."""

import io
import logging
import sys

import pytest
from fake_cluster import Cluster

from erlmesh.services.group_leader import GroupLeader, to_stdout
from erlmesh.services.io_format import MAX_TEXT
from erlmesh.terms import Atom, ImproperList

OK, ERROR, PUT, UNICODE, LATIN1 = (Atom(word) for word in ("ok", "error", "put_chars", "unicode", "latin1"))
IO_LIB, FORMAT, ENOTSUP = Atom("io_lib"), Atom("format"), (Atom("error"), Atom("enotsup"))


class Printing:
    def __init__(self, write=None):
        self.printed = []
        self.cluster = Cluster()
        self.node = self.cluster.node("a@h")
        self.leader = GroupLeader(self.node, write or self.printed.append)
        self.printer = self.node.process()

    def ask(self, request):
        self.printer.send(self.leader.pid, (Atom("io_request"), self.printer.pid, Atom("tag"), request))
        self.cluster.run()
        kind, tag, answer = self.printer._mailbox.popleft()
        assert (kind, tag) == (Atom("io_reply"), Atom("tag"))
        return answer


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ((PUT, UNICODE, "ü\n".encode()), "ü\n"),
        ((PUT, UNICODE, [[252], ImproperList((b"a",), b"b")]), "üab"),
        ((PUT, LATIN1, [b"\xfc"]), "ü"),
        ((PUT, b"\xfc"), "ü"),
        ((PUT, UNICODE, IO_LIB, FORMAT, [b"~p~n", [1]]), "1\n"),
        ((PUT, IO_LIB, FORMAT, [b"~p~n", [1]]), "1\n"),
        ((PUT, UNICODE, IO_LIB, Atom("write"), [[65]]), "[65]"),
        ((Atom("requests"), [(PUT, UNICODE, b"a"), (PUT, UNICODE, b"b")]), "ab"),
    ],
)
def test_printed_text_is_written(request_, text):
    printing = Printing()

    assert printing.ask(request_) is OK
    assert "".join(printing.printed) == text


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ((PUT, UNICODE, 5), (ERROR, PUT)),
        ((PUT, UNICODE, IO_LIB, FORMAT, [b"~p", []]), (ERROR, PUT)),
        ((PUT, UNICODE, Atom("os"), Atom("cmd"), [b"true"]), (ERROR, PUT)),
        ((Atom("get_line"), UNICODE, b"> "), ENOTSUP),
        ((Atom("get_chars"), UNICODE, b"> ", 1), ENOTSUP),
        ((Atom("get_until"), UNICODE, b"> ", IO_LIB, FORMAT, []), ENOTSUP),
        ((Atom("get_geometry"), Atom("columns")), ENOTSUP),
        ((Atom("setopts"), []), OK),
        (Atom("getopts"), [(Atom("binary"), True), (Atom("encoding"), UNICODE)]),
        ((Atom("requests"), [(PUT, UNICODE, 5), (PUT, UNICODE, b"x")]), (ERROR, PUT)),
        (Atom("nonsense"), (ERROR, Atom("request"))),
        ((), (ERROR, Atom("request"))),
    ],
)
def test_other_requests_get_a_reply(request_, answer):
    printing = Printing()

    assert printing.ask(request_) == answer
    assert printing.printed == []


def test_nesting_of_requests_is_limited():
    nested = (PUT, UNICODE, b"x")
    for _ in range(100):
        nested = (Atom("requests"), [nested])
    deep = [b"x"]
    for _ in range(100_000):
        deep = [deep]
    printing = Printing()

    assert printing.ask(nested) == (ERROR, Atom("request"))
    assert printing.ask((PUT, LATIN1, deep)) is OK
    assert printing.printed == ["x"]


def test_the_formats_of_one_request_are_limited_together():
    wide = (PUT, UNICODE, IO_LIB, FORMAT, [b"~9999c" * 100, [120] * 100])
    printing = Printing()

    assert printing.ask((Atom("requests"), [wide] * 20)) is OK
    assert MAX_TEXT <= sum(map(len, printing.printed)) < MAX_TEXT + 100
    printing.printed.clear()
    assert printing.ask(wide) is OK
    assert "".join(printing.printed) == "x" * 999_900


def test_closed_output_gives_an_error_reply():
    stream = io.StringIO()
    stream.close()

    assert Printing(stream.write).ask((PUT, UNICODE, b"x")) == (ERROR, Atom("terminated"))


def test_to_stdout_uses_the_current_stdout_and_escapes_control_characters(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    to_stdout("a\tb\n\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\x9b1A\r\n")

    assert sys.stdout.getvalue() == "a\tb\n\x1b[31mred\x1b[0m \\x1b]0;title\\x07 \\x1b[2J\\x9b1A\r\n"


def test_remote_crash_reports_are_logged_at_debug_level(caplog):
    printing = Printing()
    caplog.set_level(logging.DEBUG, "erlmesh")

    printing.printer.send((Atom("logger_proxy"), Atom("a@h")), (Atom("log"), ERROR, b"Error ~p", [5], {}))
    printing.printer.send((Atom("logger_proxy"), Atom("a@h")), (Atom("log"), ERROR, b"Error ~p", [], {}))
    printing.printer.send((Atom("logger_proxy"), Atom("a@h")), (Atom("log"), ERROR, (Atom("report"), {}), {}))
    printing.printer.send((Atom("logger_proxy"), Atom("a@h")), Atom("garbage"))
    printing.cluster.run()

    assert [record.levelno for record in caplog.records] == [logging.DEBUG] * 3
    assert caplog.messages[0] == "error: Error 5"
