"""The shell on a terminal: keys in, through prompt_toolkit itself."""

import asyncio
import io

import pytest
from shell_harness import open_shells

pytest.importorskip("prompt_toolkit")

from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from erlmesh.shell import terminal_frontend

UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"


def typed(*keys, history=None):
    """Types ``keys``, each once the shell waits for it, then Ctrl-D. Returns what lines printed, and the screen."""

    async def body():
        screen = io.StringIO()
        output = Vt100_Output(screen, lambda: Size(rows=40, columns=100), term="xterm")
        with create_pipe_input() as pipe, create_app_session(input=pipe, output=output):
            async with asyncio.timeout(20), open_shells("socrates") as (lab,):
                front = asyncio.ensure_future(terminal_frontend.run(lab.session, history))
                for key in (*keys, CTRL_D):
                    await settled(front)
                    pipe.send_text(key)
                await front
                return lab.output.getvalue() + lab.err.getvalue(), screen.getvalue()

    return asyncio.run(body())


async def settled(front):
    """Until the prompt has taken all keys and drawn itself."""
    for _ in range(20):
        await asyncio.sleep(0.005)
        if front.done():
            return


def test_a_line_is_run_at_enter():
    out, screen = typed("{:ok, 1 + 1}\r")

    assert out == "{:ok, 2}\n"
    assert "py(socrates@127.0.0.1)1> " in screen
    assert "py(socrates@127.0.0.1)2> " in screen


def test_an_unfinished_line_goes_on_and_an_empty_one_ends_the_statement():
    out, screen = typed("for n in (1, 2):\r", "last = n\r", "\r", "last\r")

    assert out == "2\n"
    assert "..> " in screen


def test_tab_completes():
    assert typed("Node.se" + TAB, ")\r")[0] == ':"socrates@127.0.0.1"\n'


def test_tab_at_the_beginning_of_a_line_indents():
    assert typed("if True:\r" + "\x7f" * 4, TAB, "x = 5\r", "\r", "x\r")[0] == "5\n"


def test_the_last_line_comes_back_with_up():
    assert typed("7\r", UP, "\r")[0] == "7\n7\n"


def test_ctrl_c_drops_the_line_and_keeps_the_shell():
    assert typed("1/0", CTRL_C, "3\r")[0] == "3\n"


def test_two_ctrl_c_at_an_empty_prompt_say_how_to_leave():
    assert "Ctrl-D or exit() leaves" in typed(CTRL_C, CTRL_C)[0]


def test_exit_leaves():
    assert typed("exit\r")[0] == ""


def test_history_is_kept_for_the_next_session_and_for_nobody_else(tmp_path):
    file = tmp_path / "deep" / "socrates@127.0.0.1"

    typed("{:kept, 1}\r", history=file)

    assert typed(UP, "\r", history=file)[0] == "{:kept, 1}\n"
    assert file.stat().st_mode & 0o077 == 0


def test_without_a_place_for_history_the_shell_works(tmp_path):
    (tmp_path / "file").write_text("")

    assert typed("1\r", history=tmp_path / "file" / "impossible")[0] == "1\n"


def test_being_cancelled_ends_the_prompt():
    async def body():
        with (
            create_pipe_input() as pipe,
            create_app_session(input=pipe, output=Vt100_Output(io.StringIO(), lambda: Size(40, 80))),
        ):
            async with asyncio.timeout(20), open_shells("socrates") as (lab,):
                front = asyncio.ensure_future(terminal_frontend.run(lab.session))
                await settled(front)
                front.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await front

    asyncio.run(body())
