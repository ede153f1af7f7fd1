"""Elixir syntax is translated to Python; Python stays unchanged."""

import ast
import tokenize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh.shell.elixir_syntax import ERLANG_MODULES, has_pid_literal, hidden, translate


def shown(translation):
    """Return a translation with plain names in place of those that a user does not bind."""
    for name in ("Atom", "pid", *ERLANG_MODULES):
        translation = translation.replace(hidden(name), name)
    return translation


TRANSLATIONS = {
    # the post's own lines
    ":pg2.start": "pg2.start",
    ":pg2.create(:group)": 'pg2.create(Atom("group"))',
    ":pg2.join(:group, self)": 'pg2.join(Atom("group"), self)',
    ":pg2.get_members(:group)": 'pg2.get_members(Atom("group"))',
    'Node.ping(:"plato@172.17.0.3")': 'Node.ping(Atom("plato@172.17.0.3"))',
    # atoms
    ":group": 'Atom("group")',
    ":alive?": 'Atom("alive?")',
    ":boom!": 'Atom("boom!")',
    ":plato@host": 'Atom("plato@host")',
    "x = :a": 'x = Atom("a")',
    "x == :a and y != :b": 'x == Atom("a") and y != Atom("b")',
    "a if b else :c": 'a if b else Atom("c")',
    "f(name=:b)": 'f(name=Atom("b"))',
    "[:a, :b]": '[Atom("a"), Atom("b")]',
    ":a; :b": 'Atom("a"); Atom("b")',
    "if x == :a:": 'if x == Atom("a"):',
    "x: int = :a": 'x: int = Atom("a")',
    "lambda: :ok": 'lambda: Atom("ok")',
    "f(\n  :a,\n  :b)": 'f(\n  Atom("a"),\n  Atom("b"))',
    # modules
    ":global.whereis_name(:x)": 'global_.whereis_name(Atom("x"))',
    # tuples
    "{:ok, x}": '(Atom("ok"), x,)',
    "{:ok}": '(Atom("ok"),)',
    "{:ok, }": '(Atom("ok"), )',
    "{1, {2, 3}}": "(1, (2, 3,),)",
    "{}": "()",
    "case {:ok, y}:": 'case (Atom("ok"), y,):',
    # maps
    "%{}": "{}",
    '%{a: 1, "b" => :c, d: %{e: {:f}}}': '{Atom("a"): 1, "b" : Atom("c"), Atom("d"): {Atom("e"): (Atom("f"),)}}',
    # pids
    "#PID<0.64.0>": 'pid("0.64.0")',
    "send(#PID<0.64.0>, :x)": 'send(pid("0.64.0"), Atom("x"))',
    # constants
    "{true, false, nil}": '(True, False, Atom("nil"),)',
    "x.predicate": "x.predicate",
    # names that end in a question mark
    "Process.alive?(p)": "Process.alive(p)",
    # calls without parentheses
    'Node.ping :"plato@x"': 'Node.ping(Atom("plato@x"))',
    "x = Node.ping :plato  # :hi": 'x = Node.ping(Atom("plato"))  # :hi',
    "send pid, {:hello, self}": 'send(pid, (Atom("hello"), self,))',
    ":pg.join :a, self\n:pg.join :b, self": 'pg.join(Atom("a"), self)\npg.join(Atom("b"), self)',
    "Node.ping (:a)": 'Node.ping (Atom("a"))',
}

UNCHANGED = [
    "d[1:n]", "d[a:b]", "d[:n]", "d[::n]", "d[a::n]", 'd["x":n]', '{"a":b}', "{a:b}", "{a: b}", "{k: v for k, v in x}",
    "{v for v in x}",
    "{**a}", "lambda x:x", "lambda:x", "lambda *a:f", "def f(x:int)->int:", "x:int", "else:x", "try:x",
    '":group"',
    "':group {:ok}'", 'f":{x}"', '"""\n:a {:b}\n"""', "# :a {:b} #PID<0.1.0>", "x  # self :a", "a % b",
    'print "x"', "foo bar", "return x", "(y:=x)", "match x:", "x if y else z", "not x", "r'\\:a'",
    "b':a'", "assert x, y", "import a.b as c", "from a.b import c", "a.b is c", "a.b in c", "a.b if c else d",
]  # fmt: skip


@pytest.mark.parametrize("typed", TRANSLATIONS)
def test_elixir_syntax_is_translated_to_python(typed):
    assert shown(translate(typed)) == TRANSLATIONS[typed]


@pytest.mark.parametrize("typed", UNCHANGED)
def test_python_is_not_changed(typed):
    assert translate(typed) == typed


def test_strings_and_slices_next_to_atoms_are_not_changed():
    typed = """f(":a", x[:n], d[a:b], {"k":v}, lambda q:q, :a, {:b, "{:c}"}, ':"d"')  # :e"""

    assert shown(translate(typed)) == (
        """f(":a", x[:n], d[a:b], {"k":v}, lambda q:q, Atom("a"), (Atom("b"), "{:c}",), ':"d"')  # :e"""
    )


def test_a_pid_in_a_string_or_comment_is_not_a_pid_literal():
    assert has_pid_literal("send(#PID<0.1.0>, 1)")
    assert not has_pid_literal('"#PID<0.1.0>"')
    assert not has_pid_literal("x # the one that was #PID<0.1.0>")


atoms = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in ("true", "false", "nil"))
elixir = st.recursive(
    atoms.map(lambda name: (f":{name}", f'Atom("{name}")'))
    | st.integers(0, 99).map(lambda number: (str(number), str(number)))
    | st.text("ab :{}#'[]", max_size=6).map(lambda text: (f'"{text}"', f'"{text}"')),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map(
            lambda parts: (f"{{{', '.join(p[0] for p in parts)}}}", f"({''.join(p[1] + ', ' for p in parts)})")
        )
        | st.lists(inner, max_size=3).map(
            lambda parts: (f"[{', '.join(p[0] for p in parts)}]", f"[{', '.join(p[1] for p in parts)}]")
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(elixir)
def test_nested_tuples_lists_atoms_and_strings_keep_their_meaning(pair):
    elixir_source, python_source = pair

    assert ast.dump(ast.parse(shown(translate(elixir_source)))) == ast.dump(ast.parse(python_source))


@settings(deadline=None)
@given(st.text("ab:{}%()[],.\"' #@?!=\n1\\", max_size=30))
def test_translate_accepts_any_text(text):
    translate(text)


def test_a_module_of_the_standard_library_is_not_changed():
    with tokenize.open(ast.__file__) as file:
        source = file.read()
    changed = [
        (before, after)
        for before, after in zip(source.splitlines(), translate(source).splitlines(), strict=True)
        if before != after and "{" not in before
    ]

    assert changed == []
