%% The Erlang half of the benchmark: the processes of a measured BEAM (serve/0; workload.py is the same in Python) and
%% the clocks (everything else). The clocks always run in a BEAM, so all contenders are measured by the same instrument.
-module(mesh_bench).
-behaviour(gen_server).

-export([serve/0, hold/2, join_one_by_one/2, learn/2, wait_for_members/2, wait_for_groups/1, collect_garbage/0]).
-export([received/2, sent/2, received_data/3, sent_data/3, round_trips/2, requests/3, calls/3, calls_from/3]).
-export([class_calls/3, class_calls_from/3, bare/3, bare_from/3, erpc_calls/4, joins_there/2, joins_here/2]).
-export([serve_serving/0, serving_requests/3]).
-export([serve_broadcasts/0, broadcasts_received/2, broadcasts_sent/2]).
-export([codec_terms/0, encode_time/2, decode_time/2]).
-export([by_coroutine/1, by_thread/1, by_loop/1]).
-export([init/1, handle_call/3, handle_cast/2]).

%% The measured node

serve() ->
    _ = pg:start(pg),
    [register(Name, spawn(Body)) || {Name, Body} <- [
        {sink, fun sink/0}, {source, fun source/0}, {echo, fun echo/0}, {caller, fun caller/0},
        {joiner, fun joiner/0}, {watcher, fun watcher/0}, {class_caller, fun class_caller/0}]],
    {ok, _} = gen_server:start({local, server}, ?MODULE, [], []),
    {ok, _} = gen_server:start({local, class_server}, ?MODULE, [], []),
    ok.

sink() -> receive {expect, From, N} -> count(N), From ! counted, sink() end.

source() ->
    receive
        {emit, To, N} -> emit(To, N), source();
        {emit, To, N, Size} -> emit_data(To, binary:copy(<<7>>, Size), N), source()
    end.

echo() -> receive {ping, From, N} -> From ! {pong, N}, echo() end.

caller() ->
    receive
        {call, From, Server, N, InFlight} -> call_all(Server, N, InFlight), From ! called, caller();
        {bare, From, Echo, N, InFlight} -> trip_all(Echo, N, InFlight), From ! called, caller()
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
handle_cast({call, From, Server, N}, State) ->
    [gen_server:call(Server, {add, I}, infinity) || I <- lists:seq(1, N)],
    From ! done,
    {stop, normal, State}.

class_caller() ->
    receive
        {call, From, Server, N, InFlight} ->
            [begin
                {ok, Pid} = gen_server:start(?MODULE, [], []),
                gen_server:cast(Pid, {call, self(), Server, N div InFlight})
            end || _ <- lists:seq(1, InFlight)],
            [receive done -> ok end || _ <- lists:seq(1, InFlight)],
            From ! called,
            class_caller()
    end.

%% What a node does for Phoenix.PubSub: its worker looks up the subscribers of a topic and sends to each. A broadcast is a
%% message to the worker of each other node, and the same look-up.
-define(PUBSUB, 'Elixir.Phoenix.PubSub').
-define(WORKER, 'Elixir.Bench.PubSub.Adapter').

serve_broadcasts() ->
    case whereis(?WORKER) of
        undefined ->
            _ = pg:start(?PUBSUB),
            register(?WORKER, spawn(fun pubsub_worker/0)),
            register(broadcaster, spawn(fun broadcaster/0)),
            ok;
        _ -> ok
    end.

pubsub_worker() ->
    subscribers = ets:new(subscribers, [duplicate_bag, public, named_table, {read_concurrency, true}]),
    ets:insert(subscribers, {<<"in">>, whereis(sink)}),
    ok = pg:join(?PUBSUB, ?WORKER, self()),
    forward().

forward() -> receive {forward_to_local, Topic, Message, _} -> dispatch(Topic, Message), forward() end.

dispatch(Topic, Message) -> [Pid ! Message || {_, Pid} <- ets:lookup(subscribers, Topic)].

broadcaster() -> receive {broadcast, N} -> wait_for_workers(), broadcast(<<"out">>, N), broadcaster() end.

broadcast(_, 0) -> ok;
broadcast(Topic, N) ->
    Message = {forward_to_local, Topic, {ping, N}, ?PUBSUB},
    [Pid ! Message || Pid <- pg:get_members(?PUBSUB, ?WORKER), node(Pid) =/= node()],
    dispatch(Topic, {ping, N}),
    broadcast(Topic, N - 1).

wait_for_workers() ->
    case [Pid || Pid <- pg:get_members(?PUBSUB, ?WORKER), node(Pid) =/= node()] of
        [] -> timer:sleep(1), wait_for_workers();
        _ -> ok
    end.

%% A server that collects requests in batches of 32, for a millisecond at most, and answers a whole batch at once.

serve_serving() ->
    case whereis(serving) of
        undefined -> register(serving, spawn(fun() -> collect([], 0) end)), ok;
        _ -> ok
    end.

collect(Batch, 32) -> answer(Batch);
collect([], 0) -> receive {'$gen_call', From, {run, Input}} -> collect([{From, Input}], 1) end;
collect(Batch, Size) ->
    receive {'$gen_call', From, {run, Input}} -> collect([{From, Input} | Batch], Size + 1)
    after 1 -> answer(Batch)
    end.

answer(Batch) ->
    Outputs = [Input + 1 || {_, Input} <- Batch],
    [gen_server:reply(From, {ok, Output}) || {{From, _}, Output} <- lists:zip(Batch, Outputs)],
    collect([], 0).

%% Many memberships

hold(Groups, Each) ->
    _ = pg:start(pg),
    Pids = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, Each)],
    [ok = pg:join({room, N}, Pids) || N <- lists:seq(1, Groups)],
    ok.

learn(Node, Groups) ->
    _ = pg:start(pg),
    {Time, ok} = timer:tc(fun() -> true = net_kernel:connect_node(Node), wait_for_groups(Groups), ok end),
    Time / 1.0e6.

wait_for_groups(Groups) ->
    case ets:info(pg, size) of
        Groups -> os:system_time(nanosecond);
        _ -> timer:sleep(1), wait_for_groups(Groups)
    end.

%% The time when this node knows so many members of the group. It polls once in ten milliseconds, as reading a long list
%% costs much.
wait_for_members(Group, Count) ->
    case length(pg:get_members(Group)) of
        Count -> os:system_time(nanosecond);
        _ -> timer:sleep(10), wait_for_members(Group, Count)
    end.

join_one_by_one(Group, Count) ->
    _ = pg:start(pg),
    Pids = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, Count)],
    Start = os:system_time(nanosecond),
    [ok = pg:join(Group, Pid) || Pid <- Pids],
    Start.

collect_garbage() -> [erlang:garbage_collect(Pid) || Pid <- processes()], ok.

%% The clocks

received(Node, N) ->
    {sink, Node} ! {expect, self(), N},
    rate(N, fun() -> emit({sink, Node}, N), receive counted -> ok end end).

broadcasts_received(Node, N) ->
    wait_for_workers(),
    ets:delete(subscribers, <<"in">>), % this node's own sink
    rate(N, fun() -> {sink, Node} ! {expect, self(), N}, broadcast(<<"in">>, N), receive counted -> ok end end).

broadcasts_sent(Node, N) ->
    wait_for_workers(),
    ets:delete(subscribers, <<"out">>),
    ets:insert(subscribers, {<<"out">>, whereis(sink)}),
    rate(N, fun() -> sink ! {expect, self(), N}, {broadcaster, Node} ! {broadcast, N}, receive counted -> ok end end).

sent(Node, N) ->
    rate(N, fun() -> {source, Node} ! {emit, self(), N}, count(N) end).

received_data(Node, N, Size) ->
    Data = binary:copy(<<7>>, Size),
    {sink, Node} ! {expect, self(), N},
    rate(N, fun() -> emit_data({sink, Node}, Data, N), receive counted -> ok end end).

sent_data(Node, N, Size) ->
    rate(N, fun() -> {source, Node} ! {emit, self(), N, Size}, count(N) end).

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

%% The same with the class GenServer of Python. On a BEAM they are gen_servers, too.
class_calls(Node, N, InFlight) ->
    rate(N, fun() -> call_all({class_server, Node}, N, InFlight) end).

serving_requests(Node, N, InFlight) ->
    Self = self(),
    rate(N, fun() ->
        [spawn(fun() ->
            [{ok, _} = gen_server:call({serving, Node}, {run, I}, infinity) || I <- lists:seq(1, N div InFlight)],
            Self ! asked
        end) || _ <- lists:seq(1, InFlight)],
        [receive asked -> ok end || _ <- lists:seq(1, InFlight)],
        ok
    end).

class_calls_from(Node, N, InFlight) ->
    rate(N, fun() -> {class_caller, Node} ! {call, self(), {server, node()}, N, InFlight}, receive called -> ok end end).

%% InFlight processes, each with one message open at a time. Nobody monitors anybody.
bare(Node, N, InFlight) ->
    rate(N, fun() -> trip_all({echo, Node}, N, InFlight) end).

bare_from(Node, N, InFlight) ->
    rate(N, fun() -> {caller, Node} ! {bare, self(), {echo, node()}, N, InFlight}, receive called -> ok end end).

erpc_calls(Node, Function, N, InFlight) ->
    rate(N, fun() ->
        at_once(InFlight, fun() ->
            [I = erpc:call(Node, ?MODULE, Function, [I]) || I <- lists:seq(1, N div InFlight)]
        end)
    end).

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

%% The codec alone

codec_terms() ->
    Pids = [spawn(fun() -> ok end) || _ <- lists:seq(1, 1000)],
    Map = fun(N) -> #{id => N, name => <<"a name">>, tags => [a, b, c], size => N * 1.5, parent => {node, N}} end,
    [
        {small, term_to_binary({ping, {1, <<"a small message">>}, [ok, 2.5]})},
        {integers, term_to_binary([N * 1000 || N <- lists:seq(1, 1000)])},
        {maps, term_to_binary([Map(N) || N <- lists:seq(1, 1000)])},
        {binary, term_to_binary(binary:copy(<<7>>, 65536))},
        {pids, term_to_binary(Pids)}
    ].

%% Nanoseconds of one encoding: the least of fifteen attempts.
encode_time(Data, Count) ->
    Term = binary_to_term(Data),
    least_time(Count, fun() -> term_to_binary(Term) end).

decode_time(Data, Count) -> least_time(Count, fun() -> binary_to_term(Data) end).

least_time(Count, Work) ->
    lists:min([element(1, tc(fun() -> repeat(Count, Work) end)) || _ <- lists:seq(1, 15)]) / Count.

repeat(0, _) -> ok;
repeat(N, Work) -> Work(), repeat(N - 1, Work).

%% Functions for erpc. In Python they are a coroutine function, a plain function, and a plain function on the loop.

by_coroutine(N) -> N.
by_thread(N) -> N.
by_loop(N) -> N.

%% Parts

emit(_, 0) -> ok;
emit(To, N) -> To ! {ping, N}, emit(To, N - 1).

count(0) -> ok;
count(N) -> receive {ping, _} -> count(N - 1) end.

emit_data(_, _, 0) -> ok;
emit_data(To, Data, N) -> To ! {ping, Data}, emit_data(To, Data, N - 1).

call_all(Server, N, InFlight) ->
    at_once(InFlight, fun() ->
        [gen_server:call(Server, {add, I}, infinity) || I <- lists:seq(1, N div InFlight)]
    end).

trip_all(Echo, N, InFlight) ->
    at_once(InFlight, fun() -> [trip(Echo, I) || I <- lists:seq(1, N div InFlight)] end).

at_once(InFlight, Work) ->
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
