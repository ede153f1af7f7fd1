"""``erlmesh start`` at SIGTERM, with callers on a real Erlang node: what is in flight is answered."""

from __future__ import annotations

import random
import sys

import pytest

from cluster import Cluster
from erlmesh.terms import Atom
from os_process import OsProcess
from polling import wait_until
from pynode import python_environment

pytestmark = [pytest.mark.timeout(300), pytest.mark.otps(23, 25, 27, 29)]
OK = Atom("ok")

APP = """
import asyncio, time
from erlmesh import NO_REPLY, Atom, ChildSpec, GenServer, Process, Supervisor, blocking, expose

@expose(as_="work")
def in_thread(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number

@expose(as_="work")
async def in_loop(number: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return number

class Batches(GenServer):
    def init(self):
        self.waiting = []

    def handle_call(self, request, caller):
        number, seconds = request
        self.waiting.append((caller, number))
        if len(self.waiting) == 1:
            self.me.send_after(seconds, Atom("run"))
        return NO_REPLY

    def handle_info(self, message):
        for caller, number in self.waiting:
            self.reply(caller, number)
        self.waiting = []

class Blocking(GenServer):
    threads = 1

    @blocking
    def handle_call(self, request, caller):
        number, seconds = request
        time.sleep(seconds)
        return number

class Beside(GenServer):
    def handle_call(self, request, caller):
        return self.reply_with(caller, in_loop(*request))

async def plain(me):
    me.trap_exit = True
    async for message in me:
        match message:
            case (Atom("$gen_call"), caller, (number, seconds)):
                await asyncio.sleep(seconds)
                me.reply(caller, number)
            case (Atom("EXIT"), _, _):
                return

async def main(me):
    children = [
        ChildSpec.server(Batches, name="batches", groups=["workers"]),
        ChildSpec.server(Blocking, name="blocking"),
        ChildSpec.server(Beside, name="beside", groups=["workers"]),
        ChildSpec.process(plain, name="plain"),
    ]
    await Beside.start(me.node, name="alone", groups=["workers"])
    await Supervisor.start(me.node, children)
    print("the app runs", flush=True)
    await me.receive()
"""
# `Ask` makes one call. `Callers` starts processes that call until the first failure; each sends the times and results
# of its calls. `Signal` sends SIGTERM to a process and returns the time.
PRELUDE = """
    Now = fun() -> erlang:monotonic_time(microsecond) end,
    Node = 'plato@127.0.0.1',
    Ask = fun(Kind, Number, Seconds) -> try case Kind of
        {erpc, F} -> {ok, erpc:call(Node, work, F, [Number, Seconds])};
        {rpc, F} -> case rpc:call(Node, work, F, [Number, Seconds]) of {badrpc, R} -> {error, R}; V -> {ok, V} end;
        {rex, F} ->
            case gen_server:call({rex, Node}, {call, work, F, [Number, Seconds], group_leader()}, infinity) of
                {badrpc, R} -> {error, R}; V -> {ok, V}
            end;
        group -> case pg:get_members(<<"workers">>) of
            [] -> {error, empty};
            Pids ->
                Pid = lists:nth(1 + Number rem length(Pids), Pids),
                {ok, gen_server:call(Pid, {Number, Seconds}, infinity)}
        end;
        Name -> {ok, gen_server:call({Name, Node}, {Number, Seconds}, infinity)}
        end catch C:W -> {C, W} end end,
    Me = self(),
    Caller = fun(Kind, Number, Seconds) -> fun Again() ->
        Start = Now(), R = Ask(Kind, Number, Seconds), Me ! {called, self(), Kind, Start, R, Number},
        case R of {ok, Number} -> Again(); _ -> ok end end end,
    Signal = fun(Pid) -> T = Now(), os:cmd("kill -TERM " ++ integer_to_list(Pid)), T end,
    Collect = fun F(0, Found) -> Found;
        F(Left, Found) -> receive
            {called, _, _, _, {ok, N}, N} = Message -> F(Left, [Message | Found]);
            {called, _, _, _, _, _} = Message -> F(Left - 1, [Message | Found])
            after 15000 -> [{hangs, Left} | Found] end end
"""


def start_app(cluster: Cluster, folder, *options: str) -> OsProcess:
    """Start the program above with ``erlmesh start``."""
    (folder / "stopping_app.py").write_text(APP)
    (folder / "cookie").write_text("monster")
    (folder / "cookie").chmod(0o600)
    command = [
        *(sys.executable, "-W", "error", "-m", "erlmesh", "start", "--name", "plato@127.0.0.1"),
        *("--cookie-file", str(folder / "cookie"), "--expose", "work=stopping_app", "--app", "stopping_app:main"),
        *options,
    ]
    environment = python_environment(cluster.epmd_port, folder)
    environment["PYTHONPATH"] += f":{folder}"
    cluster.start_epmd_once()
    process = OsProcess("plato", command, environment)
    cluster.processes.append(process)
    wait_until(lambda: process.logged("the app runs"), timeout=60, what="an app that runs")
    return process


@pytest.fixture
def beam(cluster, otp):
    beam = cluster.beam("socrates", otp=otp)
    beam.eval(PRELUDE)
    if (otp or 25) >= 23:
        beam.eval("{ok, _} = pg:start_link()")
    return beam


KINDS = ["{erpc, in_thread}", "{erpc, in_loop}", "{rpc, in_thread}", "{rex, in_loop}", "batches", "beside", "alone"]


@pytest.mark.parametrize("kind", KINDS)
def test_eight_callers_get_the_answers_of_a_batch_in_flight(cluster, beam, tmp_path, kind):
    app = start_app(cluster, tmp_path)
    beam.eval(f"net_adm:ping(Node), [spawn(fun() -> Me ! {{got, Ask({kind}, N, 2.0)}} end) || N <- lists:seq(1, 8)]")
    beam.eval("timer:sleep(500)")

    beam.eval("Signal(Pid)", Pid=app.pid)

    answers = beam.eval("[receive {got, A} -> A after 10000 -> nothing end || _ <- lists:seq(1, 8)]")
    assert sorted(answers) == [(OK, number) for number in range(1, 9)]
    assert app.wait() == 0


@pytest.mark.parametrize("kind", ["blocking", "plain"])
def test_calls_in_the_mailbox_of_a_server_are_answered(cluster, beam, tmp_path, kind):
    app = start_app(cluster, tmp_path)
    beam.eval(f"net_adm:ping(Node), [spawn(fun() -> Me ! {{got, Ask({kind}, N, 0.25)}} end) || N <- lists:seq(1, 8)]")
    beam.eval("timer:sleep(200)")

    beam.eval("Signal(Pid)", Pid=app.pid)

    answers = beam.eval("[receive {got, A} -> A after 10000 -> nothing end || _ <- lists:seq(1, 8)]")
    assert sorted(answers) == [(OK, number) for number in range(1, 9)]
    assert app.wait() == 0


@pytest.mark.timeout(3600)  # `--rounds 100` takes some minutes
def test_nothing_in_flight_is_lost_at_sigterm_in_the_middle_of_everything(cluster, beam, tmp_path, rounds):
    """Callers of every kind call without a pause. What they started before the signal is answered."""
    kinds = ["{erpc, in_thread}", "{erpc, in_loop}", "{rpc, in_loop}", "{rex, in_thread}", "group"]
    kinds += ["batches", "blocking", "beside", "alone", "plain"]
    for number in range(rounds(3)):
        app = start_app(cluster, tmp_path)
        seconds = random.Random(number).choice([0.0, 0.001, 0.05])
        callers = [f"spawn(Caller({kind}, {n}, {seconds}))" for n in range(3) for kind in kinds]
        beam.eval("net_adm:ping(Node)")
        wait_until(lambda: beam.eval('length(pg:get_members(<<"workers">>))') == 3, what="a group of three")
        beam.eval(f"[{', '.join(callers)}]")
        beam.eval(f"timer:sleep({random.Random(number).randrange(50, 600)})")

        signalled = beam.eval("Signal(Pid)", Pid=app.pid)

        found = beam.eval(f"Collect({len(callers)}, [])", timeout=60)
        lost = [each for each in found if each[0] != Atom("called") or (each[3] < signalled and each[4][0] is not OK)]
        assert lost == [], f"round {number}, {seconds} s a call"
        assert app.wait() == 0
        assert not app.logged("did not end"), app.recent_log()
        cluster.processes.remove(app)
