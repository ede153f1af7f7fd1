"""``erlmesh start --log-format json``: every line of the log is JSON."""

import json

import pytest


def json_lines(process, event):
    """The records up to the first one of that event."""
    records = []
    while (line := process.line()) is not None:
        if line.startswith("{"):
            records.append(json.loads(line))
            if records[-1].get("event") == event:
                return records
    raise AssertionError(f"it ended without the event {event}: {records}")


def test_the_log_is_json_and_also_what_a_command_reports(erlmesh):
    plato = erlmesh.start("start", "--name", "plato", "--log-format", "json", "-v", "--join", "nobody@127.0.0.1")

    records = json_lines(plato, "command_failed")

    assert "cannot connect yet: nobody@127.0.0.1" in records[-1]["message"]
    failed = next(record for record in records if record["event"] == "connect_failed")
    assert (failed["node"], failed["peer"]) == ("plato@127.0.0.1", "nobody@127.0.0.1")


def test_the_variable_does_the_same_and_a_connection_is_an_event(erlmesh):
    plato = erlmesh.start("start", "--name", "plato", "-v", ERLMESH_LOG_FORMAT="json")
    plato.wait_for("is up")

    erlmesh.start("start", "--name", "socrates", "--join", "plato@127.0.0.1")

    (*_, up) = json_lines(plato, "peer_up")
    assert (up["node"], up["peer"]) == ("plato@127.0.0.1", "socrates@127.0.0.1")


def test_lines_of_workers_stay_json_and_name_their_node(erlmesh):
    workers = erlmesh.start("start", "--name", "plato", "--workers", "2", "--log-format", "json", "-v")

    (*_, up) = json_lines(workers, "peer_up")

    assert {up["node"], up["peer"]} == {"plato-1@127.0.0.1", "plato-2@127.0.0.1"}


@pytest.mark.parametrize("arguments", [["--log-format", "xml"], []])
def test_an_unknown_format_is_an_error(erlmesh, arguments):
    code, _, errors = erlmesh.run("start", "--name", "plato", *arguments, ERLMESH_LOG_FORMAT="xml")

    assert code != 0
    assert "is 'xml': it must be text or json" in errors
    assert "Traceback" not in errors
