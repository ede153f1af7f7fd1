"""Remote calls through rex."""

import pytest
from fake_cluster import Cluster, wait

from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.services.rpc.rex import Rex
from erlmesh.terms import Atom

REX = (Atom("rex"), Atom("a@h"))
CALL, CAST, BADRPC, EXIT, USER = (Atom(word) for word in ("call", "cast", "badrpc", "EXIT", "user"))
LISTS, SUM = Atom("lists"), Atom("sum")


def connected(*functions):
    cluster = Cluster()
    a, b = cluster.node("a@h"), cluster.node("b@h")
    table = FunctionTable()
    for function in functions:
        table.add(function, "lists", "sum")
    Rex(a, table.apply)
    cluster.connect(a, b)
    return cluster, b


def test_features_request_is_answered_with_erpc():
    cluster, b = connected()
    caller = b.process()

    caller.send(REX, (caller.pid, Atom("features_request")))
    cluster.run()

    assert list(caller._mailbox) == [(Atom("features_reply"), Atom("a@h"), [Atom("erpc")])]


@pytest.mark.parametrize("word", ["call", "block_call"])
def test_call_returns_the_value(word):
    cluster, b = connected(sum)

    assert cluster.run(b.call(REX, (Atom(word), LISTS, SUM, [[1, 2]], USER))) == 3


def test_c_node_gets_the_value_as_a_rex_tuple():
    cluster, b = connected(sum)
    caller = b.process()

    caller.send(REX, (caller.pid, (CALL, LISTS, SUM, [[1, 2]], USER)))
    cluster.run()

    assert list(caller._mailbox) == [(Atom("rex"), 3)]


def test_cast_runs_the_function_without_a_reply():
    calls = []
    cluster, b = connected(lambda numbers: calls.append(numbers))  # noqa: PLW0108 - looked up when it is called

    b.process().cast(REX, (CAST, LISTS, SUM, [[1]], USER))
    cluster.run()

    assert calls == [[1]]
    assert len(cluster.sent) == 1


def test_calls_run_concurrently():
    waiting = [True]

    async def slowly(numbers):
        while numbers and waiting:
            await wait()
        return sum(numbers)

    cluster, b = connected(slowly)
    first = cluster.start(b.call(REX, (CALL, LISTS, SUM, [[1]], USER)))

    assert cluster.run(b.call(REX, (CALL, LISTS, SUM, [[]], USER))) == 0
    assert first == []

    waiting.clear()
    cluster.run()

    assert first == [1]


def test_killed_call_process_gives_badrpc():
    called = []

    async def endless(me: "Process"):  # noqa: F821
        called.append(me)
        while True:
            await wait()

    cluster, b = connected(endless)
    answer = cluster.start(b.call(REX, (CALL, LISTS, SUM, [], USER)))
    cluster.run()
    called[0].stop(Atom("killed"))
    cluster.run()

    assert answer == [(BADRPC, (EXIT, Atom("killed")))]


def test_function_that_is_not_exposed_gives_undef():
    cluster, b = connected()

    answer = cluster.run(b.call(REX, (CALL, LISTS, SUM, [[1]], USER)))

    assert answer == (BADRPC, (EXIT, (Atom("undef"), [(LISTS, SUM, [[1]], [])])))


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        (Exit((Atom("shutdown"), 5)), (BADRPC, (EXIT, (Atom("shutdown"), 5)))),
        (Throw(5), 5),
        (Throw((EXIT, 5)), (BADRPC, (EXIT, 5))),
        (ErlangError(Atom("badarg"), []), (BADRPC, (EXIT, (Atom("badarg"), [])))),
    ],
)
def test_exit_throw_and_error_reach_the_caller(raised, answer):
    def fail():
        raise raised

    cluster, b = connected(fail)

    assert cluster.run(b.call(REX, (CALL, LISTS, SUM, [], USER))) == answer


def test_exception_is_logged_and_its_stack_is_returned(caplog):
    cluster, b = connected(lambda: 1 / 0)

    match cluster.run(b.call(REX, (CALL, LISTS, SUM, [], USER))):
        case (Atom("badrpc"), (Atom("EXIT"), (reason, [(module, _, 0, place)]))):
            assert reason == (Atom("ZeroDivisionError"), "division by zero")
            assert module is Atom("test_rex")
            assert place[0] == (Atom("file"), list(b"test_rex.py"))
        case other:
            pytest.fail(f"not understood: {other}")
    assert "lists:sum/0, called from another node, failed" in caplog.text


def test_unknown_call_gets_badarg_and_other_messages_get_no_reply():
    cluster, b = connected(sum)

    b.process().send(REX, (CALL, LISTS))
    b.process().send(REX, Atom("hello"))
    b.process().cast(REX, (CAST, LISTS, SUM, Atom("x"), USER))

    assert cluster.run(b.call(REX, (CALL, LISTS))) == (Atom("error"), Atom("badarg"))
    match cluster.run(b.call(REX, (CALL, "lists", SUM, [], USER))):
        case (Atom("badrpc"), (Atom("EXIT"), (Atom("badarg"), _))):
            pass
        case other:
            pytest.fail(f"not understood: {other}")
