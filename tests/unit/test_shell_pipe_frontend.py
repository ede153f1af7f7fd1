"""The shell behind a pipe."""

import asyncio
import io

from shell_harness import open_shells

from erlmesh.shell import pipe_frontend


def piped(text):
    async def body():
        async with asyncio.timeout(20), open_shells("socrates") as (lab,):
            await pipe_frontend.run(lab.session, source=io.StringIO(text))
            return lab.output.getvalue(), lab.err.getvalue(), lab.session.exit_code

    return asyncio.run(body())


def test_results_go_to_stdout_and_errors_to_stderr_and_nothing_is_echoed():
    out, err, left = piped("1 + 1\n1/0\n:ok\n")

    assert out == "2\n:ok\n"
    assert err == "** (ZeroDivisionError) division by zero\n"
    assert left is None


def test_the_last_line_needs_no_end():
    assert piped("1\n2")[0] == "1\n2\n"


def test_a_statement_ends_where_its_lines_end():
    out, err, _ = piped("def f(x):\n    y = x\n    return y\nf(1)\nif f(0):\n    3\nelse:\n    print(4)\nf(5)\n")

    assert (out, err) == ("1\n5\n", "")


def test_an_empty_line_ends_a_statement():
    assert piped("for x in (1, 2):\n    last = x\n\nlast\n")[0] == "2\n"


def test_elixirs_lines_may_go_on():
    assert piped("send(self, {:a,\n  :b})\n{:ok,\n1}\n")[0] == "{:a, :b}\n{:ok, 1}\n"


def test_what_is_unfinished_at_the_end_is_an_error():
    out, err, _ = piped("1\n(2,\n")

    assert out == "1\n"
    assert err.startswith("** (SyntaxError) the line ends too early")


def test_after_leaving_nothing_more_is_read():
    out, _, left = piped("1\nexit()\n2\n")

    assert out == "1\n"
    assert left == 0


def test_windows_line_ends_are_line_ends():
    assert piped("1\r\n:ok\r\n")[0] == "1\n:ok\n"
