%% What a suite of OTP's asks of Common Test, and a runner in its place: most installations of Erlang have none.
%%
%% erl ... -run test_server run SUITE [CASE ...] runs the groups as the suite lists them, prints `CASE name ok | reason` as each
%% case ends, and leaves with how many are not.
-module(test_server).
-export([run/1, start_peer/3, peer_name/2, is_cover/0, is_release_available/1]).

start_peer(Options, _Suite, _Case) ->
    peer:start_link(Options).

peer_name(Suite, Case) ->
    peer:random_name(lists:concat([Suite, "-", Case])).

is_cover() ->
    false.

is_release_available(_Release) ->
    false.

run([Name | Chosen]) ->
    Suite = list_to_atom(Name),
    {module, Suite} = code:ensure_loaded(Suite),
    Cases = [list_to_atom(Case) || Case <- Chosen],
    Failed = lists:sum([run(Suite, Entry, [], Cases) || Entry <- Suite:all()]),
    halt(min(Failed, 255)).

%% How many failed. Cases of a parallel group run beside each other.
run(Suite, {group, Group}, Before, Chosen) ->
    {Group, Properties, Entries} = lists:keyfind(Group, 1, Suite:groups()),
    Config = case erlang:function_exported(Suite, init_per_group, 2) of
                 true -> Suite:init_per_group(Group, Before);
                 false -> Before
             end,
    case {Config, lists:member(parallel, Properties)} of
        {{skip, Why}, _} ->
            io:format("SKIPPED ~s: ~ts~n", [Group, Why]),
            0;
        {_, true} ->
            Me = self(),
            Pids = [spawn_link(fun() -> Me ! {self(), run(Suite, Entry, Config, Chosen)} end) || Entry <- Entries],
            lists:sum([receive {Pid, Failed} -> Failed end || Pid <- Pids]);
        {_, false} ->
            lists:sum([run(Suite, Entry, Config, Chosen) || Entry <- Entries])
    end;
run(Suite, Case, Config, Chosen) ->
    case Chosen =:= [] orelse lists:member(Case, Chosen) of
        true -> run_case(Suite, Case, Config);
        false -> 0
    end.

run_case(Suite, Case, Config) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({ended, whole(Suite, Case, Config)}) end),
    Outcome = receive
                  {'DOWN', Monitor, process, Pid, {ended, Ended}} -> Ended;
                  {'DOWN', Monitor, process, Pid, Reason} -> {exit, Reason}
              after time(Suite, Case) ->
                  Stack = process_info(Pid, current_stacktrace),
                  exit(Pid, kill),
                  receive {'DOWN', Monitor, process, Pid, _} -> ok end,
                  {timetrap, Stack}
              end,
    io:format("CASE ~s ~0p~n", [Case, Outcome]),
    case Outcome of ok -> 0; _ -> 1 end.

whole(Suite, Case, Config) ->
    try
        Mine = case Suite:init_per_testcase(Case, Config) of
                   {ok, _} -> Config;
                   Kept -> Kept
               end,
        _ = Suite:Case(Mine),
        _ = Suite:end_per_testcase(Case, Mine),
        ok
    catch
        Class:Reason:Stack -> {Class, Reason, Stack}
    end.

time(Suite, Case) ->
    Own = case erlang:function_exported(Suite, Case, 0) of
              true -> Suite:Case();
              false -> []
          end,
    {seconds, Seconds} = proplists:get_value(timetrap, Own ++ Suite:suite(), {seconds, 60}),
    Seconds * 1000.
