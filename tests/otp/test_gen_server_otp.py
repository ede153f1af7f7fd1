"""The class GenServer beside Elixir's: the same requests to both, and the same observations of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(120), pytest.mark.otps(25, 27, 29)]
ELIXIR = (Path(__file__).parent / "counter.ex").read_text()
PYTHON = """
from erlmesh import GenServer, NO_REPLY, Exit
class Counter(GenServer):
    def init(self, start):
        self.count, self._callers = start, []
    async def handle_call(self, request, caller):
        match request:
            case Atom("increment"):
                self.count += 1
                return self.count
            case Atom("get"):
                return self.count
            case Atom("later"):
                self._callers.append(caller)
                return NO_REPLY
            case (Atom("stop"), reason):
                self.stop(reason)
                return Atom("stopping")
            case (Atom("exit"), reason):
                raise Exit(reason)
            case Atom("silent_stop"):
                self.stop(Atom("silent"))
                return NO_REPLY
            case (Atom("continue"), number):
                self.continue_with(number)
                return Atom("ok")
    def handle_cast(self, request):
        match request:
            case Atom("release"):
                while self._callers:
                    self.reply(self._callers.pop(0), self.count)
            case (Atom("set"), number):
                self.count = number
            case Atom("trap"):
                self.me.trap_exit = True
    def handle_info(self, message):
        match message:
            case (Atom("ping"), pid):
                self.me.send(pid, Atom("pong"))
            case (Atom("EXIT"), _, reason):
                self.count = reason
    def handle_continue(self, number):
        self.count = number
"""
# Each is a fun of the server. What it returns must be the same for both servers. `Ends` also gives
# the reason with which a process ends.
PRELUDE = """
    Call = fun(S, R) -> try 'Elixir.GenServer':call(S, R, 5000) catch C:{W, _} -> {C, W} end end,
    Ends = fun(P, F) ->
        R = monitor(process, P), A = F(), receive {'DOWN', R, _, _, W} -> {A, W} after 5000 -> A end
    end,
    Info = fun() -> receive I -> I after 5000 -> nothing end end
"""
# Elixir sets standard_io to binaries; the evaluator of the test reads lists.
COMPILE = """
    {ok, _} = application:ensure_all_started(elixir), 'Elixir.Code':compile_string(Source),
    io:setopts(standard_io, [list])
"""
CASES = {
    "calls and casts in order": """
        [Call(S, increment), 'Elixir.GenServer':cast(S, {set, 7}), Call(S, get), Call(S, increment)]""",
    "a reply that comes later": """
        Me = self(),
        [spawn(fun() -> Me ! {answer, Call(S, later)} end) || _ <- [1, 2]],
        timer:sleep(200), 'Elixir.GenServer':cast(S, release), [Info(), Info()]""",
    "a message that is no call": "S ! {ping, self()}, Info()",
    "a continuation": "[Call(S, {continue, 9}), Call(S, get)]",
    "stop with a reply": """
        [Ends(S1, fun() -> Call(S1, {stop, Why}) end) || {S1, Why} <- With([normal, shutdown, {a, 1}])]""",
    "stop without a reply": "Ends(S, fun() -> Call(S, silent_stop) end)",
    "an exit in a handler": """
        [Ends(S1, fun() -> Call(S1, {exit, Why}) end) || {S1, Why} <- With([normal, {b, [2]}])]""",
    "a call to a process that is gone": "[Ends(S, fun() -> exit(S, kill) end), Call(S, get)]",
    "GenServer.stop": """
        [Ends(S1, fun() -> 'Elixir.GenServer':stop(S1, Why) end) || {S1, Why} <- With([normal, shutdown, {c, 3}])]""",
    "GenServer.stop gives the reason at its end": """
        R1 = monitor(process, S), ok = 'Elixir.GenServer':stop(S, {why, 1}),
        receive {'DOWN', R1, _, _, W1} -> W1 end""",
    "messages before a stop are handled": """
        'Elixir.GenServer':cast(S, {set, 3}), S ! {ping, self()}, [gen_server:stop(S), Info()]""",
    "a suspended server answers sys alone": """
        ok = sys:suspend(S),
        [_, State, _, _, _] = element(4, sys:get_status(S)),
        S ! {ping, self()},
        Early = receive pong -> early after 300 -> waits end,
        ok = sys:resume(S), [State, Early, Info()]""",
    "an exit signal that is not trapped": "[exit(S, normal), Call(S, get), Ends(S, fun() -> exit(S, bye) end)]",
    "an exit signal that is trapped": """
        'Elixir.GenServer':cast(S, trap), 0 = Call(S, get), exit(S, bye),
        [Call(S, get), Ends(S, fun() -> exit(S, kill) end)]""",
    "a reply to an unknown tag": "S ! {'$gen_call', {self(), tag}, get}, Info()",
    "a timeout of the caller": "[try gen_server:call(S, later, 100) catch exit:{W2, _} -> W2 end, Call(S, get)]",
    "sys:statistics": """
        ok = sys:statistics(S, true), 1 = Call(S, increment), {ping, _} = (S ! {ping, self()}), pong = Info(),
        {ok, Counted} = sys:statistics(S, get),
        [lists:sort([K || {K, _} <- Counted]), [lists:keyfind(K, 1, Counted) || K <- [messages_in, messages_out]]]""",
    "sys:get_status": """
        {status, Of, {module, M}, [_, State1, _, Debug, [{header, H}, {data, Data}, {data, [{Name, _}]}]]} =
            sys:get_status(S),
        [Of =:= S, M, State1, Debug, is_list(H), [K || {K, _} <- Data], Name]""",
    "multi_call": """
        rpc:call(node(S), erlang, register, [counter, S]),
        'Elixir.GenServer':multi_call([node(S)], counter, get, 5000)""",
    "sys requests that nobody knows": """
        [
            sys:log(S, get), element(2, gen:call(S, system, nonsense)),
            element(2, gen:call(S, system, {debug, nonsense}))]""",
}


@pytest.fixture
def pair(cluster, otp):
    """A judge, and a function that makes servers: on a BEAM, and on a Python node."""
    path = elixir_path(otp)
    judge, beam = (cluster.beam(name, otp=otp, arguments=path) for name in ("judge", "plato"))
    python = cluster.pynode("socrates")
    python.eval(PYTHON)
    python.eval("node.expose(node.register, as_='erlang', name='register', inline=True)")
    beam.eval(COMPILE, Source=ELIXIR.encode())
    assert judge.ping(beam.name)
    assert judge.ping(python.name)
    judge.eval(PRELUDE)

    def start(kind):
        if kind == "beam":
            return beam.eval("element(2, gen_server:start('Elixir.Counter', 0, []))")
        return python.eval("await Counter.start(node, 0)")

    return judge, start


def observed(judge, start, case, kind):
    """What the case returns for a server of this kind, as text."""
    source = f"""
        (fun() ->
            Case = fun([S | More]) -> With = fun(L) -> lists:zip(lists:sublist(More, length(L)), L) end, _ = With,
                {CASES[case]} end,
            {{P, R}} = spawn_monitor(fun() -> exit({{saw, Case(Servers__)}}) end),
            receive {{'DOWN', R, _, P, {{saw, Saw}}}} -> Saw; {{'DOWN', R, _, P, Why}} -> {{crashed, Why}} end
        end)()"""
    shown = judge.text(source, Servers__=[start(kind) for _ in range(4)])
    return shown.replace("plato@", "NODE@").replace("socrates@", "NODE@")


def test_python_server_looks_like_one_of_elixir(pair):
    judge, start = pair

    seen = {case: (observed(judge, start, case, "beam"), observed(judge, start, case, "python")) for case in CASES}

    assert {case: both for case, both in seen.items() if both[0] != both[1]} == {}
    assert [case for case, both in seen.items() if "crashed" in both[0]] == []
