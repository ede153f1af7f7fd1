"""``erlmesh shell`` as a user runs it: on a pipe and on a terminal."""

import os
import signal
import sys
import time

import pytest

from skips import import_or_skip
from terminal import Terminal


def test_a_script_on_a_pipe_prints_results_and_exits_with_zero(erlmesh):
    code, out, err = erlmesh.run("shell", "--name", "socrates", stdin="Node.self\n1/0\n:pg2.create(:group)\n")

    assert (code, out) == (0, ':"socrates@127.0.0.1"\n:ok\n')
    assert err == "** (ZeroDivisionError) division by zero\n"


def test_the_shell_exits_with_the_given_code(erlmesh):
    assert erlmesh.run("shell", stdin="import sys; sys.exit(3)\n1\n")[:2] == (3, "")
    assert erlmesh.run("shell", stdin="exit()\n1\n")[:2] == (0, "")


@pytest.mark.parametrize("line", ["receive()", "while True: pass", "import time; time.sleep(60)", ""])
def test_sigterm_stops_the_shell_at_once_in_any_state(erlmesh, line):
    shell = erlmesh.start("shell", "--name", "socrates")
    shell.ask("1")
    shell.type(f"print('now')\n{line}")
    shell.wait_for("now")
    time.sleep(0.1)  # The next line must have started; there is no event to wait for.

    shell.process.send_signal(signal.SIGTERM)

    assert shell.process.wait(timeout=60) == 0


def test_an_error_in_a_process_is_one_line_without_frames_of_erlmesh(erlmesh):
    shell = erlmesh.start("shell", "--name", "socrates")
    shell.ask("def bad():\n    return 1/0\n\n")
    shell.type("spawn(bad)")

    error = shell.wait_for("ZeroDivisionError")
    assert error == "** (ZeroDivisionError) division by zero"
    assert "erlmesh" not in shell.line()


@pytest.fixture
def terminal(erlmesh):
    opened = []

    def open_terminal(*arguments, **environment):
        command = [sys.executable, "-m", "erlmesh", "shell", *arguments]
        opened.append(Terminal(command, {**erlmesh.environment, "PROMPT_TOOLKIT_NO_CPR": "1", **environment}))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_the_terminal_prompts_completes_interrupts_and_exits(terminal):
    import_or_skip("prompt_toolkit")
    shell = terminal("--name", "socrates")
    shell.wait_for("py(socrates@127.0.0.1)1> ")
    shell.press("Node.sel\t")
    shell.wait_for("f(")
    shell.press(")\r")
    shell.wait_for(':"socrates@127.0.0.1"')
    shell.wait_for("2> ")
    shell.press("receive()\r")
    shell.wait_for("receive()")
    time.sleep(0.1)  # The line must have started; there is no event to wait for.
    shell.press("\x03")
    shell.wait_for("** interrupted")
    shell.wait_for("3> ")
    shell.press("while True: pass\r\r")
    shell.wait_for("while True")
    time.sleep(0.3)
    shell.press("\x03")
    shell.wait_for("** interrupted")
    shell.wait_for("4> ")
    shell.press("\x04")

    assert shell.process.wait(timeout=60) == 0


def test_a_line_of_elixir_gets_a_hint_and_a_table_is_printed_at_a_terminal(terminal):
    import_or_skip("prompt_toolkit")
    shell = terminal("--name", "socrates")
    shell.wait_for("1> ")
    shell.press("receive do\r")
    shell.wait_for("** (SyntaxError) `receive do` is `match receive():` in Python.")
    shell.wait_for("1> ")
    shell.press(":pg.join(:g, self)\r")
    shell.wait_for("2> ")
    shell.press("groups\r")
    shell.wait_for("kind  group  members  nodes       processes")
    shell.wait_for("pg    :g           1  socrates 1  #PID<0.")
    shell.wait_for("3> ")
    shell.press("GenServer.call(:nope, :x)\r")
    shell.wait_for("** (exit) exited in: GenServer.call(:nope, :x, 5000): no process")
    shell.wait_for("4> ")
    shell.press("\x04")

    assert shell.wait_exit() == 0
    assert "Traceback" not in shell.output


def test_output_of_the_background_appears_above_the_prompt(terminal):
    import_or_skip("prompt_toolkit")
    shell = terminal("--name", "socrates")
    shell.wait_for("1> ")
    shell.press("import asyncio; timer = asyncio.get_running_loop().call_later(0.2, print, 'from' + ' behind')\r")
    shell.wait_for("2> ")
    shell.press("40 + ")

    shell.wait_for("from behind")
    shell.wait_for("2> 40 +")
    shell.press("2\r")
    shell.wait_for("42")


def test_sigterm_restores_the_terminal(terminal):
    import termios

    shell = terminal("--name", "socrates")
    before = termios.tcgetattr(shell.master)
    shell.wait_for("1> ")

    shell.process.send_signal(signal.SIGTERM)

    assert shell.process.wait(timeout=60) == 0
    assert termios.tcgetattr(shell.master)[:4] == before[:4]


def test_a_terminal_without_prompt_toolkit_has_a_plain_prompt(terminal, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['prompt_toolkit'] = None\n")
    source = os.pathsep.join([str(tmp_path), terminal.__closure__[0].cell_contents.environment["PYTHONPATH"]])
    shell = terminal("--name", "socrates", PYTHONPATH=source)

    shell.wait_for("1> ")
    shell.press("half a line\x03")
    shell.wait_for("1> ")
    shell.press("40 + 2\n")
    shell.wait_for("42")
    shell.wait_for("2> ")
    shell.press("receive()\n")
    time.sleep(0.1)
    shell.press("\x03")
    shell.wait_for("** interrupted")
    shell.press("\x04")
    assert shell.process.wait(timeout=60) == 0
