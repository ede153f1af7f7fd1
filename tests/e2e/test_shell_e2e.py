"""``erlmesh shell`` in a process of its own: behind a pipe, and on a terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from command import PATIENCE


def test_a_script_in_a_pipe_prints_results_and_ends_with_zero(erlmesh):
    code, out, err = erlmesh.run("shell", "--name", "socrates", stdin="Node.self\n1/0\n:pg2.create(:group)\n")

    assert (code, out) == (0, ':"socrates@127.0.0.1"\n:ok\n')
    assert err == "** (ZeroDivisionError) division by zero\n"


def test_the_exit_code_is_the_one_given(erlmesh):
    assert erlmesh.run("shell", stdin="import sys; sys.exit(3)\n1\n")[:2] == (3, "")
    assert erlmesh.run("shell", stdin="exit()\n1\n")[:2] == (0, "")


@pytest.mark.parametrize("line", ["receive()", "while True: pass", "import time; time.sleep(60)", ""])
def test_sigterm_ends_it_at_once_whatever_it_does(erlmesh, line):
    shell = erlmesh.start("shell", "--name", "socrates")
    shell.ask("1")
    shell.type(f"print('now')\n{line}")
    shell.wait_for("now")
    time.sleep(0.1)  # the line that follows must have begun; nothing tells when

    shell.process.send_signal(signal.SIGTERM)

    assert shell.process.wait(timeout=5) == 0


def test_an_error_in_a_process_is_one_line_without_our_own_frames(erlmesh):
    shell = erlmesh.start("shell", "--name", "socrates")
    shell.ask("def bad():\n    return 1/0\n\n")
    shell.type("spawn(bad)")

    said = shell.wait_for("ZeroDivisionError")
    assert said == "** (ZeroDivisionError) division by zero"
    assert "erlmesh" not in shell.line()


OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """``erlmesh shell`` on a pseudo-terminal."""

    def __init__(self, erlmesh, *arguments, **environment):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, sys.executable, "-m", "erlmesh", "shell", *arguments],
            stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True,
            env={**erlmesh.environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environment},
        )  # fmt: skip
        os.close(slave)
        self.screen = ""

    def press(self, keys):
        os.write(self.master, keys.encode())

    def shows(self, text):
        """Waits until ``text`` has been shown since the last call (colours and cursor movements left out)."""
        deadline = time.monotonic() + PATIENCE
        while text not in (plain := re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", self.screen)):
            assert time.monotonic() < deadline, f"{text!r} is not on the screen: {plain!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.screen += os.read(self.master, 65536).decode(errors="replace")
        self.screen = plain.partition(text)[2]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(erlmesh):
    opened = []

    def open_terminal(*arguments, **environment):
        opened.append(Terminal(erlmesh, *arguments, **environment))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_on_a_terminal_it_prompts_completes_interrupts_and_leaves(terminal):
    pytest.importorskip("prompt_toolkit")
    shell = terminal("--name", "socrates")
    shell.shows("py(socrates@127.0.0.1)1> ")
    shell.press("Node.se\t")
    shell.shows("lf(")
    shell.press(")\r")
    shell.shows(':"socrates@127.0.0.1"')
    shell.shows("2> ")
    shell.press("receive()\r")
    shell.shows("receive()")
    time.sleep(0.1)  # the line must have begun; nothing tells when
    shell.press("\x03")
    shell.shows("** interrupted")
    shell.shows("3> ")
    shell.press("while True: pass\r\r")
    shell.shows("while True")
    time.sleep(0.3)
    shell.press("\x03")
    shell.shows("** interrupted")
    shell.shows("4> ")
    shell.press("\x04")

    assert shell.process.wait(timeout=5) == 0


def test_what_is_printed_meanwhile_stands_above_the_prompt(terminal):
    pytest.importorskip("prompt_toolkit")
    shell = terminal("--name", "socrates")
    shell.shows("1> ")
    shell.press("import asyncio; timer = asyncio.get_running_loop().call_later(0.2, print, 'from' + ' behind')\r")
    shell.shows("2> ")
    shell.press("40 + ")

    shell.shows("from behind")
    shell.shows("2> 40 +")
    shell.press("2\r")
    shell.shows("42")


def test_a_terminal_is_given_back_as_it_was_after_sigterm(terminal):
    import termios

    shell = terminal("--name", "socrates")
    before = termios.tcgetattr(shell.master)
    shell.shows("1> ")

    shell.process.send_signal(signal.SIGTERM)

    assert shell.process.wait(timeout=5) == 0
    assert termios.tcgetattr(shell.master)[:4] == before[:4]


def test_without_prompt_toolkit_a_terminal_has_a_plain_prompt(terminal, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['prompt_toolkit'] = None\n")
    source = os.pathsep.join([str(tmp_path), terminal.__closure__[0].cell_contents.environment["PYTHONPATH"]])
    shell = terminal("--name", "socrates", PYTHONPATH=source)

    shell.shows("1> ")
    shell.press("half a line\x03")
    shell.shows("1> ")
    shell.press("40 + 2\n")
    shell.shows("42")
    shell.shows("2> ")
    shell.press("receive()\n")
    time.sleep(0.1)
    shell.press("\x03")
    shell.shows("** interrupted")
    shell.press("\x04")
    assert shell.process.wait(timeout=5) == 0
