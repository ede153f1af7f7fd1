%% pg2, as OTP 23 and before have it.
-module(conf_pg2).
-compile([export_all, nowarn_export_all]).
-compile({nowarn_deprecated_function, [{pg2, '_', '_'}]}).
-compile(nowarn_deprecated_function).
-compile(nowarn_removed).
-import(judge, [apart/1, gone/1, outcome/1, sleeper/1, soon/1]).

pg2(N, Function, Arguments) -> outcome(fun() -> rpc:call(N, pg2, Function, Arguments, 15000) end).

%% No group there or here, and both know each other.
clean(Node) ->
    pg2:start(),
    rpc:call(Node, pg2, start, []),
    soon(fun() -> lists:member(Node, gen_server:call(global_name_server, get_known)) end),
    [pg2:delete(G) || G <- pg2:which_groups() ++ rpc:call(Node, pg2, which_groups, [])],
    soon(fun() -> rpc:call(Node, pg2, which_groups, []) =:= [] end).

every_function_with_arguments_good_and_bad(N) ->
    clean(N),
    P = sleeper(N), Mine = self(),
    [{F, A, sorted(F, pg2(N, F, A))} || {F, A} <-
        [{create, [g]}, {create, [g]}, {which_groups, []}, {get_members, [g]}, {get_local_members, [g]},
         {get_closest_pid, [g]}, {get_members, [no]}, {get_local_members, [no]}, {get_closest_pid, [no]},
         {join, [no, P]}, {leave, [no, P]}, {join, [g, x]}, {leave, [g, x]}, {join, [g, P]}, {join, [g, P]},
         {get_members, [g]}, {get_local_members, [g]}, {get_closest_pid, [g]}, {leave, [g, P]}, {get_members, [g]},
         {leave, [g, P]}, {leave, [g, P]}, {get_members, [g]}, {join, [g, Mine]}, {get_members, [g]},
         {get_local_members, [g]}, {get_closest_pid, [g]}, {leave, [g, Mine]}, {delete, [no]}, {delete, [g]},
         {which_groups, []}, {create, [{1, 1.0}]}, {create, [1]}, {create, [true]}, {which_groups, []},
         {delete, [1]}, {which_groups, []}, {start, [1]}, {foo, []}, {delete, [true]}, {delete, [{1, 1.0}]}]].

sorted(which_groups, {value, Groups}) -> {value, lists:sort(Groups)};
sorted(_, Other) -> Other.

both_sides_see_what_either_does(N) ->
    clean(N),
    P = sleeper(N), Mine = self(),
    See = fun() -> {lists:sort(pg2:which_groups()), lists:sort(rpc:call(N, pg2, which_groups, [])),
                    [lists:sort(pg2:get_members(G)) =:= lists:sort(rpc:call(N, pg2, get_members, [G])) orelse differ ||
                        G <- pg2:which_groups()],
                    [length(pg2:get_members(G)) || G <- lists:sort(pg2:which_groups())]} end,
    [begin A = Step(), {A, See()} end || Step <-
        [fun() -> pg2:create(here) end, fun() -> pg2(N, create, [there]) end, fun() -> pg2:join(there, Mine) end,
         fun() -> pg2(N, join, [here, P]) end, fun() -> pg2:join(here, P) end, fun() -> pg2(N, join, [there, Mine]) end,
         fun() -> pg2:leave(there, Mine) end, fun() -> pg2(N, leave, [here, P]) end, fun() -> pg2(N, delete, [here]) end,
         fun() -> pg2:delete(there) end]].

who_dies_is_gone_everywhere(N) ->
    clean(N),
    P = sleeper(N), Q = spawn(fun() -> receive after infinity -> ok end end),
    [pg2:create(G) || G <- [a, b]],
    [pg2:join(G, X) || G <- [a, b], X <- [P, Q, P]],
    exit(P, kill), gone(P),
    One = soon(fun() -> {pg2:get_members(a), rpc:call(N, pg2, get_members, [a])} =:= {[Q], [Q]} end),
    exit(Q, kill), gone(Q),
    Two = soon(fun() -> {pg2:get_members(b), rpc:call(N, pg2, get_members, [b])} =:= {[], []} end),
    {One, Two, pg2:get_closest_pid(a), pg2(N, get_closest_pid, [b])}.

a_leave_of_what_was_not_joined_loses_no_monitor(N) ->
    clean(N),
    P = sleeper(N),
    [pg2:create(G) || G <- [in, out]],
    ok = pg2:join(in, P),
    ok = rpc:call(N, pg2, leave, [out, P]), ok = pg2:leave(out, P),
    exit(P, kill), gone(P),
    soon(fun() -> {pg2:get_members(in), rpc:call(N, pg2, get_members, [in])} =:= {[], []} end).

the_closest_is_local_if_there_is_one(N) ->
    clean(N),
    P = sleeper(N), Mine = self(),
    pg2:create(g), pg2:join(g, P),
    A = {pg2:get_closest_pid(g), pg2(N, get_closest_pid, [g])},
    pg2:join(g, Mine),
    {A, pg2:get_closest_pid(g), pg2(N, get_closest_pid, [g])}.

a_cut_and_a_meeting_bring_back_all(N) ->
    clean(N),
    P = sleeper(N), Mine = self(),
    pg2:create(g), [pg2:join(g, X) || X <- [P, P, Mine]],
    apart(N),
    soon(fun() -> pg2:get_members(g) =:= [Mine] end),
    Apart = pg2:get_members(g),
    pg2:create(alone),
    true = net_kernel:connect_node(N),
    {Apart, soon(fun() -> length(pg2:get_members(g)) =:= 3 end),
     soon(fun() -> length(rpc:call(N, pg2, get_members, [g])) =:= 3 end),
     soon(fun() -> lists:sort(rpc:call(N, pg2, which_groups, [])) =:= [alone, g] end)}.

joins_from_both_sides_at_once_all_count(N) ->
    clean(N),
    pg2:create(g),
    Me = self(),
    Ps = [begin P = sleeper(N), spawn_link(fun() ->
            ok = case I rem 2 of 0 -> pg2:join(g, P); 1 -> rpc:call(N, pg2, join, [g, P]) end, Me ! {joined, P} end), P end
          || I <- lists:seq(1, 20)],
    [receive {joined, P} -> ok end || P <- Ps],
    {length(pg2:get_members(g)), length(rpc:call(N, pg2, get_members, [g])), lists:sort(pg2:get_members(g)) =:= lists:sort(Ps)}.
