"""A line of Elixir that the shell cannot read gets one sentence with Python's form."""

import pytest
from shell_harness import with_shell

from erlmesh.shell.elixir_hints import interpolation_hint, operator_hint, syntax_hint
from erlmesh.shell.elixir_syntax import ERLANG_MODULES, hidden

LINES = [
    ("[1, 2] |> Enum.map(f)", "`f(x, y)`"),
    ("for x <- [1, 2], do: x", "`[f(x) for x in xs]`"),
    ("fn x -> x + 1 end", "`lambda x: x + 1`"),
    ("spawn(fn -> send(self, 1) end)", "`lambda x: x + 1`"),
    ("receive do", "`match receive():`"),
    ("case x do\n  {:ok, y} -> y\nend", "`match x:`"),
    ("if true do", "`if x:`"),
    ("if true, do: 1, else: 2", "`a if x else b`"),
    ("unless true do", "`if not x:`"),
    ("cond do", "`elif y:`"),
    ("with {:ok, x} <- f() do", "`match f():`"),
    ("try do", "`try:`"),
    ("&(&1 + 1)", "`lambda x: x + 1`"),
    ("Enum.map(xs, &String.upcase/1)", "`lambda x: x + 1`"),
    ("defmodule Foo do", "no `defmodule`"),
    ("def foo(x), do: x", "`def f(x):`"),
    ("def foo(x) do", "`def f(x):`"),
    ("defp foo(x) do", "`def f(x):`"),
    ("%{map | a: 1}", "`{**map, Atom('a'): 1}`"),
    ("%Foo{a: 1}", "no structs"),
    ('"a" <> "b"', "`a + b`"),
    ("x --- y |", "`a + b`"),
    ("true && false", "`and`"),
    ("!true", "`not`"),
    ("1 === 2", "`==`"),
    ("1..3", "`range(1, 4)`"),
    ("?a", "`ord('a')`"),
    ("~w(a b)", "sigils"),
    ("<<1, 2>>", "`bytes([1, 2])`"),
    ("f.(1)", "`f(x)`"),
    ("[a: 1]", "`[{:a, 1}]`"),
    ("import Foo.Bar, only: [x: 1]", "`from math import sqrt`"),
    ("alias Foo.Bar", "`from math import sqrt`"),
    ("pg:get_members(g).", "`:pg.get_members(:g)`"),
    ("{:ok, x} = f().", "full stop"),
    ("x -> y", "`lambda x: y`"),
    ("{:ok, v} = f()", "`_, x = f()`"),
    (":ok = f()", "`_, x = f()`"),
    ("[h | t] = xs", "`h, *t = xs`"),
    ("%{a: x} = map", "`x = map[:a]`"),
]


@pytest.mark.parametrize(("line", "part"), LINES)
def test_syntax_of_elixir_gets_the_form_of_python(line, part):
    hint = syntax_hint(line)

    assert hint is not None
    assert part in hint


@pytest.mark.parametrize(
    "line",
    [
        "1 +* 2",
        "x = (1 +* 2)",
        "def f(x) -> int",
        "print 5",
        "for i in range(3) print(i)",
        "'|> fn do end' 5",
        "1 2 # |>",
    ],
)
def test_other_mistakes_keep_the_message_of_python(line):
    assert syntax_hint(line) is None


def test_operators_and_strings_that_python_reads_otherwise_are_found():
    assert "`a + b`" in operator_hint("[1] ++ [2]")
    assert operator_hint("[1] + [2]") is None
    assert 'f"{x}"' in interpolation_hint('"a #{x}"')
    assert interpolation_hint('f"#{number}"') is None
    assert interpolation_hint("'#{x}' # \"#{x}\"") is None


@with_shell
async def test_an_error_is_one_line_with_the_hint(shell):
    assert await shell("[1, 2] |> length") == "** (SyntaxError) `x |> f(y)` is `f(x, y)` in Python"
    assert await shell("1 +* 2") == "** (SyntaxError) invalid syntax\n    1 +* 2\n       ^"
    assert (await shell("[1] ++ [2]")).startswith("** (TypeError) `a ++ b` is `a + b` in Python")
    assert (await shell("Enum.map([1], 2)")).startswith(
        "** (NameError) name 'Enum' is not defined: `Enum.map(xs, f)` is `[f(x)"
    )
    assert (await shell(":foo.bar(1)")).endswith(':erpc.call(:"plato@10.0.0.3", :foo, :function, [])')
    assert await shell("whereiz(1)") == "** (NameError) name 'whereiz' is not defined. Did you mean whereis?"
    assert (await shell("Node.pong(:a)")).startswith(
        "** (AttributeError) Node has no function pong. Did you mean ping?"
    )
    assert (
        await shell("pg.join(:g)")
        == "** (TypeError) pg.join(group, pids): missing 1 required positional argument: 'pids'"
    )
    assert (
        await shell('"a #{1}"') == '\'a #{1}\'\n   "#{x}" is plain text here: a string with a value is f"{x}" in Python'
    )


@with_shell
async def test_a_list_has_the_tail_of_elixir_or_the_operator_of_python(shell):
    await shell("x = [1, 2]", "import re")

    assert await shell("[0 | x]") == "[0, 1, 2]"
    assert await shell("[:a, :b | :c]") == "[:a, :b | :c]"
    assert await shell("[:a | [:b | :c]]") == "[:a, :b | :c]"
    assert (await shell("[1, 2 | 3]")).startswith("** (TypeError) [2 | 3] is an improper list in Elixir")
    assert await shell("[1, (2 | 3)]") == "[1, 3]"
    assert await shell("[2 | 3, 1]") == "[3, 1]"
    assert await shell("[re.I | re.M]") == "[re.IGNORECASE|re.MULTILINE]"
    assert await shell("[{1} | {2} | {3}]") == "[{1, 2, 3}]"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("System.halt", "exit() leaves the shell"),
        ("System.halt(0)", "exit() leaves the shell"),
        (":init.stop()", "exit() leaves the shell"),
        ("System.get_env('HOME')", ": `System.get_env(name)` is `os.environ[name]`"),
        ("System.schedulers()", ": Python has other functions. For example, `System.get_env(name)`"),
        ("Enum.random([1])", "`random.choice(xs)`"),
        ("Enum.chunk_every([1], 2)", ": Python has other functions. For example, `Enum.map(xs, f)`"),
        ("IO.puts(1)", "`print(x)`"),
        ("Node.spawn(:plato, IO, :puts, ['x'])", 'the atom of a module of Elixir is :"Elixir.IO" here'),
        ("Node.spawn(:plato, MyApp.Worker, :run, [])", 'is :"Elixir.MyApp.Worker" here'),
        (":erpc.call(:plato, IO, :puts, ['x'])", ':"Elixir.IO"'),
    ],
)
def test_a_hint_is_about_the_function_that_was_typed(line, hint):
    @with_shell
    async def test(shell):
        answer = await shell(line)
        assert hint in answer
        assert "\n" not in answer

    test()


@with_shell
async def test_a_map_is_read_by_an_atom(shell):
    await shell("m = %{a: 1, b: %{c: 2}}", "n = 2")

    assert await shell("m[:a]") == "1"
    assert await shell("m[:b][:c]") == "2"
    assert await shell('m[:"a"]') == "1"
    assert await shell("{:ok, m[:a]}") == "{:ok, 1}"
    assert await shell("m[:missing]") == "nil"
    assert (await shell("m.a")).endswith("`map.a` is `map[:a]` in this shell")
    assert await shell("[1, 2, 3][:n]") == "[1, 2]"
    assert await shell("[[1, 2, 3][:k] for k in [1, 2]]") == "[[1], [1, 2]]"
    assert "name 'a' is not defined" in await shell("[1][:a]")
    assert 'in a function, `map[:a]` is `map[Atom("a")]`' in await shell("def f(m): return m[:a]\n", "f(m)")
    assert "map" not in await shell("m.frobnicate()")


@with_shell
async def test_integers_divide_as_in_elixir(shell):
    assert await shell("[div(7, 2), div(-7, 2), div(7, -2), div(-7, -2)]") == "[3, -3, -3, 3]"
    assert await shell("[rem(7, 2), rem(-7, 2), rem(7, -2), rem(-7, -2)]") == "[1, -1, 1, -1]"
    assert (await shell("div(1, 0)")).startswith("** (ZeroDivisionError)")
    assert await shell("rem(1.0, 2)") == "** (TypeError) div and rem take integers, not 1.0"


@with_shell
async def test_a_call_without_parentheses_is_not_read_as_an_annotation(shell):
    answer = await shell("Node.start :foo")

    assert answer.startswith("{:error, {:already_started, #PID<")
    assert "the node runs already" in answer
    assert (await shell("Node.frobnicate :foo")).startswith("** (AttributeError) Node has no function frobnicate")


@with_shell
async def test_variables_do_not_change_what_lines_of_elixir_mean(shell):
    printed = await shell("self")
    await shell("for pid in [1]: pass\n", "Atom = sys = pg = global_ = 5")

    assert await shell(printed) == printed
    assert await shell("{:ok, %{a: nil}}") == "{:ok, %{a: nil}}"
    assert await shell(":pg.join(:group, #PID<" + printed[5:] + ")") == ":ok"
    assert await shell(":global.whereis_name(:nobody)") == ":undefined"
    assert await shell(":sys.get_state(:pg)") != ""
    assert (await shell(":pg.frobnicate(1)")).startswith("** (AttributeError) pg has no function frobnicate")


@with_shell
async def test_every_name_that_lines_of_elixir_use_is_bound(shell):
    for name in ("Atom", "pid", *ERLANG_MODULES):
        assert shell.session.namespace[hidden(name)] == shell.session.namespace[name]


@with_shell
async def test_a_command_that_a_variable_hides_is_named_and_comes_back(shell):
    await shell("pid = Node = 5")

    assert await shell('pid("0.64.0")') == (
        "** (TypeError) 'int' object is not callable: `pid` is a variable here. `del pid` brings the command back"
    )
    assert (await shell("Node.list")).endswith("`Node` is a variable here. `del Node` brings the command back")
    assert "variable" not in await shell("pid.frobnicate")

    await shell("del pid, Node")

    assert await shell("Node.list") == "[]"
    assert await shell('pid("0.1.0")') == "#PID<0.1.0>"


@with_shell
async def test_a_process_that_does_not_show_its_state_is_an_error(shell):
    answer = await shell(":sys.get_state(:rex)")

    assert answer.startswith("** (ErlangError) {:callback_failed, ")
    assert answer.endswith(": the process does not show its state. i(pid) shows what is known of it")
