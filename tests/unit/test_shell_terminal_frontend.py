"""The shell on a terminal: keys go through prompt_toolkit itself."""

import asyncio
import io

import pytest
from shell_harness import open_shells

from skips import import_or_skip

create_app_session = import_or_skip("prompt_toolkit.application").create_app_session
Size = import_or_skip("prompt_toolkit.data_structures").Size
create_pipe_input = import_or_skip("prompt_toolkit.input").create_pipe_input
Vt100_Output = import_or_skip("prompt_toolkit.output.vt100").Vt100_Output
terminal_frontend = import_or_skip("erlmesh.shell.terminal_frontend")  # it imports prompt_toolkit

UP, TAB, CTRL_C, CTRL_D = "\x1b[A", "\t", "\x03", "\x04"


def type_keys(*keys, history=None):
    """Type ``keys``, each when the prompt is idle, then Ctrl-D. Return the output of the lines, and the screen."""

    async def body():
        screen = io.StringIO()
        output = Vt100_Output(screen, lambda: Size(rows=40, columns=100), term="xterm")
        with create_pipe_input() as pipe, create_app_session(input=pipe, output=output):
            async with asyncio.timeout(20), open_shells("socrates") as (shell,):
                prompt_task = asyncio.ensure_future(terminal_frontend.run(shell.session, history))
                for key in (*keys, CTRL_D):
                    await until_idle(prompt_task)
                    pipe.send_text(key)
                await prompt_task
                return shell.output.getvalue() + shell.err.getvalue(), screen.getvalue()

    return asyncio.run(body())


async def until_idle(prompt_task):
    """Wait until the prompt has processed all keys and drawn itself."""
    for _ in range(20):
        await asyncio.sleep(0.005)
        if prompt_task.done():
            return


def test_enter_runs_a_line():
    out, screen = type_keys("{:ok, 1 + 1}\r")

    assert out == "{:ok, 2}\n"
    assert "py(socrates@127.0.0.1)1> " in screen
    assert "py(socrates@127.0.0.1)2> " in screen


def test_an_unfinished_line_continues_and_an_empty_line_ends_the_statement():
    out, screen = type_keys("for n in (1, 2):\r", "last = n\r", "\r", "last\r")

    assert out == "2\n"
    assert "..> " in screen


def test_tab_completes():
    assert type_keys("Node.sel" + TAB, ")\r")[0] == ':"socrates@127.0.0.1"\n'


def test_tab_at_the_beginning_of_a_line_indents():
    assert type_keys("if True:\r" + "\x7f" * 4, TAB, "x = 5\r", "\r", "x\r")[0] == "5\n"


def test_up_recalls_the_last_line():
    assert type_keys("7\r", UP, "\r")[0] == "7\n7\n"


def test_ctrl_c_discards_the_line_and_keeps_the_shell():
    assert type_keys("1/0", CTRL_C, "3\r")[0] == "3\n"


def test_a_second_ctrl_c_prints_how_to_leave():
    assert "Ctrl-D or exit() leaves" in type_keys(CTRL_C, CTRL_C)[0]


def test_exit_leaves_the_shell():
    assert type_keys("exit\r")[0] == ""


def test_history_is_stored_readable_by_the_user_only(tmp_path):
    file = tmp_path / "deep" / "socrates@127.0.0.1"

    type_keys("{:kept, 1}\r", history=file)

    assert type_keys(UP, "\r", history=file)[0] == "{:kept, 1}\n"
    assert file.stat().st_mode & 0o077 == 0


def test_the_shell_works_without_a_writable_history_file(tmp_path):
    (tmp_path / "file").write_text("")

    assert type_keys("1\r", history=tmp_path / "file" / "impossible")[0] == "1\n"


def test_cancellation_ends_the_prompt():
    async def body():
        with (
            create_pipe_input() as pipe,
            create_app_session(input=pipe, output=Vt100_Output(io.StringIO(), lambda: Size(40, 80))),
        ):
            async with asyncio.timeout(20), open_shells("socrates") as (shell,):
                prompt_task = asyncio.ensure_future(terminal_frontend.run(shell.session))
                await until_idle(prompt_task)
                prompt_task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await prompt_task

    asyncio.run(body())
