"""What ``erlmesh:functions(Module)`` says of the exposed functions."""

import pytest

from erlmesh import Atom, Process
from erlmesh.errors import RemoteError
from erlmesh.services.rpc.function_docs import MAX_DOC, MAX_FUNCTIONS, describe_functions
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms.atom_names import a


def described(function, **names):
    table = FunctionTable()
    table.add(function, "m", **names)
    return describe_functions(table, "m")


def test_each_arity_has_its_parameters_and_the_documentation():
    def find(key, limit=10, *, strict=False):
        """Find it.

        Slowly.
        """

    assert described(find) == [
        (a.find, 1, [b"key"], b"Find it.\n\nSlowly."),
        (a.find, 2, [b"key", b"limit"], b"Find it.\n\nSlowly."),
    ]


def test_the_process_is_no_parameter_and_a_missing_docstring_is_nil():
    async def serve(me: Process, tag): ...

    assert described(serve, name="serve!") == [(Atom("serve!"), 1, [b"tag"], Atom("nil"))]


def test_further_positional_arguments_are_numbered():
    def every(first, *rest): ...

    assert described(every)[2] == (a.every, 3, [b"first", b"rest1", b"rest2"], Atom("nil"))


def test_another_module_has_no_functions():
    table = FunctionTable()
    table.add(len, "m")

    assert describe_functions(table, "other") == []


def test_the_answer_is_bounded():
    def function(*arguments): ...

    function.__doc__ = "x" * 10 * MAX_DOC + "\ud800"
    table = FunctionTable()
    for number in range(10):
        table.add(function, "m", f"f{number}")

    answer = describe_functions(table, "m")

    assert len(answer) == MAX_FUNCTIONS
    assert len(answer[0][3]) <= MAX_DOC + 3


def test_a_docstring_with_half_a_character_can_be_sent():
    def function(): ...

    function.__doc__ = "half: \ud83d"

    assert described(function)[0][3] == b"half: ?"


def test_the_functions_of_the_node_come_before_its_defaults():
    def old(): ...
    def new():
        """The node's own."""

    defaults = FunctionTable()
    defaults.add(old, "m", "f")
    table = FunctionTable(defaults)
    table.add(new, "m", "f")

    assert describe_functions(table, "m") == [(a.f, 0, [], b"The node's own.")]


async def test_another_node_can_ask(cluster):
    mesh = await cluster(2)
    one, other = mesh

    def length(text):
        """Count."""
        return len(text)

    one.expose(length, as_="words")

    assert await other.rpc(one.name, "erlmesh", "functions", [a.words]) == [(a.length, 1, [b"text"], b"Count.")]
    with pytest.raises(RemoteError, match="badarg"):
        await other.rpc(one.name, "erlmesh", "functions", [b"words"])
