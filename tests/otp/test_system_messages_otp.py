"""``sys`` and the ``stop`` functions of OTP and of Elixir towards Python processes of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beam import Beam, programs
from erlmesh.terms import Atom

pytestmark = pytest.mark.timeout(120)
OK, VALUE, ERROR, NORMAL = Atom("ok"), Atom("value"), Atom("error"), Atom("normal")
REASON = (Atom("shutdown"), 7)

# `Call` makes a call in a process of its own with a time limit: many of these calls wait with `infinity`.
# `Stop` does the same, and gives the reason with which the called process has ended.
FUNCTIONS = """
    Call = fun(M, F, A) ->
        {Pid, Ref} = spawn_monitor(fun() -> exit({result, try {value, apply(M, F, A)} catch C:R -> {C, R} end}) end),
        receive {'DOWN', Ref, process, Pid, {result, Result}} -> Result
        after 8000 -> exit(Pid, kill), no_answer
        end
    end,
    Stop = fun(P, M, F, A) ->
        Monitor = monitor(process, P),
        Answer = Call(M, F, A),
        receive {'DOWN', Monitor, process, _, Why} -> {Answer, Why} after 8000 -> {Answer, lives} end
    end
"""
BODIES = """
async def loop(me):
    async for message in me:
        pass
async def receives(me):
    while True:
        await me.receive()
async def selects(me):
    await me.receive(lambda message: message == 1)
async def skips(me):
    for _ in range(3):
        node.send(me.pid, 2)
    await me.receive(lambda message: message == 1)
async def sleeps(me):
    await asyncio.sleep(3600)
async def polls(me):
    while True:
        me.receive_nowait()
        await asyncio.sleep(0.01)
async def traps(me):
    me.trap_exit = True
    async for message in me:
        pass
def handler():
    return node.spawn_handler(lambda message: None).pid
"""
KINDS = ["loop", "receives", "selects", "skips", "sleeps", "polls", "traps", "handler"]


def elixir_path(otp: int | None) -> list[str]:
    """Arguments of ``erl`` that make the modules of the Elixir beside this OTP available."""
    own = programs(otp).parent / "root/usr/lib/elixir/lib/elixir/ebin"
    return ["-pa", str(own if own.exists() else Path("/usr/lib/elixir/lib/elixir/ebin"))]


@pytest.fixture
def nodes(cluster, otp):
    beam = cluster.beam("plato", otp=otp, arguments=elixir_path(otp))
    python = cluster.pynode("socrates")
    python.eval(BODIES)
    beam.eval(FUNCTIONS)
    assert beam.ping(python.name)
    return beam, python


def start(python, kind):
    return python.eval("handler()" if kind == "handler" else f"node.spawn({kind})")


def call(beam: Beam, module: str, function: str, *arguments: Any) -> Any:
    return beam.eval(
        "Call(CallM__, CallF__, CallA__)", CallM__=Atom(module), CallF__=Atom(function), CallA__=[*arguments]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_stop_ends_every_process_with_the_reason(nodes, kind):
    beam, python = nodes
    stops = [
        ("gen_server", "stop", REASON, Atom("infinity")),
        ("gen_statem", "stop", REASON, Atom("infinity")),
        ("gen_event", "stop", REASON, Atom("infinity")),
        ("proc_lib", "stop", REASON, Atom("infinity")),
        ("sys", "terminate", REASON),
        ("Elixir.GenServer", "stop", REASON),
        ("Elixir.Agent", "stop", REASON),
        ("Elixir.Supervisor", "stop", REASON),
        ("Elixir.DynamicSupervisor", "stop", REASON),
    ]
    for module, function, *arguments in stops:
        pid = start(python, kind)

        answer = beam.eval(
            "Stop(StopP__, StopM__, StopF__, [StopP__ | StopA__])",
            StopP__=pid,
            StopM__=Atom(module),
            StopF__=Atom(function),
            StopA__=arguments,
        )

        assert answer == ((VALUE, OK), REASON), (module, function)


@pytest.mark.parametrize("kind", KINDS)
def test_every_function_of_sys_is_answered(nodes, kind):
    beam, python = nodes
    pid = start(python, kind)
    statistics, log, get = Atom("statistics"), Atom("log"), Atom("get")

    def sys(function, *arguments):
        verdict, value = call(beam, "sys", function, pid, *arguments)
        assert verdict is VALUE, (function, value)
        return value

    assert [sys(*request) for request in (("suspend",), ("suspend",), ("resume",), ("resume",))] == [OK] * 4
    assert [sys("trace", True), sys("trace", False), sys("no_debug"), sys("log", True)] == [OK] * 4
    assert sys("statistics", get) == (OK, Atom("no_statistics"))
    assert sys("statistics", True) is OK
    taken = int(kind in ("loop", "receives"))
    if taken:
        beam.eval("SysP__ ! hello", SysP__=pid)
    ok, counted = sys("statistics", get)
    assert ok is OK
    assert dict(counted)[Atom("messages_in")] == taken
    assert {name.name for name in dict(counted)} == {
        "start_time", "current_time", "reductions", "messages_in", "messages_out",
    }  # fmt: skip
    assert sys("log", get) == (OK, [(Atom("in"), Atom("hello"))] * taken)
    assert sys("log", Atom("print")) is OK
    assert sys("log_to_file", list(b"/nowhere/at/all")) == (ERROR, Atom("open_file"))
    assert sys("log_to_file", False) is OK
    assert [sys("remove", Atom("f")), sys(log.name, False), sys(statistics.name, False)] == [OK] * 3
    status = sys("get_status")
    assert status[:3] == (Atom("status"), pid, (Atom("module"), Atom("erlmesh")))
    assert status[3][1] is Atom("running")
    assert sys("suspend") is OK
    assert sys("get_status")[3][1] is Atom("suspended")
    assert sys("change_code", Atom("m"), Atom("undefined"), []) is OK
    assert sys("resume") is OK


@pytest.mark.parametrize("kind", KINDS)
def test_state_of_a_plain_process_is_refused_as_a_callback_that_fails(nodes, kind):
    beam, python = nodes
    pid = start(python, kind)

    get = call(beam, "sys", "get_state", pid)
    replace = beam.eval("Call(sys, replace_state, [ReplaceP__, fun(S) -> S end])", ReplaceP__=pid)

    def failed(name):
        return (Atom("callback_failed"), (Atom("erlmesh"), Atom(name)), (ERROR, Atom("undef")))

    assert get == (ERROR, failed("system_get_state"))
    assert replace == (ERROR, failed("system_replace_state"))
    assert python.eval("node.internals.is_alive(P)", P=pid)


def test_services_of_the_node_are_answered_for_and_come_back(nodes):
    beam, python = nodes
    for name in ("rex", "net_kernel", "global_name_server", "pg"):
        before = python.eval("node.whereis(NAME)", NAME=name)

        answer = call(beam, "sys", "get_status", before)

        assert answer[0] is VALUE, name
        assert answer[1][3][1] is Atom("running")
    rex = python.eval("node.whereis('rex')")
    assert call(beam, "gen_server", "stop", rex, Atom("shutdown"), Atom("infinity")) == (VALUE, OK)
    assert python.eval("node.whereis('rex')") not in (None, rex)


def test_process_that_another_node_has_started_is_answered_for(nodes):
    beam, python = nodes
    python.eval("import time; node.expose(lambda seconds: time.sleep(seconds), as_='python', name='sleep')")
    pid = beam.eval("spawn(StartN__, python, sleep, [600])", StartN__=python.atom)

    status = call(beam, "sys", "get_status", pid)

    assert status[0] is VALUE
    answer = beam.eval("Stop(SleepP__, gen_server, stop, [SleepP__, normal, infinity])", SleepP__=pid)
    assert answer == ((VALUE, OK), NORMAL)


# The calls of OTP and of Elixir to any process that wait without a time limit, apart from `stop` (from the sources of
# both: supervisor.erl, gen_event.erl, io.erl, file.erl, Supervisor, DynamicSupervisor, PartitionSupervisor,
# Task.Supervisor, IO). All others go to servers with a fixed name on the caller's own node, or to servers whose answers
# other tests cover: net_kernel, rex, global_name_server, pg.
SPEC = "#{id => x, start => {m, f, []}}"
INFINITE_CALLS = [
    "supervisor:which_children(P)",
    "supervisor:count_children(P)",
    f"supervisor:start_child(P, {SPEC})",
    "supervisor:terminate_child(P, x)",
    "supervisor:restart_child(P, x)",
    "supervisor:delete_child(P, x)",
    "supervisor:get_childspec(P, x)",
    "gen_event:which_handlers(P)",
    "gen_event:add_handler(P, h, [])",
    "gen_event:delete_handler(P, h, [])",
    "gen_event:swap_handler(P, {h, []}, {h, []})",
    "gen_event:call(P, h, what, infinity)",
    "gen_event:sync_notify(P, what)",
    'io:put_chars(P, "text")',
    'io:format(P, "~p~n", [1])',
    'io:get_line(P, "")',
    "io:getopts(P)",
    "io:setopts(P, [binary])",
    "io:columns(P)",
    "file:close(P)",
    "file:read(P, 1)",
    "file:position(P, 0)",
    "file:pread(P, 0, 1)",
    'file:write(P, "text")',
    "file:sync(P)",
    "'Elixir.IO':puts(P, <<\"text\">>)",
    "'Elixir.IO':read(P, line)",
    "'Elixir.Supervisor':which_children(P)",
    "'Elixir.Supervisor':count_children(P)",
    "'Elixir.PartitionSupervisor':which_children(P)",
    "'Elixir.DynamicSupervisor':which_children(P)",
    "'Elixir.DynamicSupervisor':count_children(P)",
    f"'Elixir.DynamicSupervisor':start_child(P, {SPEC})",
    "'Elixir.DynamicSupervisor':terminate_child(P, P)",
    "'Elixir.Task.Supervisor':start_child(P, m, f, [])",
    "'Elixir.Task.Supervisor':async_nolink(P, m, f, [])",
    "'Elixir.Task.Supervisor':children(P)",
]


# `Unanswered` makes all calls at the same time, each in a process of its own, and returns those without an answer.
UNANSWERED = """
    Unanswered = fun(P) ->
        Me = self(),
        Pids = [begin
            Pid = spawn(fun() -> try F(P) catch _:_ -> ok end, Me ! {answered, self()} end),
            {Pid, Source}
        end || {Source, F} <- [CALLS]],
        [Source || {Pid, Source} <- Pids, receive {answered, Pid} -> false after 8000 -> exit(Pid, kill), true end]
    end
"""
BEHAVIOURS = """
from erlmesh import DynamicSupervisor, GenServer, Supervisor
async def unhandled(me):
    async for message in me:
        me.unhandled(message)
"""
SERVICES = ["rex", "net_kernel", "user", "global_group", "global_name_server", "pg", "pg2"]
SERVERS = ["node.spawn(unhandled)", *(f"await {name}.start(node)" for name in ("GenServer", "Supervisor"))]


@pytest.mark.otps(25, 27, 29)
def test_no_call_with_infinity_waits_for_ever(nodes):
    beam, python = nodes
    python.eval(BEHAVIOURS)
    # A fun has no `which_child` of a release that does not have it: the call is an error, which is an answer.
    calls = [*INFINITE_CALLS, "supervisor:which_child(P, x)"]
    funs = ", ".join(f'{{<<"{call.replace(chr(34), chr(39))}">>, fun(P) -> {call} end}}' for call in calls)
    beam.eval(UNANSWERED.replace("CALLS", funs))
    plain = {kind: start(python, kind) for kind in KINDS}
    servers = {source: python.eval(source) for source in [*SERVERS, "await DynamicSupervisor.start(node)"]}
    services = {name: python.eval("node.whereis(N)", N=name) for name in SERVICES}

    for name, pid in (plain | servers | services).items():
        assert beam.eval("Unanswered(InfiniteP__)", InfiniteP__=pid, timeout=60) == [], name
        assert python.eval("node.internals.is_alive(P)", P=pid), name


@pytest.mark.otps(25, 27, 29)
def test_global_group_is_answered(nodes):
    beam, python = nodes
    python.eval("pid = node.spawn(loop)")
    pid = python.eval("pid")
    assert python.eval("await node.global_.register(Atom('of_python'), pid)")
    where = (Atom("node"), python.atom)
    beam.eval("case whereis(global_group) of undefined -> global_group:start(); _ -> ok end")

    def ask(function, *arguments):
        return call(beam, "global_group", function, *arguments)

    assert ask("whereis_name", where, Atom("of_python")) == (VALUE, pid)
    assert ask("whereis_name", where, Atom("nobody")) == (VALUE, Atom("undefined"))
    assert ask("registered_names", where) == (VALUE, [Atom("of_python")])
    assert ask("send", where, Atom("of_python"), 1) == (VALUE, pid)
    badarg = (Atom("badarg"), (Atom("nobody"), 1))
    assert ask("send", where, Atom("nobody"), 1) == (VALUE, badarg)


def test_blocking_handlers_run_in_threads(nodes):
    _, python = nodes
    python.eval(
        """
        import threading, time
        from erlmesh import GenServer, blocking
        release = threading.Event()
        class Model(GenServer):
            @blocking
            def handle_call(self, request, caller):
                release.wait(10)
                return threading.current_thread().name
        """.replace("\n        ", "\n")
    )
    python.eval("server = await Model.start(node)")
    python.eval("call = asyncio.ensure_future(node.call(server, 1, timeout=None))")
    assert python.eval("call.done()") is False  # The node evaluates this while the handler waits.

    python.eval("release.set()")

    assert python.eval("await call").startswith("Model")
