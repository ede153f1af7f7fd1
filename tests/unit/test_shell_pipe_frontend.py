"""The shell on a pipe."""

import asyncio
import io

from shell_harness import open_shells

from erlmesh.shell import pipe_frontend


def run_pipe(text):
    async def body():
        async with asyncio.timeout(20), open_shells("socrates") as (shell,):
            await pipe_frontend.run(shell.session, source=io.StringIO(text))
            return shell.output.getvalue(), shell.err.getvalue(), shell.session.exit_code

    return asyncio.run(body())


def test_results_go_to_stdout_errors_to_stderr_and_input_is_not_echoed():
    out, err, exit_code = run_pipe("1 + 1\n1/0\n:ok\n")

    assert out == "2\n:ok\n"
    assert err == "** (ZeroDivisionError) division by zero\n"
    assert exit_code is None


def test_the_last_line_needs_no_newline():
    assert run_pipe("1\n2")[0] == "1\n2\n"


def test_a_statement_ends_at_the_first_line_that_is_not_part_of_it():
    out, err, _ = run_pipe("def f(x):\n    y = x\n    return y\nf(1)\nif f(0):\n    3\nelse:\n    print(4)\nf(5)\n")

    assert (out, err) == ("1\n5\n", "")


def test_an_empty_line_ends_a_statement():
    assert run_pipe("for x in (1, 2):\n    last = x\n\nlast\n")[0] == "2\n"


def test_elixir_syntax_may_span_several_lines():
    assert run_pipe("send(self, {:a,\n  :b})\n{:ok,\n1}\n")[0] == "{:a, :b}\n{:ok, 1}\n"


def test_an_unfinished_statement_at_the_end_of_input_is_an_error():
    out, err, _ = run_pipe("1\n(2,\n")

    assert out == "1\n"
    assert err.startswith("** (SyntaxError) the line ends too early")


def test_no_line_is_read_after_exit():
    out, _, exit_code = run_pipe("1\nexit()\n2\n")

    assert out == "1\n"
    assert exit_code == 0


def test_windows_line_endings_are_accepted():
    assert run_pipe("1\r\n:ok\r\n")[0] == "1\n:ok\n"
