"""Lines are parsed to trees: completeness, Python first, implicit calls and implicit await."""

import ast

import pytest

from erlmesh.shell.parser import NOT_A_COMMAND, TOP_LEVEL_AWAIT, CommandSyntax, parse

SYNTAX = {
    "self": CommandSyntax(implicit_call=True),
    "Node.self": CommandSyntax(implicit_call=True),
    "Node.list": CommandSyntax(implicit_call=True),
    "Node.ping": CommandSyntax(implicit_await=True),
    "h": CommandSyntax(quoted_arguments=True),
}


def syntax_of(name):
    return SYNTAX.get(name, NOT_A_COMMAND)


def parsed(typed, *, final=True):
    tree = parse(typed, syntax_of, final=final)
    if tree is None:
        return None
    compile(tree, "<test>", "exec", TOP_LEVEL_AWAIT)
    return ast.unparse(tree)


@pytest.mark.parametrize(
    ("typed", "expected"),
    {
        "self": "self()",
        "self()": "self()",
        "Node.self": "Node.self()",
        "Node.list[0]": "Node.list()[0]",
        "x = self": "x = self()",
        "self = 3": "self = 3",
        "{:ok, self}": "(__Atom__('ok'), self())",
        "Node.ping(Node.self)": "await Node.ping(Node.self())",
        "x = Node.ping(1)": "x = await Node.ping(1)",
        "await Node.ping(1)": "await Node.ping(1)",
        "[Node.ping(n) for n in Node.list]": "[await Node.ping(n) for n in Node.list()]",
        "h(self)": "h(self)",
        "lambda self: self.x": "lambda self: self.x",
        "x.self": "x.self",
        "": "",
        "# a comment": "",
    }.items(),
)
def test_commands_are_called_and_awaited_implicitly(typed, expected):
    assert parsed(typed) == expected


@pytest.mark.parametrize(
    "source",
    ["def f(self):\n    return self", "class A:\n    def f(self):\n        return self", "x = lambda: Node.ping(1)"],
)
def test_functions_and_classes_are_not_rewritten(source):
    assert parsed(source) == ast.unparse(ast.parse(source))


@pytest.mark.parametrize(
    "typed", ["(1,", "def f():", "'''abc", ":pg.join(:a,", "{:ok,", "@decorated", "if x == :a:", "send(#PID<0.64.0>,"]
)
def test_an_unfinished_line_needs_more_lines(typed):
    assert parsed(typed) is None


def test_a_compound_statement_ends_with_an_empty_line_if_more_input_is_possible():
    assert parsed("if True:\n    1", final=False) is None
    assert parsed("if True:\n    1\n", final=False) == "if True:\n    1"
    assert parsed("if True:\n    1", final=True) == "if True:\n    1"


def test_valid_python_keeps_its_meaning():
    assert parsed("{1, 2}") == "{1, 2}"
    assert parsed("x[1:n]") == "x[1:n]"
    assert parsed("x[:n]") == "__at__(x, 'n', lambda: n)"  # a slice, unless x is a map
    assert parsed("x = 1 #PID<0.1.0>") == "x = 1"


def test_an_annotation_of_a_command_is_parsed_as_a_call():
    assert parsed('Node.ping :"plato@x"') == "await Node.ping(__Atom__('plato@x'))"
    assert parsed("x :int") == "x: int"


def test_a_syntax_error_shows_the_line_as_typed():
    with pytest.raises(SyntaxError) as raised:
        parse(":a +* 2", syntax_of)

    assert raised.value.text.strip() == ":a +* 2"


@pytest.mark.parametrize("typed", ['"abc', "x = ", "1 +* 2", "\0", "receive do", "a b", "return 1"[:6] + " )"])
def test_invalid_lines_raise_a_syntax_error(typed):
    with pytest.raises(SyntaxError):
        parse(typed, syntax_of)
