"""Task.Supervisor of Python beside the one of Elixir: the same functions of Elixir's Task.Supervisor on both."""

from __future__ import annotations

import pytest

from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(180), pytest.mark.otps(25, 27, 29)]
ELIXIR = b"""
defmodule :tasks do
  def double(n), do: n * 2
  def fails(2), do: exit(:boom)
  def fails(n), do: n
  def leaves(reason), do: exit(reason)
  def sleeps(n), do: Process.sleep(n) && n
  def start(max_children) do
    parent = self()
    spawn(fn ->
      {:ok, pid} = Task.Supervisor.start_link(max_children: max_children)
      send(parent, {:started, pid})
      Process.sleep(:infinity)
    end)
    receive(do: ({:started, pid} -> pid))
  end
end
"""
PYTHON = """
from erlmesh import DynamicSupervisor, Exit
async def sleeps(milliseconds):
    await asyncio.sleep(milliseconds / 1000)
    return milliseconds
def fails(number):
    if number == 2:
        raise Exit(Atom("boom"))
    return number
def leaves(reason):
    raise Exit(reason)
for function in (sleeps, fails, leaves):
    node.expose(function, as_="tasks")
node.expose(lambda number: 2 * number, as_="tasks", name="double")
"""
# `Stream` shows what async_stream gives for the function F of each item. `Idle` waits until no task runs.
PRELUDE = """
    T = 'Elixir.Task.Supervisor',
    Stream = fun(S, Kind, Items, F, O) -> 'Elixir.Enum':to_list(T:Kind(S, Items, tasks, F, [], O)) end,
    Idle = fun Idle(S) -> case T:children(S) of [] -> idle; _ -> timer:sleep(5), Idle(S) end end,
    Try = fun(F) ->
        {P, R} = spawn_monitor(fun() -> exit({saw, F()}) end),
        receive {'DOWN', R, _, P, {saw, Saw}} -> Saw; {'DOWN', R, _, P, Why} -> {ended, Why}
        after 9000 -> exit(P, kill), hangs end
    end,
    Down = fun(P) -> R = monitor(process, P), receive {'DOWN', R, _, _, W} -> W after 9000 -> lives end end
"""
CASES = {
    "a stream": "Stream(S, async_stream, [1, 2, 3], double, [])",
    "a stream of one at a time": "Stream(S, async_stream, [3, 1, 2], double, [{max_concurrency, 1}])",
    "a stream without an order":
        "lists:sort(Stream(S, async_stream, lists:seq(1, 20), double, [{ordered, false}, {max_concurrency, 4}]))",
    "an empty stream": "Stream(S, async_stream, [], double, [])",
    "a task of a stream that fails":
        "case Stream(S, async_stream, [1, 2, 3], fails, []) of {_, {W, _}} -> W; W -> W end",
    "a task of a stream that fails and is not linked": "Stream(S, async_stream_nolink, [1, 2, 3], fails, [])",
    "a task of a stream that is too slow": "Stream(S, async_stream, [9000, 1], sleeps, [{timeout, 300}])",
    "a task of a stream that is too slow and is killed":
        "Stream(S, async_stream, [9000, 1], sleeps, [{timeout, 300}, {on_timeout, kill_task}])",
    "a stream that is not read to its end": """
        Some = T:async_stream(S, [1, 2, 9000, 9000], tasks, sleeps, [], [{max_concurrency, 2}]),
        ['Elixir.Enum':take(Some, 1), Idle(S)]""",
    "await": "'Elixir.Task':await(T:async(S, tasks, double, [7]))",
    "await of a task that is not linked": "'Elixir.Task':await(T:async_nolink(S, tasks, double, [7]))",
    "await that is too short": """
        Task = T:async_nolink(S, tasks, sleeps, [9000]),
        [catch 'Elixir.Task':yield(Task, 100), 'Elixir.Task':shutdown(Task, brutal_kill), Idle(S)]""",
    "shutdown of a task": "['Elixir.Task':shutdown(T:async_nolink(S, tasks, sleeps, [9000])), Idle(S)]",
    "a linked task that fails ends the caller": "T:async(S, tasks, leaves, [bye]), receive after 9000 -> lives end",
    "reasons of tasks": """
        [begin #{ref := R} = T:async_nolink(S, tasks, leaves, [Why]), receive {'DOWN', R, _, _, W} -> W end end ||
            Why <- [normal, shutdown, {shutdown, 1}, bye, {a, b}]]""",
    "a caller that ends takes its task with it": """
        Caller = spawn(fun() -> T:async(S, tasks, sleeps, [9000]), receive forever -> ok end end),
        (fun Wait() -> case T:children(S) of [] -> timer:sleep(5), Wait(); _ -> ok end end)(),
        exit(Caller, kill), Idle(S)""",
    "start_child": """
        {ok, P} = T:start_child(S, tasks, sleeps, [9000]), [P] = T:children(S),
        [T:terminate_child(S, P), Down(P), T:terminate_child(S, P), Idle(S)]""",
    "a child that is restarted": """
        {ok, P} = T:start_child(S, tasks, sleeps, [9000], [{restart, permanent}]), exit(P, kill), Down(P),
        (fun Wait() -> case T:children(S) of [Q] when Q =/= P -> ok; _ -> timer:sleep(5), Wait() end end)(),
        [length(T:children(S)), [T:terminate_child(S, Q) || Q <- T:children(S)]]""",
    "too many tasks": """
        [element(1, T:start_child(S, tasks, sleeps, [9000])) || _ <- lists:seq(1, 8)] ++
            [T:start_child(S, tasks, sleeps, [1])] ++ [element(1, catch T:async(S, tasks, double, [1]))] ++
            [T:terminate_child(S, P) || P <- T:children(S)]""",
    "children": "{[], #{active := 0}} = {T:children(S), 'Elixir.DynamicSupervisor':count_children(S)}, ok",
}  # fmt: skip


@pytest.fixture
def pair(cluster, otp):
    """A judge, and the supervisors of a BEAM and of a Python node."""
    path = elixir_path(otp)
    judge, beam = (cluster.beam(name, otp=otp, arguments=path) for name in ("judge", "plato"))
    python = cluster.pynode("socrates")
    python.eval(PYTHON)
    for node in (judge, beam):
        node.eval(COMPILE, Source=ELIXIR)
    assert judge.ping(beam.name)
    assert judge.ping(python.name)
    judge.eval(PRELUDE)
    return judge, (
        beam.eval("tasks:start(8)"),
        python.eval("await DynamicSupervisor.start(node, max_children=8, max_restarts=1000)"),
    )


def test_task_supervisor_of_python_is_used_as_one_of_elixir(pair):
    judge, supervisors = pair

    seen = {
        case: [
            judge.text(f"(fun(S) -> Try(fun() -> {CASES[case]} end) end)(TaskS__)", TaskS__=pid) for pid in supervisors
        ]
        for case in CASES
    }

    assert {case: both for case, both in seen.items() if both[0] != both[1]} == {}
    assert [case for case, both in seen.items() if "hangs" in both[0]] == []
