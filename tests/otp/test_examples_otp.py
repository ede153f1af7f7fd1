"""The examples that show Elixir, with a real iex. The lines that iex gets are those of the example's header."""

import re
import sys
from pathlib import Path

import pytest

from os_process import OsProcess
from polling import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


def elixir_lines(name):
    """The indented lines after the line that mentions iex, with the nodes' names as they are."""
    header = (EXAMPLES / name).read_text().split('"""')[1]
    return [
        line.strip() for line in re.findall(r"^    (:?\w.*)$", header, re.MULTILINE) if "python examples" not in line
    ]


@pytest.fixture
def example(cluster):
    def start(name, *arguments):
        cluster.start_epmd_once()
        environment = {"ERL_EPMD_PORT": str(cluster.epmd_port), "PYTHONUNBUFFERED": "1"}
        program = OsProcess(name, [sys.executable, str(EXAMPLES / name), *arguments], environment)
        cluster.processes.append(program)
        return program

    return start


def test_elixir_and_python_chat(cluster, example):
    python = example("chat_with_elixir.py", "socrates")
    iex = cluster.iex("diotima", cookie="monster")
    connect, *lines, flush = elixir_lines("chat_with_elixir.py")

    wait_until(lambda: iex.type(connect) == "true")
    for line in lines[:-1]:
        iex.type(line)
    wait_until(lambda: python.logged("* joined: diotima@127.0.0.1"))
    wait_until(lambda: "socrates" in iex.type('for pid <- :pg.get_members("chat"), do: node(pid)'))
    iex.type(lines[-1])
    wait_until(lambda: python.logged("diotima: Hello!"))
    python.write("Welcome!")

    wait_until(lambda: '{:chat, "socrates", "Welcome!"}' in iex.type(flush))


def test_elixir_calls_a_python_model(cluster, example):
    python = example("expose_model.py")
    wait_until(lambda: python.logged("ready"))
    iex = cluster.iex("diotima", cookie="monster")

    assert [iex.type(line) for line in elixir_lines("expose_model.py")] == ["1.5", "[1.0, -1.0]"]
