"""The functions that other nodes may call, and their names."""

import functools
import sys
from types import ModuleType, SimpleNamespace

import pytest

from erlmesh.errors import Undef
from erlmesh.node import Process
from erlmesh.services.rpc import function_table
from erlmesh.services.rpc.function_table import PROCESS_WIDE, FunctionTable, expose
from erlmesh.terms import Atom
from erlmesh.testing.loop import run_coroutine as run

M, F = Atom("m"), Atom("f")


@pytest.fixture(autouse=True)
def nothing_marked(monkeypatch):
    monkeypatch.setattr(function_table, "PROCESS_WIDE", FunctionTable())


def module(source, name="pack.models"):
    made = ModuleType(name)
    made.__dict__["expose"] = expose
    made.__dict__["Process"] = Process
    exec(source, made.__dict__)
    return made


def apply(functions, name, *arguments, me=SimpleNamespace(alive=True)):  # noqa: B008
    of, _, function = name.partition(":")
    return run(functions.apply(me, Atom(of), Atom(function), arguments))


def test_function_is_found_by_module_name_and_arity():
    functions = FunctionTable()
    functions.add(lambda a, b=2, *, c=3: (a, b, c), "m", "f")

    assert apply(functions, "m:f", 1) == (1, 2, 3)
    assert apply(functions, "m:f", 1, 5) == (1, 5, 3)
    assert functions.names() == [("m", "f", 1), ("m", "f", 2)]
    for wrong in [(), (1, 2, 3)]:
        with pytest.raises(Undef, match=f"m:f/{len(wrong)} is not exposed on this node") as undefined:
            apply(functions, "m:f", *wrong)
        assert undefined.value.stack == [(M, F, list(wrong), [])]


def test_coroutine_functions_are_awaited_and_none_becomes_nil():
    async def f():
        pass

    functions = FunctionTable()
    functions.add(f, "m")

    assert apply(functions, "m:f") is Atom("nil")


def test_process_parameter_gets_the_process_and_is_not_counted():
    def by_class(me: Process, x):
        return me, x

    def by_name(me: "Process", *rest):
        return me, rest

    def other(me: SimpleNamespace):
        return me

    functions, me = FunctionTable(), object()
    for function in (by_class, by_name, other):
        functions.add(function, "m")

    assert apply(functions, "m:by_class", 1, me=me) == (me, 1)
    assert apply(functions, "m:by_name", 1, 2, me=me) == (me, (1, 2))
    assert apply(functions, "m:by_name", me=me) == (me, ())
    assert apply(functions, "m:other", 1, me=me) == 1


def test_functions_that_erlang_cannot_call_raise():
    functions = FunctionTable()

    def demanding(*, keyword):
        return keyword

    with pytest.raises(TypeError, match="keyword argument 'keyword', which Erlang cannot pass"):
        functions.add(demanding, "m")
    with pytest.raises(TypeError, match="only functions"):
        functions.add(5, "m", "f")
    with pytest.raises(ValueError, match="255"):
        functions.add(len, "m", "x" * 256)


def test_taken_name_raises_unless_the_function_is_a_newer_version():
    functions = FunctionTable()
    for edition in (1, 2):
        functions.add(module(f"def f(): return {edition}").f, "models")

    assert apply(functions, "models:f") == 2
    with pytest.raises(ValueError, match="models:f/0 is taken by"):
        functions.add(lambda: 3, "models", "f")


def test_add_module_exposes_all_public_functions():
    functions = FunctionTable()

    functions.add_module(
        module("from os.path import join\ndef f(): return 1\ndef _g(): return 2\nclass C: pass\nh = 5")
    )
    functions.add_module(module("__all__ = ['_g']\ndef f(): return 1\ndef _g(): return 2"), "other")

    assert functions.names() == [("models", "f", 0), ("other", "_g", 0)]


def test_add_module_exposes_only_marked_functions_if_there_are_any():
    functions = FunctionTable()

    functions.add_module(
        module("@expose\ndef f(): return 1\n@expose(as_='x', name='g!')\ndef _g(): return 2\ndef h(): return 3")
    )

    assert functions.names() == [("models", "f", 0), ("x", "g!", 0)]


def test_only_plain_functions_that_are_not_inline_belong_in_a_thread():
    functions = FunctionTable()
    functions.add_module(
        module(
            "@expose\ndef f(): pass\n@expose(inline=True)\ndef g(): pass\n@expose\nasync def h(): pass\n"
            "@expose\ndef i(me: Process): pass"
        )
    )
    functions.add_module(module("def f(): pass"), "inline", inline=True)

    in_thread = {name: functions.find(Atom(name[0]), Atom(name[1]), name[2]).in_thread for name in functions.names()}

    assert [name for name, is_in_thread in in_thread.items() if is_in_thread] == [("models", "f", 0)]
    assert function_table.PROCESS_WIDE.find(Atom("models"), Atom("g"), 0).in_thread is False


def test_add_module_without_functions_raises():
    with pytest.raises(ValueError, match=r"no public function in pack\.models"):
        FunctionTable().add_module(module("x = 1"))


def test_expose_adds_to_the_process_wide_table_and_returns_the_function():
    marked = module("@expose\ndef f(x): return x")

    assert marked.f(5) == 5
    assert function_table.PROCESS_WIDE.names() == [("models", "f", 1)]

    expose(module("def g(): return 1\ndef h(): return 2"), as_="mine")

    assert function_table.PROCESS_WIDE.names() == [("mine", "g", 0), ("mine", "h", 0), ("models", "f", 1)]


def test_own_table_takes_precedence_over_defaults():
    defaults = FunctionTable()
    functions = FunctionTable(defaults)
    defaults.add(lambda: 1, "m", "f")
    defaults.add(lambda: 1, "m", "g")

    functions.add(lambda: 2, "m", "f")

    assert (apply(functions, "m:f"), apply(functions, "m:g")) == (2, 1)


def test_importing_otp_functions_exposes_nothing():
    import erlmesh.otp_functions

    functions = FunctionTable()

    assert PROCESS_WIDE.find(Atom("timer"), Atom("sleep"), 1) is None
    functions.add_module(sys.modules["erlmesh.otp_functions"])

    assert {key[0] for key in functions.names()} == {"erlang", "gen_server", "net_kernel", "pg", "pg2", "timer"}
    assert erlmesh.otp_functions.EXPOSED.names() == functions.names()


def test_a_callable_without_a_name_needs_one():
    with pytest.raises(TypeError, match="give name="):
        FunctionTable().add(functools.partial(len), "m")


def test_private_parameters_with_a_default_are_not_for_callers():
    table = FunctionTable()

    def run(a, _debug=False, b=1, *rest):
        return a

    def needs(_a, b=1):
        return b

    table.add(run, "m")
    table.add(needs, "m")

    assert [key for key in table.names() if key[1] == "run"] == [("m", "run", 1)]
    assert sorted(key for key in table.names() if key[1] == "needs") == [("m", "needs", 1), ("m", "needs", 2)]
