"""The book of a supervisor (``erlmesh.core.supervision``) alone, beside OTP's supervisor: the same steps from a seed.

One call to the BEAM runs all scenarios. Each step reports which children were stopped and started, in order, and which
children run afterwards.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from erlmesh.core.supervision import Child, ChildBook, Nothing, Restart, TooManyRestarts
from erlmesh.terms import Atom, Pid, Term
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(300), pytest.mark.otps(25, 27, 29)]
IDS = [Atom(letter) for letter in "abcde"]
RESTARTS = ["permanent", "transient", "temporary"]
REASONS: list[Term] = [Atom("normal"), Atom("shutdown"), (Atom("shutdown"), 1), Atom("boom"), Atom("kill")]
RUNS, IDLE, ENDED, NONE = map(Atom, ("runs", "idle", "ended", "none"))
START, STOP, IGNORE = map(Atom, ("start", "stop", "ignore"))
MAX_SECONDS = 1000

# `Scenario` returns {What, Log, Children} of each step. The table T has the log, and which start functions ignore.
RUN = """
    Add = fun(T, Entry) -> ets:insert(T, {{log, ets:update_counter(T, next, 1)}, Entry}) end,
    Body = fun(T, Id) ->
        process_flag(trap_exit, true),
        receive {'end', Why} -> exit(Why); {'EXIT', _, Why} -> Add(T, {stop, Id}), exit(Why) end
    end,
    Start = fun(T, Id) ->
        case ets:member(T, {ignores, Id}) of
            true -> Add(T, {ignore, Id}), ignore;
            false -> Add(T, {start, Id}), {ok, spawn_link(fun() -> Body(T, Id) end)}
        end
    end,
    Log = fun(T) ->
        Entries = lists:sort(ets:match_object(T, {{log, '_'}, '_'})),
        ets:match_delete(T, {{log, '_'}, '_'}),
        [Entry || {_, Entry} <- Entries]
    end,
    Children = fun(S) -> [{Id, P} || {Id, P, _, _} <- lists:reverse(supervisor:which_children(S))] end,
    Down = fun(P) -> R = monitor(process, P), receive {'DOWN', R, _, _, _} -> ok after 9000 -> exit(lives) end end,
    See = fun See(S, Dead) ->
        try Children(S) of
            Now -> case lists:keymember(Dead, 2, Now) of
                true -> See(S, Dead);  % the exit signal is not there yet
                false -> [{Id, case is_pid(P) of true -> runs; false -> idle end} || {Id, P} <- Now]
            end
        catch exit:_ -> Down(S), ended end
    end,
    Step = fun
        (_, T, {ignores, Id, true}) -> ets:insert(T, {{ignores, Id}}), none;
        (_, T, {ignores, Id, false}) -> ets:delete(T, {ignores, Id}), none;
        (S, _, {pass, Seconds}) ->
            sys:replace_state(S, fun(State) ->  % the field `restarts` of #state{}
                setelement(8, State, [Time - Seconds || Time <- element(8, State)])
            end), none;
        (S, T, {add, Id, Restart}) ->
            Spec = #{id => Id, restart => Restart, start => {erlang, apply, [Start, [T, Id]]}},
            supervisor:start_child(S, Spec), none;
        (S, _, {terminate, Id}) -> supervisor:terminate_child(S, Id), none;
        (S, _, {'end', Id, Why}) ->
            case lists:keyfind(Id, 1, Children(S)) of
                {_, P} when is_pid(P), Why =:= kill -> exit(P, kill), Down(P), P;
                {_, P} when is_pid(P) -> P ! {'end', Why}, Down(P), P;
                _ -> none
            end
    end,
    Steps = fun Steps(_, _, []) -> [];
        Steps(S, T, [One | More]) ->
            Dead = Step(S, T, One),
            case See(S, Dead) of
                ended -> [{Log(T), ended}];
                Seen -> [{Log(T), Seen} | Steps(S, T, More)]
            end
    end,
    Scenario = fun({Strategy, Restarts, Todo}) ->
        process_flag(trap_exit, true),
        T = ets:new(t, [public]),
        ets:insert(T, {next, 0}),
        {ok, S} = 'Elixir.Supervisor':start_link([], [{strategy, Strategy}, {max_restarts, Restarts},
                                                      {max_seconds, 1000}]),
        Found = Steps(S, T, Todo),
        case is_process_alive(S) of true -> exit(S, shutdown), Down(S); false -> ok end,
        ets:delete(T),
        Found
    end,
    logger:set_primary_config(level, none),
    [Scenario(Each) || Each <- Given__]
"""


class Model:
    """What a process with this book does: a start and a stop are lines in a log."""

    def __init__(self, strategy: str, max_restarts: int) -> None:
        self.book = ChildBook(strategy, max_restarts, MAX_SECONDS)  # type: ignore[arg-type]
        self.log: list[Term] = []
        self.ignores: set[Atom] = set()
        self.now = 0.0
        self.ended = False
        self._pids = 0

    def step(self, what: Any) -> None:
        match what:
            case (Atom("ignores"), child_id, True):
                self.ignores.add(child_id)
            case (Atom("ignores"), child_id, False):
                self.ignores.discard(child_id)
            case (Atom("pass"), seconds):
                self.now += seconds
            case (Atom("add"), child_id, restart):
                if self.book.find(child_id) is None:
                    child = Child(child_id, restart.name, None)
                    self.book.add(child)
                    self.start(child)
            case (Atom("terminate"), child_id):
                child = self.book.find(child_id)
                if child is not None:
                    self.stop(child)
                    self.book.stopped(child)
            case (Atom("end"), child_id, reason):
                child = self.book.find(child_id)
                if child is not None and child.pid is not None:
                    found = self.book.exited(child, Atom("killed") if reason is Atom("kill") else reason, self.now)
                    self.carry_out(found)

    def carry_out(self, found: Nothing | Restart | TooManyRestarts) -> None:
        match found:
            case TooManyRestarts():
                for child in reversed(self.book.children()):
                    self.stop(child)
                self.ended = True
            case Restart(stop, start):
                for child in stop:
                    self.stop(child)
                    if child in start:
                        self.book.without_process(child)
                    else:
                        self.book.stopped(child)
                for child in start:
                    self.start(child)

    def start(self, child: Child) -> None:
        if child.id in self.ignores:
            self.log.append((IGNORE, child.id))
            self.book.ignored(child)
            return
        self.log.append((START, child.id))
        self._pids += 1
        self.book.started(child, Pid(Atom("a@b"), self._pids, 0, 1))

    def stop(self, child: Child) -> None:
        if child.pid is not None:
            self.log.append((STOP, child.id))

    def seen(self) -> Term:
        log, self.log = self.log, []
        if self.ended:
            return (log, ENDED)
        return (log, [(child.id, IDLE if child.pid is None else RUNS) for child in self.book.children()])


def random_step(random: Random) -> Term:
    child_id = random.choice(IDS)
    kind = random.choice(["end"] * 6 + ["add"] * 4 + ["terminate", "ignores", "pass"])
    match kind:
        case "end":
            return (Atom("end"), child_id, random.choice(REASONS))
        case "add":
            return (Atom("add"), child_id, Atom(random.choice(RESTARTS)))
        case "ignores":
            return (Atom("ignores"), child_id, bool(random.randrange(2)))
        case "pass":  # sums of 600 and 1200 are never near 1000, so the time of the test itself does not matter
            return (Atom("pass"), random.choice([600, 1200]))
    return (Atom("terminate"), child_id)


def scenario(strategy: str, seed: int) -> tuple[Atom, int, list[Term]]:
    random = Random(f"{strategy} {seed}")
    adds = [(Atom("add"), child_id, Atom(random.choice(RESTARTS))) for child_id in IDS[: random.randrange(2, 6)]]
    return Atom(strategy), random.choice([0, 1, 3, 1000]), adds + [random_step(random) for _ in range(20)]


def history(given: tuple[Atom, int, list[Term]]) -> list[Term]:
    strategy, max_restarts, steps = given
    model = Model(strategy.name, max_restarts)
    seen = []
    for step in steps:
        model.step(step)
        seen.append(model.seen())
        if model.ended:
            break
    return seen


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_the_book_decides_as_the_supervisor_of_otp(cluster, otp, strategy, rounds):
    beam = cluster.beam("plato", otp=otp, arguments=elixir_path(otp))
    given = [scenario(strategy, seed) for seed in range(rounds(200))]

    found = beam.eval(RUN, timeout=200, Given__=given)

    for seed, (each, seen) in enumerate(zip(given, found, strict=True)):
        assert history(each) == seen, (seed, each)
    assert any(seen[-1][1] is ENDED for seen in found)
    assert any(entry[0] is IGNORE for seen in found for log, _ in seen for entry in log)
