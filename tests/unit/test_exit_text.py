"""Exit reasons as one line of text."""

import pytest
from test_gen_server_class import with_node

from erlmesh import Atom, CalleeExited, Exit, GenServer, Map, ProcessStartError, Supervisor
from erlmesh.behaviours.child_spec import ChildSpec
from erlmesh.terms.exit_text import MAX_REASON_LENGTH, format_reason

LINE = [(Atom("file"), [*b"w.ex"]), (Atom("line"), 12)]
FRAME = (Atom("Elixir.Wallet"), Atom("charge"), 2, LINE)
ERLANG_FRAME = (Atom("lists"), Atom("nth"), [5, []], [(Atom("file"), [*b"lists.erl"]), (Atom("line"), 5)])
EXCEPTION = Map({
    Atom("__struct__"): Atom("Elixir.ArgumentError"),
    Atom("__exception__"): True,
    Atom("message"): b"no such\ncoin",
})  # fmt: skip
PYTHON = ((Atom("ValueError"), b"no such coin"), [(Atom("wallet"), Atom("Wallet.charge"), 2, LINE)])


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (Atom("boom"), "boom"),
        ((Atom("shutdown"), 1), "{shutdown,1}"),
        ("plain text", "plain text"),
        (PYTHON, "ValueError: no such coin in wallet:'Wallet.charge'/2 (w.ex, line 12)"),
        ((Atom("badarg"), [ERLANG_FRAME]), "badarg in lists:nth/2 (lists.erl, line 5)"),
        ((EXCEPTION, [FRAME, ERLANG_FRAME]), "** (ArgumentError) no such coin in Wallet.charge/2 (w.ex, line 12)"),
        (((Atom("nocatch"), 7), [FRAME]), "the value 7 was thrown and not caught in Wallet.charge/2 (w.ex, line 12)"),
        (((Atom("KeyError"), b"'a'"), []), "KeyError: 'a'"),
        ((Atom("EXIT"), PYTHON), "ValueError: no such coin in wallet:'Wallet.charge'/2 (w.ex, line 12)"),
        (
            (PYTHON, (Atom("gen_server"), Atom("call"), [Atom("wallet"), 1, 5000])),
            "ValueError: no such coin in wallet:'Wallet.charge'/2 (w.ex, line 12) (exited in gen_server:call/3)",
        ),
        (
            (Atom("noproc"), (Atom("Elixir.GenServer"), Atom("call"), [Atom("wallet"), 1, 5000])),
            "noproc (exited in GenServer.call/3)",
        ),
        (
            (Atom("shutdown"), (Atom("failed_to_start_child"), Atom("a"), (Atom("EXIT"), PYTHON))),
            "the child a did not start: ValueError: no such coin in wallet:'Wallet.charge'/2 (w.ex, line 12)",
        ),
        ((Atom("a"), [1, 2]), "{a,[1,2]}"),
        ((Atom("a"), []), "{a,[]}"),
        ((Atom("a"), b"text"), '{a,<<"text">>}'),
        ((Atom("badarg"), [(Atom("m"), Atom("f"), 1, [(Atom("file"), [-1])])]), "badarg in m:f/1"),
    ],
)  # fmt: skip
def test_a_reason_is_one_readable_line(reason, text):
    assert format_reason(reason) == text


@pytest.mark.parametrize(
    "reason",
    [
        [0] * 1_000_000,
        (Atom("badarg"), [(Atom("m"), Atom("f"), [b"x" * 1_000_000], [])]),
        ((Atom("ValueError"), b"\x1b[31m\n" * 100_000), []),
        ("x" * 1_000_000, [FRAME]),
    ],
    ids=["list", "arguments", "text", "str"],
)
def test_the_text_of_a_hostile_reason_is_short_and_printable(reason):
    text = format_reason(reason)

    assert len(text) <= MAX_REASON_LENGTH + 1
    assert text.isprintable()


def test_a_reason_nested_without_end_is_cut():
    reason = Atom("deep")
    for _ in range(100_000):
        reason = (Atom("EXIT"), reason)

    assert len(format_reason(reason)) <= MAX_REASON_LENGTH + 1


class Fails(GenServer):
    def init(self, when):
        if when == "init":
            raise ValueError("no such coin")

    def handle_call(self, request, caller):
        raise ValueError("no such coin")


@with_node
async def test_errors_show_the_exception_and_not_its_stack_as_a_term(node):
    with pytest.raises(ProcessStartError, match=r"^init failed: ValueError: no such coin in \S+/2 \(\S+, line \d+\)$"):
        await Fails.start(node, "init")
    server = await Fails.start(node, "call")
    with pytest.raises(CalleeExited, match=r" exited before it answered: ValueError: no such coin in \S+/3 \(\S+, "):
        await node.call(server, 1)
    with pytest.raises(
        ProcessStartError, match=r"^init failed: the child x did not start: ValueError: no such coin in"
    ):
        await Supervisor.start(node, [ChildSpec.server(Fails, "init", id=Atom("x"))])


def test_the_text_of_exit_is_its_reason():
    assert str(Exit(PYTHON)).startswith("ValueError: no such coin in wallet:")
    assert str(Exit("why")) == "why"
