%% The Erlang half of the benchmark: the measured node's processes (serve/0; subject.py is their Python twin) and the
%% clocks (everything else), which always run in a BEAM so that both contenders are measured by the same instrument.
-module(mesh_bench).
-behaviour(gen_server).

-export([serve/0, hold/2, learn/2]).
-export([received/2, sent/2, round_trips/2, requests/3, calls/3, calls_from/3, joins_there/2, joins_here/2]).
-export([init/1, handle_call/3, handle_cast/2]).

%% The measured node

serve() ->
    _ = pg:start(pg),
    [register(Name, spawn(Body)) || {Name, Body} <- [
        {sink, fun sink/0}, {source, fun source/0}, {echo, fun echo/0}, {caller, fun caller/0},
        {joiner, fun joiner/0}, {watcher, fun watcher/0}]],
    {ok, _} = gen_server:start({local, server}, ?MODULE, [], []),
    ok.

sink() -> receive {expect, From, N} -> count(N), From ! counted, sink() end.

source() -> receive {emit, To, N} -> emit(To, N), source() end.

echo() -> receive {ping, From, N} -> From ! {pong, N}, echo() end.

caller() ->
    receive
        {call, From, Server, N, InFlight} -> call_all(Server, N, InFlight), From ! called, caller()
    end.

joiner() ->
    receive
        {join, From, Group} -> Now = os:system_time(nanosecond), ok = pg:join(Group, self()), From ! {joined, Now};
        {leave, From, Group} -> pg:leave(Group, self()), From ! left
    end,
    joiner().

watcher() ->
    receive
        {watch, From, Group} ->
            {Ref, _} = pg:monitor(Group),
            From ! watching,
            receive {Ref, join, Group, _} -> From ! {seen, os:system_time(nanosecond)} end,
            pg:demonitor(Ref),
            watcher()
    end.

init([]) -> {ok, none}.
handle_call({add, N}, _From, State) -> {reply, N + 1, State}.
handle_cast(_, State) -> {noreply, State}.

%% Many memberships

hold(Groups, Each) ->
    _ = pg:start(pg),
    Pids = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, Each)],
    [ok = pg:join({room, N}, Pids) || N <- lists:seq(1, Groups)],
    ok.

learn(Node, Groups) ->
    _ = pg:start(pg),
    {Time, ok} = timer:tc(fun() -> true = net_kernel:connect_node(Node), wait_for_groups(Groups) end),
    Time / 1.0e6.

wait_for_groups(Groups) ->
    case ets:info(pg, size) of
        Groups -> ok;
        _ -> timer:sleep(1), wait_for_groups(Groups)
    end.

%% The clocks

received(Node, N) ->
    {sink, Node} ! {expect, self(), N},
    rate(N, fun() -> emit({sink, Node}, N), receive counted -> ok end end).

sent(Node, N) ->
    rate(N, fun() -> {source, Node} ! {emit, self(), N}, count(N) end).

round_trips(Node, N) ->
    percentiles([trip({echo, Node}, I) || I <- lists:seq(1, N)]).

trip(Echo, I) ->
    {Time, ok} = tc(fun() -> Echo ! {ping, self(), I}, receive {pong, I} -> ok end end),
    Time.

%% One process keeps InFlight requests open; unlike calls/3 nobody monitors anybody, so only the messages count.
requests(Node, N, InFlight) ->
    rate(N, fun() ->
        [request({server, Node}, I) || I <- lists:seq(1, InFlight)],
        answers({server, Node}, N - InFlight, InFlight)
    end).

request(Server, I) -> Server ! {'$gen_call', {self(), I}, {add, I}}.

answers(_, 0, 0) -> ok;
answers(Server, 0, Open) -> receive {_, _} -> answers(Server, 0, Open - 1) end;
answers(Server, More, Open) -> receive {_, _} -> request(Server, More), answers(Server, More - 1, Open) end.

calls(Node, N, InFlight) ->
    rate(N, fun() -> call_all({server, Node}, N, InFlight) end).

calls_from(Node, N, InFlight) ->
    rate(N, fun() -> {caller, Node} ! {call, self(), {server, node()}, N, InFlight}, receive called -> ok end end).

joins_there(Node, N) -> percentiles([join_there(Node, {there, I}) || I <- lists:seq(1, N)]).

join_there(Node, Group) ->
    {Ref, _} = pg:monitor(Group),
    {joiner, Node} ! {join, self(), Group},
    receive {Ref, join, Group, _} -> Seen = os:system_time(nanosecond) end,
    receive {joined, Joined} -> ok end,
    pg:demonitor(Ref),
    {joiner, Node} ! {leave, self(), Group},
    receive left -> ok end,
    Seen - Joined.

joins_here(Node, N) -> percentiles([join_here(Node, {here, I}) || I <- lists:seq(1, N)]).

join_here(Node, Group) ->
    {watcher, Node} ! {watch, self(), Group},
    receive watching -> ok end,
    Joined = os:system_time(nanosecond),
    ok = pg:join(Group, self()),
    receive {seen, Seen} -> ok end,
    pg:leave(Group, self()),
    Seen - Joined.

%% Parts

emit(_, 0) -> ok;
emit(To, N) -> To ! {ping, N}, emit(To, N - 1).

count(0) -> ok;
count(N) -> receive {ping, _} -> count(N - 1) end.

call_all(Server, N, InFlight) ->
    Work = fun() -> [gen_server:call(Server, {add, I}, infinity) || I <- lists:seq(1, N div InFlight)] end,
    Workers = [spawn_monitor(Work) || _ <- lists:seq(1, InFlight)],
    [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Workers],
    ok.

rate(N, Work) ->
    {Time, ok} = tc(Work),
    N * 1.0e9 / Time.

tc(Work) ->
    Start = erlang:monotonic_time(nanosecond),
    Result = Work(),
    {erlang:monotonic_time(nanosecond) - Start, Result}.

percentiles(Times) ->
    Sorted = lists:sort(Times),
    At = fun(Share) -> lists:nth(max(1, round(Share * length(Sorted))), Sorted) / 1000 end,
    {At(0.5), At(0.99)}.
