"""Lines become trees: complete or not, Python first, values called and waits awaited."""

import ast

import pytest

from erlmesh.shell.parser import NOT_A_COMMAND, TOP_LEVEL_AWAIT, CommandSyntax, parse

WORDS = {
    "self": CommandSyntax(implicit_call=True),
    "Node.self": CommandSyntax(implicit_call=True),
    "Node.list": CommandSyntax(implicit_call=True),
    "Node.ping": CommandSyntax(implicit_await=True),
    "h": CommandSyntax(quoted_arguments=True),
}


def word(name):
    return WORDS.get(name, NOT_A_COMMAND)


def meaning(typed, *, final=True):
    tree = parse(typed, word, final=final)
    if tree is None:
        return None
    compile(tree, "<test>", "exec", TOP_LEVEL_AWAIT)
    return ast.unparse(tree)


@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "self": "self()",
        "self()": "self()",
        "Node.self": "Node.self()",
        "Node.list[0]": "Node.list()[0]",
        "x = self": "x = self()",
        "self = 3": "self = 3",
        "{:ok, self}": "(Atom('ok'), self())",
        "Node.ping(Node.self)": "await Node.ping(Node.self())",
        "x = Node.ping(1)": "x = await Node.ping(1)",
        "await Node.ping(1)": "await Node.ping(1)",
        "[Node.ping(n) for n in Node.list]": "[await Node.ping(n) for n in Node.list()]",
        "h(self)": "h(self)",
        "lambda self: self.x": "lambda self: self.x",
        "x.self": "x.self",
        "": "",
        "# a remark": "",
    }.items(),
)
def test_values_are_called_and_waits_are_awaited(typed, meant):
    assert meaning(typed) == meant


@pytest.mark.parametrize(
    "source",
    ["def f(self):\n    return self", "class A:\n    def f(self):\n        return self", "x = lambda: Node.ping(1)"],
)
def test_inside_functions_and_classes_pythons_own_rules_hold(source):
    assert meaning(source) == ast.unparse(ast.parse(source))


@pytest.mark.parametrize(
    "typed", ["(1,", "def f():", "'''abc", ":pg.join(:a,", "{:ok,", "@decorated", "if x == :a:", "send(#PID<0.64.0>,"]
)
def test_an_unfinished_line_asks_for_more(typed):
    assert meaning(typed) is None


def test_a_compound_statement_ends_with_an_empty_line_while_more_can_come():
    assert meaning("if True:\n    1", final=False) is None
    assert meaning("if True:\n    1\n", final=False) == "if True:\n    1"
    assert meaning("if True:\n    1", final=True) == "if True:\n    1"


def test_valid_python_keeps_its_meaning():
    assert meaning("{1, 2}") == "{1, 2}"
    assert meaning("x[:n]") == "x[:n]"
    assert meaning("x = 1 #PID<0.1.0>") == "x = 1"


def test_a_command_is_called_and_not_annotated():
    assert meaning('Node.ping :"plato@x"') == "await Node.ping(Atom('plato@x'))"
    assert meaning("x :int") == "x: int"


def test_the_error_is_that_of_the_line_as_it_was_typed():
    with pytest.raises(SyntaxError) as raised:
        parse(":a +* 2", word)

    assert raised.value.text.strip() == ":a +* 2"


@pytest.mark.parametrize("typed", ['"abc', "x = ", "1 +* 2", "\0", "receive do", "a b", "return 1"[:6] + " )"])
def test_nonsense_is_a_syntax_error(typed):
    with pytest.raises(SyntaxError):
        parse(typed, word)
