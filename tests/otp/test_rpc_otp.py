"""Remote calls between Python and real Erlang, in both directions."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager

import pytest

from erlmesh import (
    Atom,
    CalleeExited,
    CallTimeout,
    EncodeError,
    NoConnection,
    Node,
    Process,
    RemoteError,
    RemoteExit,
    RemoteThrow,
)
from polling import run, wait_until, wait_until_async

INFINITY = Atom("infinity")


@asynccontextmanager
async def socrates(**options):
    printed = []
    async with Node("socrates@127.0.0.1", cookie="monster", output=printed.append, **options) as node:
        node.printed = printed
        yield node


# From Python


def test_a_call_returns_the_value(beam, otp):
    async def main():
        async with socrates() as node:
            before = node.internals.processes()
            assert await node.rpc(plato.name, "erlang", "node") == plato.atom
            assert await node.rpc(plato.atom, Atom("lists"), Atom("sum"), [[1, 2, 3]]) == 6
            assert await node.rpc(plato.name, "binary", "copy", ["ab", 3]) == b"ababab"
            assert node.internals.processes() == before

    plato = beam("plato", otp=otp)
    run(main())


@pytest.mark.parametrize(
    ("call", "error", "attribute", "text"),
    [
        (("erlang", "throw", [5]), RemoteThrow, ("value", 5), "erlang:throw/1 on plato@127.0.0.1 threw 5"),
        (("erlang", "exit", [5]), RemoteExit, ("reason", 5), "erlang:exit/1 on plato@127.0.0.1 exited: 5"),
        (
            ("lists", "nth", [5, []]),
            RemoteError,
            ("reason", Atom("function_clause")),
            r"lists:nth/2 on plato@127.0.0.1 failed: function_clause\n    lists:nth\(5,\[\]\) \(lists.erl, line \d+\)",
        ),
        (
            ("no", "such", []),
            RemoteError,
            ("reason", Atom("undef")),
            "there is no function no:such/0 on plato@127.0.0.1",
        ),
    ],
)
def test_a_function_that_does_not_return_raises_an_exception(beam, call, error, attribute, text):
    async def main():
        async with socrates() as node:
            with pytest.raises(error) as raised:
                await node.rpc(plato.name, *call)
        assert getattr(raised.value, attribute[0]) == attribute[1]
        assert re.match(text, str(raised.value))

    plato = beam("plato")
    run(main())


def test_a_call_without_an_answer_gives_the_reason(beam):
    async def main():
        async with socrates() as node:
            of_the_node = len(node.internals._router.monitors)
            with pytest.raises(CallTimeout, match=r"no answer from timer:sleep/1 on plato@127.0.0.1 within 0.1 s"):
                await node.rpc(plato.name, "timer", "sleep", [INFINITY], timeout=0.1)
            with pytest.raises(NoConnection, match="nobody"):
                await node.rpc("nobody@127.0.0.1", "erlang", "node")
            with pytest.raises(EncodeError):
                await node.rpc(plato.name, "erlang", "hd", [object()])
            with pytest.raises(CalleeExited, match="was ended by a signal: killed"):
                await node.rpc(plato.name, "erlang", "apply", [*(await killer(node))])
            lost = node.spawn(lambda me: node.rpc(plato.name, "timer", "sleep", [INFINITY], timeout=None))
            await wait_until_async(lambda: len(node.internals._router.monitors) > of_the_node)
            ends = []
            node.spawn_handler(lambda message: ends.append(message[4])).monitor(lost)
            plato.kill()
            await wait_until_async(lambda: ends)
            assert ends[0][0][0] is Atom("NoConnection")
            assert (len(node.internals._router.spawn_client), len(node.internals._node_process._pending_calls)) == (
                0,
                0,
            )
            await wait_until_async(lambda: len(node.internals._router.monitors) == of_the_node)

    async def killer(node):
        return await plato.eval_async("[fun() -> exit(self(), kill) end, []]")

    plato = beam("plato")
    run(main())


def test_a_call_to_many_nodes_names_the_missing_ones(beam, pynode):
    async def main():
        async with socrates() as node:
            nodes = [plato.name, node.name, aristotle.name, "nobody@127.0.0.1"]
            replies, missing = await node.rpc.multicall(nodes, "erlang", "node")
            assert replies == {name: Atom(name) for name in nodes[:3]}
            assert list(missing) == ["nobody@127.0.0.1"]
            assert isinstance(missing["nobody@127.0.0.1"], NoConnection)

            replies, missing = await node.rpc.multicall(nodes[:3], "erlang", "throw", [1])
            assert replies == {}
            assert [type(why) for why in missing.values()] == [RemoteThrow, RemoteError, RemoteError]

    plato, aristotle = beam("plato"), pynode("aristotle")
    run(main())


def test_a_cast_runs_and_returns_nothing(beam):
    async def main():
        async with socrates() as node:
            node.rpc.cast(plato.name, "erlang", "register", [Atom("cast"), await plato.eval_async("self()")])
            node.rpc.cast("nobody@127.0.0.1", "erlang", "node")
            await wait_until_async(lambda: plato.eval_async("whereis(cast) =:= self()"))

    plato = beam("plato")
    run(main())


def test_remote_processes_are_started_linked_and_monitored(beam, otp):
    async def main():
        async with socrates() as node:
            heard = []

            async def body(me: Process):
                me.trap_exit = True
                linked = await me.spawn_remote(plato.name, "timer", "sleep", [INFINITY], link=True)
                me.exit(linked, Atom("enough"))
                heard.append((await me.receive())[2])
                monitored, ref = await me.spawn_remote(plato.name, "erlang", "exit", [(Atom("done"), 1)], monitor=True)
                heard.append(await me.receive() == (Atom("DOWN"), ref, Atom("process"), monitored, (Atom("done"), 1)))
                _nobody, ref = await me.spawn_remote(plato.name, "no", "such", [1], link=True, monitor=True)
                heard.append([(await me.receive())[-1] for _ in "12"])
                with pytest.raises(NoConnection):
                    await me.spawn_remote("nobody@127.0.0.1", "erlang", "node")
                orphan = await me.spawn_remote(plato.name, "timer", "sleep", [INFINITY], link=True)
                heard.append(orphan)

            node.spawn(body)
            await wait_until_async(lambda: len(heard) == 4, what=f"the end of {heard}")
            undef = (Atom("undef"), [(Atom("no"), Atom("such"), [1], [])])
            assert heard[:3] == [Atom("enough"), True, [undef, undef]]
            assert await plato.eval_async("is_process_alive(P)", P=heard[3])  # its parent ended with normal
            pid = await node.spawn_remote(plato.name, "timer", "sleep", [INFINITY])
            assert pid.node is plato.atom

    plato = beam("plato", otp=otp)
    run(main())


def test_output_of_a_remote_call_is_shown_here(beam, otp):
    async def main():
        async with socrates() as node:
            await node.rpc(plato.name, "io", "put_chars", ["plain ü\n"])
            await node.rpc(plato.name, "io", "format", ["~p ~w ~ts ~5.2.0f~n", [[1, "a"], [65], "ü", 1.5]])
            await node.rpc(plato.name, "io", "format", ["a~nb~n"])
            await node.rpc(plato.name, "io", "nl")
            await node.rpc(plato.name, "io", "write", [(Atom("a"), [65])])
            with pytest.raises(RemoteError):
                await node.rpc(plato.name, "io", "format", ["~p"])
            assert await node.rpc(plato.name, "io", "get_line", [""]) == (Atom("error"), Atom("enotsup"))
            assert await node.rpc(plato.name, "io", "columns") == (Atom("error"), Atom("enotsup"))
            assert await node.rpc(plato.name, "io", "setopts", [[(Atom("encoding"), Atom("unicode"))]]) is Atom("ok")
            assert (Atom("encoding"), Atom("unicode")) in await node.rpc(plato.name, "io", "getopts")
            assert "".join(node.printed) == 'plain ü\n[1,<<"a">>] [65] ü 01.50\na\nb\n\n{a,[65]}'
            assert node.whereis("user") == node.internals.group_leader

    plato = beam("plato", otp=otp)
    run(main())


def test_a_remote_crash_is_not_logged_here(beam, caplog):
    async def main():
        async with socrates() as node:
            await node.spawn_remote(plato.name, "erlang", "error", [Atom("boom")])
            with caplog.at_level("DEBUG", "erlmesh.group_leader"):
                await wait_until_async(lambda: "boom" in caplog.text)
        assert all(record.levelname == "DEBUG" for record in caplog.records if "boom" in record.getMessage())

    plato = beam("plato")
    caplog.set_level("DEBUG", "erlmesh.group_leader")
    run(main())


# From Erlang


FUNCTIONS = """
import asyncio

def inverse(x):
    return 1 / x

def nothing():
    pass

async def wait(me: Process, seconds):
    await asyncio.sleep(seconds)
    return me.pid

async def for_ever():
    ran.append("for_ever")
    try:
        await asyncio.Event().wait()
    finally:
        ran.append("ended")

def fail(kind, value):
    raise {"throw": Throw, "exit": Exit, "error": ErlangError}[kind.name](value)

def no_term():
    return {1, 2}

def note(x):
    ran.append(x)

ran = []
for function in (inverse, nothing, wait, for_ever, fail, no_term, note):
    node.expose(function, as_="models")
"""


@pytest.fixture
def models(pynode):
    node = pynode("socrates")
    node.eval(FUNCTIONS)
    return node


@pytest.fixture
def caller(beam, models, otp):
    caller = beam("plato", otp=otp)
    caller.eval("N = Node, ok", Node=models.atom)
    return caller


@pytest.mark.parametrize("call", ["erpc:call(N, ", "rpc:call(N, ", "rpc:block_call(N, "])
def test_exposed_functions_return_their_value(caller, models, call):
    assert caller.eval(call + "models, inverse, [4])") == 0.25
    assert caller.eval(call + "models, nothing, [])") is Atom("nil")
    assert caller.eval(call + "models, wait, [0])").node is models.atom
    assert caller.eval(call + "erlang, node, [])") is models.atom


CAUGHT = "(fun() -> try CALL of Value -> Value catch Class:Reason -> {Class, Reason} end end)()"


@pytest.mark.parametrize(
    ("arguments", "by_erpc", "by_rpc"),
    [
        ("fail, [throw, 1]", "{throw,1}", "1"),
        ("fail, [exit, 1]", "{exit,{exception,1}}", "{badrpc,{'EXIT',1}}"),
        (
            "nope, [1]",
            "{error,{exception,undef,[{models,nope,[1],[]}]}}",
            "{badrpc,{'EXIT',{undef,[{models,nope,[1],[]}]}}}",
        ),
        (
            "inverse, []",
            "{error,{exception,undef,[{models,inverse,[],[]}]}}",
            "{badrpc,{'EXIT',{undef,[{models,inverse,[],[]}]}}}",
        ),
    ],
)
def test_a_function_that_does_not_return_is_reported_as_in_erlang(caller, arguments, by_erpc, by_rpc):
    assert caller.text(CAUGHT.replace("CALL", f"erpc:call(N, models, {arguments})")) == by_erpc
    for call in ("rpc:call", "rpc:block_call"):
        assert caller.text(CAUGHT.replace("CALL", f"{call}(N, models, {arguments})")) == by_rpc


def test_an_exception_is_an_error_with_the_python_stack(caller):
    text = caller.text(CAUGHT.replace("CALL", "erpc:call(N, models, inverse, [0])"))
    assert re.fullmatch(
        r"\{error,\{exception,\{'ZeroDivisionError',<<\"division by zero\">>\},"
        r"\[\{.*,inverse,1,\[\{file,\"<test>\"\},\{line,\d+\}\]\}\]\}\}",
        text,
    )
    assert "{'EncodeError'," in caller.text(CAUGHT.replace("CALL", "erpc:call(N, models, no_term, [])"))
    assert caller.text(CAUGHT.replace("CALL", "erpc:call(N, models, fail, [error, {bad, 1}])")).startswith(
        "{error,{exception,{bad,1},[{"
    )


def test_every_function_of_rpc_and_erpc_reaches_python(caller, models):
    assert (
        caller.text("erpc:multicall([N, node()], erlang, node, [])")
        == f"[{{ok,'{models.name}'}},{{ok,'{caller.name}'}}]"
    )
    assert caller.text("rpc:multicall([N, node(), 'no@127.0.0.1'], erlang, node, [])") == (
        f"{{['{models.name}','{caller.name}'],['no@127.0.0.1']}}"
    )
    assert caller.eval("rpc:yield(rpc:async_call(N, models, inverse, [2]))") == 0.5
    assert caller.eval("{rex, N} ! {self(), {call, models, inverse, [2], user}}, receive {rex, X} -> X end") == 0.5
    assert caller.text("catch rpc:call(N, models, wait, [5], 100)") == "{badrpc,timeout}"
    caller.eval("erpc:cast(N, models, note, [erpc]), rpc:cast(N, models, note, [rpc])")
    caller.eval("erpc:multicast([N], models, note, [multi]), rpc:eval_everywhere([N], models, note, [every])")
    wait_until(lambda: sorted(map(str, models.eval("ran"))) == ["erpc", "every", "multi", "rpc"])


def test_calls_do_not_wait_for_each_other(caller):
    caller.eval("Slow = [erpc:send_request(N, models, wait, [600]), erpc:send_request(N, models, for_ever, [])]")
    assert caller.eval("Rex = rpc:async_call(N, models, wait, [600]), rpc:block_call(N, models, inverse, [1])") == 1.0


FULL_POOL = """
import threading
released = threading.Event()

def block(number):
    ran.append(number)
    assert released.wait(60)
    return number

node.expose(block, as_="models")
"""


def test_a_call_that_finds_the_queue_of_threads_full_fails_with_overloaded(pynode, beam, otp):
    models = pynode("socrates", expose_threads=1, expose_queue_limit=1)
    models.eval(FUNCTIONS)
    models.eval(FULL_POOL)
    caller = beam("plato", otp=otp)
    caller.eval("N = Node, ok", Node=models.atom)
    caller.eval("First = erpc:send_request(N, models, block, [1])")
    wait_until(lambda: models.eval("ran") == [1])
    caller.eval("Second = erpc:send_request(N, models, block, [2])")
    wait_until(lambda: models.eval("len(node.internals.function_pool._queue)") == 1)

    reason = '{overloaded,<<"all 1 threads are busy, and 1 calls wait for one">>}'
    badrpc = f"{{badrpc,{{'EXIT',{{{reason},[]}}}}}}"
    by_erpc = caller.text(CAUGHT.replace("CALL", "erpc:call(N, models, block, [3])"))
    by_rpc = [caller.text(f"rpc:{call}(N, models, block, [3])") for call in ("call", "block_call")]
    by_gen_call = caller.text("gen_server:call({rex, N}, {call, models, block, [3], group_leader()})")
    caller.eval(
        "erpc:cast(N, models, block, [3]), gen_server:cast({rex, N}, {cast, models, block, [3], group_leader()})"
    )
    wait_until(lambda: models.eval("node.internals.function_pool.refused") == 6)
    models.eval("released.set()")

    assert by_erpc == f"{{error,{{exception,{reason},[]}}}}"
    assert [*by_rpc, by_gen_call] == [badrpc] * 3
    assert caller.eval("{erpc:receive_response(First), erpc:receive_response(Second)}") == (1, 2)
    assert models.eval("ran") == [1, 2]


def test_ending_a_process_cancels_its_function(caller, models):
    caller.eval("{P, R} = spawn_monitor(N, models, for_ever, [])")
    wait_until(lambda: models.eval("ran") == ["for_ever"])

    caller.eval("exit(P, stop)")

    assert caller.eval("receive {'DOWN', R, process, P, Why} -> Why after 5000 -> late end") is Atom("stop")
    wait_until(lambda: models.eval("ran") == ["for_ever", "ended"])


def test_a_linked_process_ends_with_its_parent(caller, models):
    caller.eval("Parent = spawn(fun() -> spawn_link(N, models, for_ever, []), receive X -> exit(X) end end)")
    wait_until(lambda: models.eval("ran") == ["for_ever"])

    caller.eval("Parent ! over")

    wait_until(lambda: models.eval("ran") == ["for_ever", "ended"])


def test_processes_are_started_here_by_every_kind_of_spawn(caller, models):
    down = "receive {{'DOWN', _, process, _, Why{0}}} -> Why{0} after 5000 -> late end"
    assert caller.eval("is_pid(spawn(N, models, wait, [0]))")
    assert caller.eval("spawn_monitor(N, models, wait, [0]), " + down.format(1)) is Atom("normal")
    assert caller.text("spawn_monitor(N, models, nope, [0]), " + down.format(2)) == "{undef,[{models,nope,[0],[]}]}"
    assert caller.text("spawn_monitor(N, fun() -> 1 end), " + down.format(3)).startswith("{undef,[{#Fun<erl_eval")
    assert caller.text("spawn_monitor(N, models, fail, [throw, 1]), " + down.format(4)).startswith("{{nocatch,1},[{")
    assert caller.text("spawn_monitor(N, models, fail, [exit, 1]), " + down.format(5)) == "1"
    caller.eval("process_flag(trap_exit, true), L = spawn_link(N, models, fail, [exit, 2])")
    assert caller.eval("receive {'EXIT', L, W} -> W after 5000 -> late end") == 2
    request = (
        "Ref = spawn_request(N, models, wait, [0], [monitor, link]), receive {spawn_reply, Ref, ok, Pid} -> ok end"
    )
    assert caller.eval(request + ", receive {'DOWN', Ref, process, Pid, Y} -> Y after 5000 -> late end") is Atom(
        "normal"
    )
    assert caller.eval("erlang:spawn_opt(N, models, note, [opt], [link, {priority, low}]) =/= x")
    wait_until(lambda: models.eval("ran") == [Atom("opt")])


def test_an_external_fun_of_an_exposed_function_may_be_called(caller):
    assert caller.eval("erpc:call(N, erlang, apply, [fun models:inverse/1, [4]])") == 0.25
    assert caller.text(CAUGHT.replace("CALL", "erpc:call(N, erlang, apply, [fun os:cmd/1, [[]]])")).startswith(
        "{error,{exception,undef,[{os,cmd,[[]],[]}]"
    )


@pytest.mark.parametrize(
    "call", ['os, cmd, ["true"]', 'builtins, eval, [<<"1">>]', "erlmesh, expose, []", "'os.path', exists, [<<>>]"]
)
def test_only_exposed_functions_can_be_called(caller, call):
    assert "undef" in caller.text(CAUGHT.replace("CALL", f"erpc:call(N, {call})"))


def test_a_large_result_arrives_complete(caller, models):
    models.eval("node.expose(lambda n: bytes(n), as_='models', name='zeros')")

    assert caller.eval("byte_size(erpc:call(N, models, zeros, [16777216]))", timeout=60) == 16777216


def test_a_call_fails_in_erlang_when_its_node_is_killed(caller, models):
    key = caller.eval("Key = erpc:send_request(N, models, for_ever, []), ok")
    wait_until(lambda: models.eval("ran") == ["for_ever"])
    assert key is Atom("ok")

    models.kill()

    assert caller.text(CAUGHT.replace("CALL", "erpc:receive_response(Key)")) == "{error,{erpc,noconnection}}"


def test_output_of_an_elixir_call_is_shown_in_the_shell(cluster, otp):
    cluster.iex("plato", otp=otp)
    socrates = cluster.shell("socrates")
    assert socrates.type('Node.ping(:"plato@127.0.0.1")') == ":pong"

    shown = socrates.type('rpc.call(:"plato@127.0.0.1", Atom("Elixir.IO"), :puts, ["hello from elixir"])')

    assert shown.splitlines() == ["hello from elixir", ":ok"]
