"""Say what the Python form of a line of Elixir is. Text in, text out; no I/O.

The shell reads simple lines of Elixir (:mod:`erlmesh.shell.elixir_syntax`), but runs Python. A line with other syntax
of Elixir or Erlang is a syntax error. The functions here find that syntax, and return one sentence about it.
"""

from __future__ import annotations

import re
from typing import Final

from erlmesh.shell.elixir_syntax import code_of, strings_of
from erlmesh.shell.function_hints import missing_function

__all__ = [
    "access_hint",
    "interpolation_hint",
    "mentions_constants",
    "module_hint",
    "module_value_hint",
    "operator_hint",
    "syntax_hint",
]

_PIPE: Final = "`x |> f(y)` is `f(x, y)` in Python"
_LAMBDA: Final = "`fn x -> x + 1 end` is `lambda x: x + 1` in Python"
_MATCH: Final = "`case x do` is `match x:` in Python. Indented lines such as `case {:ok, value}:` follow"
_TASK: Final = "`Task.async(f)` is `asyncio.create_task(f())` in Python, and `Task.await(t)` is `await t`"
_LISTS: Final = "`a ++ b` is `a + b` in Python, and `a -- b` is `[x for x in a if x not in b]`"
_DEF: Final = "`def f(x) do` is `def f(x):` in Python. Indented lines follow, and `return` gives the result"

_RULES: Final = tuple(
    (re.compile(pattern, re.DOTALL), sentence)
    for pattern, sentence in (
        (r"\bTask\.(async|await|yield)", _TASK),
        (r"\brpc\.(async_call|yield|nb_yield)", "`t = asyncio.create_task(erpc.call(…))`, and later `await t`"),
        (r"\|>", _PIPE),
        (r"\bdefmodule\b", "Python has no `defmodule`: type `def f(x):` here, or import a file"),
        (r"\bdefp?\s[^:]*(\bdo\b|\),?\s*do:)|\bdefp\b", _DEF),
        (r"\breceive\s+do\b", "`receive do` is `match receive():` in Python. Then `case {:hello, who}:` follows"),
        (r"\bfor\b.*<-", "`for x <- xs, do: f(x)` is `[f(x) for x in xs]` in Python"),
        (r"\bwith\b.*<-", "`with {:ok, x} <- f() do` is `match f():` in Python. An indented `case {:ok, x}:` follows"),
        (r"\bfn\b", _LAMBDA),
        (r"\bfun\s*\(.*->", "`fun(X) -> X + 1 end` is `lambda x: x + 1` in Python"),
        (r"\bcond\s+do\b", "`cond do` is `if x:`, `elif y:` and `else:` in Python"),
        (r"\bcase\b.*\b(do|of)\b", _MATCH),
        (r"\bunless\b", "`unless x do` is `if not x:` in Python"),
        (r"\bif\b.*\bdo\b", "`if x do` is `if x:` in Python, and `if x, do: a, else: b` is `a if x else b`"),
        (r"\btry\s+do\b|\brescue\b", "`try do` and `rescue` are `try:` and `except Exception as error:` in Python"),
        (r"\bquote\s+do\b|\bunquote\b|\bdefmacro\b", "Python has no macros"),
        (r"%\{[^}|]*\|", "`%{map | a: 1}` is `{**map, Atom('a'): 1}` in Python"),
        (r"%[A-Z_][\w.]*\s*\{", "this shell has no structs, only maps: `%{a: 1}`"),
        (r"(?<![\w)\]}\s&])\s*&\s*[\w({]|&\d", "`&(&1 + 1)` is `lambda x: x + 1` in Python, and `&f/1` is `f`"),
        (r"~[a-zA-Z]\W", "Python has no sigils: `~w(a b)` is `['a', 'b']`, and `~r/a+/` is `re.compile('a+')`"),
        (r"<<|>>", "`<<1, 2>>` is `bytes([1, 2])` in Python"),
        (r"<>", "`a <> b` is `a + b` in Python"),
        (r"\+\+|--", _LISTS),
        (r"===|!==", "`===` and `!==` are `==` and `!=` in Python"),
        (r"=:=|=/=", "`=:=` and `=/=` are `==` and `!=` in Python"),
        (r"=~", "`text =~ pattern` is `re.search(pattern, text)` in Python"),
        (r"&&|\|\||!(?!=)", "`&&`, `||` and `!` are `and`, `or` and `not` in Python"),
        (r"\w\s*\.\.\s*\w", "`1..3` is `range(1, 4)` in Python"),
        (r"(?<![\w)\]}])\?[^\s]", "`?a` is `ord('a')` in Python"),
        (r"\w\.\(", "`f.(x)` is `f(x)` in Python"),
        (r"^\s*(alias|require|use)\s+[A-Z]|^\s*import\s+[A-Z][\w.]*\s*(,|$)",
         "`alias`, `require` and `import` of Elixir are `import` in Python: `from math import sqrt`"),
        (r"^\s*@\w+\s", "a module attribute is a variable in Python: `name = value`"),
        (r"[\[(,]\s*[a-z_]\w*[?!]?:\s", "`[a: 1]` is `[{:a, 1}]` in this shell, and `f(a: 1)` is `f(a=1)`"),
        (r"\^\w", "`^x` in a pattern is `case value if value == x:` in Python"),
        (r"\bwhen\b", "`x when x > 0 ->` is `case x if x > 0:` in Python"),
        (r"\b[a-z]\w*:[a-z]\w*\([^:]*\)\s*\.?\s*$", "`pg:get_members(g)` of Erlang is `:pg.get_members(:g)` here"),
        (r"[)}\]]\s*\.\s*$", "this shell needs no full stop at the end of a line"),
        (r"^\s*\[[^\]]*\|[^\]]*\]\s*=(?!=)", "`[h | t] = xs` is `h, *t = xs` in Python"),
        (r"^\s*%\{.*\}\s*=(?!=)", "`%{a: x} = map` is `x = map[:a]` in this shell"),
        (r"^\s*(\{[^=]*:\w[^=]*\}|:\w+)\s*=(?!=)",
         "`{:ok, x} = f()` is `_, x = f()` in Python, or `match f():`. An indented `case {:ok, x}:` follows"),
        (r"\bend\b", "Python has no `end`: the lines of a block are indented"),
        (r"\bdo\b\s*:?", "Python has no `do`: `:` begins a block, and its lines are indented"),
        (r"<-", "`x <- xs` is `x in xs` in Python: `[f(x) for x in xs]`"),
        (r"->", "`x -> y` is `lambda x: y` in Python, or `case x: y` below `match`"),
    )
)  # fmt: skip
_PYTHON_ARROW: Final = re.compile(r"^\s*(async\s+)?def\b.*->", re.DOTALL)

_MODULES: Final = {
    "Agent": "an agent is a process: `spawn(f)`, or a class of `erlmesh.GenServer`",
    "DynamicSupervisor": "supervisors are classes of `erlmesh.Supervisor`",
    "Code": "`exec(text)` and `import module` run code of Python",
    "DateTime": "`datetime.now(UTC)` in Python, after `from datetime import UTC, datetime`",
    "GenStage": "stages are the classes Consumer and Producer of `erlmesh.gen_stage`",
    "Logger": "Python has the module logging: `from logging import warning`, then `warning(text)`",
    "Map": "`Map.get(map, :key)` is `map[:key]` in Python, and `Map.put(map, :key, 1)` is `{**map, Atom('key'): 1}`",
    "Phoenix": "use `erlmesh.phoenix`: `pubsub = PubSub(node, name)` in a program",
    "ets": "a table of ETS is a dict of Python",
    "timer": "`Process.sleep(ms)` and `Process.send_after(pid, message, ms)` work here",
    "observer": "`observe` opens the map of the cluster in a browser, and `i(pid)` shows a process",
    "Application": "settings are in `os.environ`, after `import os`",
    "Enum": "`Enum.map(xs, f)` is `[f(x) for x in xs]` in Python. See also sorted, sum, len and max",
    "File": "`File.read(path)` is `open(path).read()` in Python",
    "IO": "`IO.puts(x)` and `IO.inspect(x)` are `print(x)` in Python",
    "Integer": "`Integer.to_string(n)` is `str(n)` in Python",
    "Kernel": "its functions are builtins in Python, such as len, max and round",
    "Keyword": "a keyword list is a list of tuples: `[{:a, 1}]`",
    "List": "`List.first(xs)` is `xs[0]` in Python, and `List.delete_at(xs, 0)` is `xs[1:]`",
    "Regex": "`Regex.run(r, text)` is `re.search(r, text)` in Python, after `import re`",
    "Registry": "`Registry.register` is `register(:name, pid)` here, and for groups `pg.join(:group, pid)`",
    "Stream": "a stream is a generator in Python: `(f(x) for x in xs)`",
    "String": "`String.upcase(s)` is `s.upper()` in Python. See also split, strip and replace",
    "Supervisor": "supervisors are classes of `erlmesh.Supervisor`",
    "System": "`System.get_env(name)` is `os.environ[name]` in Python, after `import os`",
    "Task": _TASK,
    "Tuple": "`Tuple.to_list(t)` is `list(t)` in Python",
    "inspect": "`inspect(x)` is `repr(x)` in Python",
    "elem": "`elem(tuple, 0)` is `tuple[0]` in Python",
    "hd": "`hd(xs)` is `xs[0]` in Python",
    "tl": "`tl(xs)` is `xs[1:]` in Python",
    "is_pid": "`is_pid(x)` is `isinstance(x, Pid)` in Python",
    "is_atom": "`is_atom(x)` is `isinstance(x, Atom)` in Python",
    "map_size": "`map_size(map)` is `len(map)` in Python",
    "tuple_size": "`tuple_size(tuple)` is `len(tuple)` in Python",
    "to_string": "`to_string(x)` is `str(x)` in Python",
    "make_ref": "`monitor(pid)` and `Process.send_after(pid, message, ms)` make references",
    "end": "Python has no `end`: the lines of a block are indented",
    "when": "`x when x > 0 ->` is `case x if x > 0:` in Python",
}  # fmt: skip


def syntax_hint(source: str) -> str | None:
    """Return a sentence if ``source``, which is not valid Python, has syntax of Elixir or Erlang; else None."""
    code = code_of(source)
    for pattern, sentence in _RULES:
        if pattern.search(code) and not (pattern.pattern == "->" and _PYTHON_ARROW.match(code)):
            return sentence
    return None


def mentions_constants(source: str) -> bool:
    """Return whether ``true`` or ``false`` of Elixir occurs outside of strings and comments."""
    return re.search(r"(?<![\w.:])(true|false)\b(?!\s*[(=:])", code_of(source)) is not None


def operator_hint(source: str) -> str | None:
    """Return a sentence if ``source`` has an operator of Elixir that Python reads as another one: ``++``, ``--``."""
    return _LISTS if re.search(r"[\])\w\"]\s*(\+\+|--)\s*[\[(\w\"]", code_of(source)) else None


def interpolation_hint(source: str) -> str | None:
    """Return a sentence if a string of ``source`` has ``#{…}``, which Python prints as it is."""
    for text in strings_of(source):
        if re.match(r'[rRbBuU]*"', text) and re.search(r"#\{[^}]*\}", text):
            return '"#{x}" is plain text here: a string with a value is f"{x}" in Python'
    return None


def module_hint(name: str, source: str) -> str | None:
    """Return a sentence about a module or function of Elixir or Erlang that ``source`` names and that is not here."""
    code = code_of(source)
    called = re.findall(rf"(?<![\w.]){re.escape(name)}\.(\w+)", code)
    for function in called:
        if sentence := missing_function(name, function):
            return sentence
    sentence = _MODULES.get(name)
    if sentence is None or not called or not re.search(rf"`{name}\.\w", sentence):
        return sentence
    is_meant = any(f"{name}.{function}" in sentence for function in called)
    return sentence if is_meant else f"Python has other functions. For example, {sentence}"


def module_value_hint(name: str, source: str) -> str | None:
    """Return a sentence if ``source`` passes the module ``name`` of Elixir to a function, as in ``Node.spawn``."""
    code = code_of(source)
    match = re.search(rf"(?<![\w.:]){re.escape(name)}((\.[A-Z]\w*)*)\s*[,)\]}}]", code)
    is_call = re.search(r"\.\s*(spawn\w*|\w*call|cast)\b", code)
    if match is None or not name[0].isupper() or not is_call:
        return None
    return f'the atom of a module of Elixir is :"Elixir.{name}{match.group(1)}" here'


def access_hint(name: str, source: str) -> str | None:
    """Return a sentence if ``source`` reads ``map[:name]`` where the rules of Python apply."""
    if re.search(rf"\w\[:{re.escape(name)}\]", code_of(source)):
        return f'in a function, `map[:{name}]` is `map[Atom("{name}")]`'
    return None
