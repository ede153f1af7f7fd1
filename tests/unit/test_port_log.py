"""The lines that a node under a port writes for the BEAM that started it."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from erlmesh.cli.port_log import MAX_TEXT, record_line

SRC = str(Path(__file__).parents[2] / "src")


@pytest.mark.parametrize(
    ("level", "name"),
    [(5, "debug"), (10, "debug"), (20, "info"), (25, "info"), (30, "warning"), (40, "error"), (50, "critical")],
    ids=str,
)
def test_a_record_has_the_name_of_its_level(level, name):
    assert record_line(level, "model", "text") == f"\x1elog {name} model text"


def test_a_text_of_several_lines_is_one_line():
    assert record_line(logging.INFO, "m", "a\nb\r\\n c") == "\x1elog info m a\\nb\\r\\\\n c"


def test_the_name_of_a_logger_is_one_word():
    assert record_line(logging.INFO, "my log\n", "t") == "\x1elog info mylog t"
    assert record_line(logging.INFO, "m", "\x1eready a 1") == "\x1elog info m ␞ready a 1"  # no event within a record
    assert record_line(logging.INFO, "", "t") == "\x1elog info root t"


def test_a_long_text_is_cut():
    assert len(record_line(logging.INFO, "m", "x" * 10 * MAX_TEXT)) < MAX_TEXT + 100


PROGRAM = """
import logging, sys, threading
from erlmesh.cli.log_setup import configure_log
from erlmesh.cli.port_log import configure_port_log
configure_log(0)
configure_port_log()
logging.getLogger("erlmesh").warning("one of ours")
logging.getLogger("theirs").info("one of theirs")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("theirs").exception("it failed")
print("plain")
thread = threading.Thread(target=lambda: [].pop())
thread.start()
thread.join()
raise ValueError("nobody catches it")
"""


def test_every_log_and_every_uncaught_exception_is_one_line():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": SRC}, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    lines = done.stdout.rstrip("\n").split("\n")
    assert lines[:2] == ["\x1elog warning erlmesh one of ours", "\x1elog info theirs one of theirs"]
    assert lines[2].startswith("\x1elog error theirs it failed\\nTraceback")
    assert lines[2].endswith("ZeroDivisionError: division by zero")
    assert lines[3] == "plain"
    assert [line.split("Error: ")[-1] for line in lines[4:]] == ["pop from empty list", "nobody catches it"]
