"""Remote calls by way of rex."""

import pytest
from fake_cluster import Cluster

from erlmesh.errors import Exit, Undef
from erlmesh.services.rex import Rex, nothing_is_exposed
from erlmesh.terms import Atom

REX = (Atom("rex"), Atom("a@h"))
CALL, CAST, BADRPC, EXIT, USER = (Atom(word) for word in ("call", "cast", "badrpc", "EXIT", "user"))
LISTS, SUM = Atom("lists"), Atom("sum")


def met(apply=None):
    cluster = Cluster()
    a, b = cluster.node("a@h"), cluster.node("b@h")
    if apply:
        Rex(a, apply)
    else:
        Rex(a)
    cluster.connect(a, b)
    return cluster, b


def add_up(module, function, arguments):
    if (module, function, len(arguments)) != (LISTS, SUM, 1):
        raise Undef(module.name, function.name, len(arguments))
    return sum(arguments[0])


def test_a_node_that_asks_what_we_can_do_is_told_erpc():
    cluster, b = met()
    asker = b.process()

    asker.send(REX, (asker.pid, Atom("features_request")))
    cluster.run()

    assert list(asker.mailbox) == [(Atom("features_reply"), Atom("a@h"), [Atom("erpc")])]


@pytest.mark.parametrize("word", ["call", "block_call"])
def test_a_call_gets_the_value(word):
    cluster, b = met(add_up)

    assert cluster.run(b.call(REX, (Atom(word), LISTS, SUM, [[1, 2]], USER))) == 3


def test_a_c_node_gets_the_value_in_its_own_form():
    cluster, b = met(add_up)
    caller = b.process()

    caller.send(REX, (caller.pid, (CALL, LISTS, SUM, [[1, 2]], USER)))
    cluster.run()

    assert list(caller.mailbox) == [(Atom("rex"), 3)]


def test_a_cast_calls_and_says_nothing():
    calls = []
    cluster, b = met(lambda *call: calls.append(call))

    b.process().cast(REX, (CAST, LISTS, SUM, [[1]], USER))
    cluster.run()

    assert calls == [(LISTS, SUM, [[1]])]
    assert len(cluster.sent) == 1


def test_nothing_can_be_called_unless_it_is_exposed():
    cluster, b = met()

    answer = cluster.run(b.call(REX, (CALL, LISTS, SUM, [[1]], USER)))

    assert answer == (BADRPC, (EXIT, (Atom("undef"), [(LISTS, SUM, [[1]], [])])))
    with pytest.raises(Undef, match="lists:sum/1 is not exposed on this node"):
        nothing_is_exposed(LISTS, SUM, [[1]])


def test_an_exit_reason_reaches_the_caller():
    def apply(*_):
        raise Exit((Atom("shutdown"), 5))

    cluster, b = met(apply)

    assert cluster.run(b.call(REX, (CALL, LISTS, SUM, [], USER))) == (BADRPC, (EXIT, (Atom("shutdown"), 5)))


def test_a_function_that_fails_is_logged_here_and_named_there(caplog):
    cluster, b = met(lambda *_: 1 / 0)

    answer = cluster.run(b.call(REX, (CALL, LISTS, SUM, [], USER)))

    assert answer == (BADRPC, (EXIT, (Atom("error"), "ZeroDivisionError")))
    assert "lists:sum/0, called from another node, failed" in caplog.text


def test_a_call_that_is_not_understood_gets_an_answer_and_garbage_none():
    cluster, b = met(add_up)

    b.process().send(REX, (CALL, LISTS))
    b.process().send(REX, Atom("hello"))
    b.process().cast(REX, (CAST, LISTS, SUM, Atom("x"), USER))

    assert cluster.run(b.call(REX, (CALL, "lists", SUM, [], USER))) == (Atom("error"), Atom("badarg"))
