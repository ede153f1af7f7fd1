"""Supervisors of Python beside those of Elixir: the same requests and crashes from a seed, the same observations."""

from __future__ import annotations

from random import Random

import pytest

from erlmesh.terms import Atom
from polling import wait_until
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(180), pytest.mark.otps(25, 27, 29)]
ELIXIR = b"""
defmodule :worker do
  def start_link, do: {:ok, spawn_link(&loop/0)}
  def loop, do: receive(do: ({:end, reason} -> exit(reason)))
  def stays do
    {:ok, spawn_link(fn -> Process.flag(:trap_exit, true); stay() end)}
  end
  def stay, do: (receive(do: (_ -> stay())))
  def leaves(reason) do
    {:ok, spawn_link(fn -> Process.flag(:trap_exit, true); receive(do: ({:EXIT, _, _} -> exit(reason))) end)}
  end
  # What `moody` returns. It is changed while children run, so it decides about their restarts, too.
  def mood(mood), do: :persistent_term.put(:mood, mood)
  def moody do
    case :persistent_term.get(:mood, :pid) do
      :pid -> start_link()
      :info -> Tuple.append(start_link(), :info)
      :ignore -> :ignore
    end
  end
  def fails, do: {:error, :no_luck}
  def wrong, do: :wrong
  def start(strategy, restarts, dynamic) do
    options = [strategy: strategy, max_restarts: restarts, max_seconds: 1000]
    parent = self()
    spawn(fn ->
      Process.flag(:trap_exit, true)
      {:ok, pid} =
        if dynamic,
          do: DynamicSupervisor.start_link([{:max_children, 4} | options]),
          else: Supervisor.start_link([], options)
      send(parent, {:started, pid})
      Process.sleep(:infinity)
    end)
    receive(do: ({:started, pid} -> pid))
  end
end
"""
PYTHON = """
from erlmesh import DynamicSupervisor, Process, Supervisor, expose
async def loop(me):
    match await me.receive():
        case (Atom("end"), reason):
            raise Exit(reason)
async def start_link(me: Process):
    return me.spawn(loop, link=True)
async def stay(me):
    me.trap_exit = True
    async for _ in me:
        pass
async def leave(me, reason):
    me.trap_exit = True
    await me.receive()
    raise Exit(reason)
async def stays(me: Process):
    return me.spawn(stay, link=True)
async def leaves(me: Process, reason):
    return me.spawn(leave, reason, link=True)
def pass_seconds(supervisor, seconds):
    book = node.internals.local_process(supervisor)._system.callbacks._server._book
    book._restarts = [each - seconds for each in book._restarts]
moods = [Atom("pid")]
def mood(value):
    moods[0] = value
    return Atom("ok")
async def moody(me: Process):
    match moods[0]:
        case Atom("pid"):
            return await start_link(me)
        case Atom("info"):
            return (Atom("ok"), await start_link(me), Atom("info"))
        case Atom("ignore"):
            return Atom("ignore")
async def fails(me: Process):
    return (Atom("error"), Atom("no_luck"))
async def wrong(me: Process):
    return Atom("wrong")
for function in (start_link, fails, wrong, stays, leaves, moody, mood):
    node.expose(function, as_="worker")
"""
# `See` shows a supervisor without its pids. `End` ends a child, and returns when its supervisor knows it.
PRELUDE = """
    See = fun(S) ->
        try
            {[{Id, case P of undefined -> P; restarting -> P; _ -> pid end, T} ||
                {Id, P, T, _} <- 'Elixir.Supervisor':which_children(S)],
             lists:sort(maps:to_list('Elixir.Supervisor':count_children(S)))}
        catch exit:{_, _} -> ended end  % by noproc or shutdown: the call and the end of the supervisor may cross
    end,
    Pids = fun(S) -> try [{Id, P} || {Id, P, _, _} <- supervisor:which_children(S), is_pid(P)] catch _:_ -> [] end end,
    Wait = fun(P, F) -> R = monitor(process, P), F(), receive {'DOWN', R, _, _, W} -> W after 9000 -> lives end end,
    End = fun(S, Id, Why) ->
        case lists:keyfind(Id, 1, Pids(S)) of
            false -> none;
            {_, P} when Why =:= kill -> Wait(P, fun() -> exit(P, kill) end);
            {_, P} -> Wait(P, fun() -> P ! {'end', Why} end)
        end
    end,
    Pass = fun(S, Seconds) ->  % as if so many seconds had passed since all restarts until now
        try sys:replace_state(S, fun(State) ->
            setelement(8, State, [Time - Seconds || Time <- element(8, State)])  % the field `restarts` of #state{}
        end) catch exit:_ -> ended end
    end,
    Pure = fun({ok, P}) when is_pid(P) -> {ok, pid};
              ({ok, P, Info}) when is_pid(P) -> {ok, pid, Info};
              ({error, {already_started, P}}) when is_pid(P) -> {error, {already_started, pid}};
              ({error, {W, C}}) when is_tuple(C), element(1, C) =:= child -> {error, W};
              (X) -> X
    end,
    Ask = fun(S, F, A) -> try Pure(apply('Elixir.Supervisor', F, [S | A])) catch exit:{_, _} -> ended end end,
    Spec = fun(Id, Restart, F) -> #{id => Id, restart => Restart, start => {worker, F, []}, modules => [worker]} end
"""
IDS = ["a", "b", "c", "d"]
RESTARTS = ["permanent", "transient", "temporary"]
STARTS = ["start_link", "moody"]
MOODS = ["pid", "info", "ignore", "ignore"]
REASONS = ["normal", "shutdown", "{shutdown, 1}", "boom", "kill"]


def random_step(random: Random) -> str:
    """An Erlang expression about the supervisor S, which both kinds must answer alike; or ``pass Seconds``.

    Sums of 600 and 1200 are never near the 1000 seconds within which restarts count, so the time of the test itself
    does not matter.
    """
    child = random.choice(IDS)
    if not random.randrange(4):
        return f"pass {random.choice([600, 1200])}"
    kind = random.choice(["end"] * 5 + ["start"] * 3 + ["terminate", "restart", "delete", "bad", "mood"])
    if kind == "end":
        return f"End(S, {child}, {random.choice(REASONS)})"
    if kind == "start":
        return f"Ask(S, start_child, [Spec({child}, {random.choice(RESTARTS)}, {random.choice(STARTS)})])"
    if kind == "mood":
        return f"erpc:call(node(S), worker, mood, [{random.choice(MOODS)}])"
    if kind == "bad":
        return random.choice(
            [
                f"Ask(S, start_child, [Spec({child}, often, start_link)])",
                f"Ask(S, start_child, [Spec(new, {random.choice(RESTARTS)}, fails)])",
                f"Ask(S, start_child, [Spec(new, {random.choice(RESTARTS)}, wrong)])",
                "Ask(S, terminate_child, [nobody])",
            ]
        )
    return f"Ask(S, {kind}_child, [{child}])"


@pytest.fixture
def three(cluster, otp):
    """A judge, a BEAM and a Python node."""
    path = elixir_path(otp)
    judge, beam = (cluster.beam(name, otp=otp, arguments=path) for name in ("judge", "plato"))
    python = cluster.pynode("socrates")
    python.eval(PYTHON)
    beam.eval(COMPILE, Source=ELIXIR)
    assert judge.ping(beam.name)
    assert judge.ping(python.name)
    judge.eval(PRELUDE)
    beam.eval(PRELUDE)
    return judge, beam, python


def let_time_pass(three, pair, seconds):
    """Let both supervisors of the pair believe that time has passed."""
    _, beam, python = three
    beam.eval("Pass(PassS__, PassN__)", PassS__=pair["beam"], PassN__=seconds)
    if python.eval("node.internals.is_alive(S)", S=pair["python"]):
        python.eval("pass_seconds(S, N)", S=pair["python"], N=seconds)


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_python_supervisor_does_what_one_of_elixir_does(three, strategy, rounds):
    judge, beam, python = three
    for seed in range(rounds(6)):
        random = Random(f"{strategy} {seed}")
        restarts = random.choice([2, 5, 1000])
        pair = {
            "beam": beam.eval("worker:start(St, Re, false)", St=Atom(strategy), Re=restarts),
            "python": python.eval(
                "await Supervisor.start(node, [], strategy=ST, max_restarts=RE, max_seconds=1000)",
                ST=strategy,
                RE=restarts,
            ),
        }
        beam.eval("erlang:erase()")
        for step in [random_step(random) for _ in range(30)]:
            if step.startswith("pass"):
                let_time_pass(three, pair, int(step.split()[1]))
                continue
            seen = {
                kind: judge.text(f"(fun(S) -> {{{step}, See(S)}} end)(StepS__)", StepS__=pid)
                for kind, pid in pair.items()
            }
            assert seen["beam"] == seen["python"], (seed, restarts, step)


# How a child ends that is stopped, by its shutdown and by what it does with the exit signal.
SHUTDOWNS = """
    Kinds = [{start_link, [], Sh} || Sh <- [brutal_kill, 300, infinity]] ++
        [{stays, [], Sh} || Sh <- [brutal_kill, 0, 300]] ++
        [{leaves, [Why], Sh} || Sh <- [5000, infinity], Why <- [normal, shutdown, bye]],
    [begin
        {ok, P} = 'Elixir.Supervisor':start_child(S,
            #{id => Restart, start => {worker, F, A}, restart => Restart, shutdown => Sh}),
        Ended = Wait(P, fun() -> ok = 'Elixir.Supervisor':terminate_child(S, Restart) end),
        {F, A, Sh, Restart, Ended, See(S), Ask(S, delete_child, [Restart])}
    end || {F, A, Sh} <- Kinds, Restart <- [permanent, temporary]]
"""


def test_children_end_as_their_shutdown_says(three):
    judge, beam, python = three
    pids = (beam.eval("worker:start(one_for_one, 3, false)"), python.eval("await Supervisor.start(node, [])"))

    seen = [judge.text(f"(fun(S) -> {SHUTDOWNS} end)(ShutdownS__)", ShutdownS__=pid) for pid in pids]

    assert seen[0] == seen[1]


def test_dynamic_supervisor_is_asked_as_one_of_elixir(three):
    judge, beam, python = three
    source = """(fun(S) ->
        D = 'Elixir.DynamicSupervisor',
        Add = fun(R, F) -> Pure(D:start_child(S, Spec(x, R, F))) end,
        Count = fun() -> lists:sort(maps:to_list(D:count_children(S))) end,
        One = [Add(permanent, start_link), Add(transient, start_link), Add(temporary, start_link)],
        Two = [Add(permanent, fails), Add(permanent, wrong), Count(), See(S)],
        [Kill, Other | _] = [P || {_, P, _, _} <- D:which_children(S)],
        Three = [D:terminate_child(S, Kill), D:terminate_child(S, Kill), Count()],
        Four = [Wait(Other, fun() -> Other ! {'end', boom} end), element(1, hd(Count()))],
        Five = [Add(temporary, start_link) || _ <- [1, 2, 3]],
        [One, Two, Three, Four, Five, D:stop(S), is_process_alive(self())]
    end)(DynS__)"""
    seen = [
        judge.text(source, DynS__=pid)
        for pid in (
            beam.eval("worker:start(one_for_one, 3, true)"),
            python.eval("await DynamicSupervisor.start(node, max_children=4, max_seconds=3600)"),
        )
    ]

    assert seen[0] == seen[1]


def test_dynamic_children_that_are_ignored_leave_as_in_elixir(three):
    judge, beam, python = three
    source = """(fun(S) ->
        D = 'Elixir.DynamicSupervisor',
        Count = fun() -> lists:sort(maps:to_list(D:count_children(S))) end,
        Mood = fun(M) -> erpc:call(node(S), worker, mood, [M]) end,
        Kinds = [{pid, permanent}, {info, permanent}, {info, temporary}, {ignore, permanent}, {ignore, temporary}],
        Started = [{M, Mood(M), Pure(D:start_child(S, Spec(x, R, moody))), Count()} || {M, R} <- Kinds],
        [Wait(P, fun() -> P ! {'end', boom} end) || {_, P, _, _} <- D:which_children(S)],
        [Started, Count(), Mood(pid)]
    end)(DynS__)"""
    seen = [
        judge.text(source, DynS__=pid)
        for pid in (
            beam.eval("worker:start(one_for_one, 3, true)"),
            python.eval("await DynamicSupervisor.start(node, max_children=4, max_seconds=3600)"),
        )
    ]

    assert seen[0] == seen[1]
    assert "ignore" in seen[0]


def test_task_supervisor_starts_tasks_of_python(three):
    judge, _, python = three
    python.eval("done = []; node.expose(lambda number: done.append(number), as_='tasks', name='add', inline=True)")
    python.eval("node.expose(lambda number: 10 // number, as_='tasks', name='divide')")
    supervisor = python.eval("await DynamicSupervisor.start(node, name='tasks', max_children=1)")
    tasks = "'Elixir.Task.Supervisor'"

    def ask(source):
        return judge.text(f"(fun(T) -> {source} end)({{tasks, node(TaskS__)}})", TaskS__=supervisor)

    idle = f"(fun Idle() -> case {tasks}:children(T) of [] -> ok; _ -> timer:sleep(5), Idle() end end)()"
    assert ask(f"Pure({tasks}:start_child(T, tasks, add, [7]))") == "{ok,pid}"
    wait_until(lambda: python.eval("done") == [7])
    assert ask(f"{idle}, 'Elixir.Task':await({tasks}:async_nolink(T, tasks, divide, [3]))") == "3"
    assert ask(f"{idle}, 'Elixir.Task':await({tasks}:async(T, tasks, divide, [5]))") == "2"
    failed = ask(f"""{idle}, #{{ref := R}} = {tasks}:async_nolink(T, tasks, divide, [0]),
        receive {{'DOWN', R, _, _, {{{{What, _}}, Stack}}}} when is_list(Stack) -> What end""")
    assert failed == "'ZeroDivisionError'"
    closure = ask(f"""{idle}, #{{ref := R}} = {tasks}:async_nolink(T, fun() -> 1 end),
        receive {{'DOWN', R, _, _, {{What, _}}}} -> What end""")
    assert closure == "undef"


def test_supervisor_of_python_stops_as_one_of_elixir(three):
    judge, beam, python = three
    for pid in (beam.eval("worker:start(one_for_one, 3, false)"), python.eval("await Supervisor.start(node, [])")):
        seen = judge.text(
            """(fun(S) ->
                {ok, C} = 'Elixir.Supervisor':start_child(S, Spec(a, permanent, start_link)),
                Wait(C, fun() -> ok = 'Elixir.Supervisor':stop(S, bye) end)
            end)(StopS__)""",
            StopS__=pid,
        )
        assert seen == "shutdown"
