%% pg: scopes, groups, their changes, and what other scopes hear of them.
-module(conf_pg).
-compile([export_all, nowarn_export_all]).
-import(judge, [apart/1, brief/1, call/2, drained/0, gone/1, outcome/1, quiet/0, scope/2, sleeper/1, sleepers/2, soon/1,
                told/0]).

pg(N, Function, Arguments) -> rpc:call(N, pg, Function, Arguments).

%% All that was said to the scope, and by it, has been dealt with on both sides.
settled(N, Scope) ->
    [begin sys:log({Scope, N}, get), sys:log(Scope, get) end || _ <- [1, 2]],
    ok.

%% A scope there and one here, empty, that know each other.
pair(N, Scope) ->
    There = scope(N, Scope),
    Here = case pg:start(Scope) of
               {ok, Pid} -> Pid;
               {error, {already_started, Old}} -> gone_for_good(Old, Scope)
           end,
    settled(N, Scope),
    {There, Here}.

gone_for_good(Old, Scope) -> gen_server:stop(Old), {ok, Pid} = pg:start(Scope), Pid.

every_function_with_arguments_good_and_bad(N) ->
    S = scope(N, every_function),
    Living = sleeper(N), Other = sleeper(N), Dead = brief(N), Mine = self(),
    [{C, sorted(C, call(N, {pg, F, A}))} || C = {F, A} <-
        [{start, [every_function]}, {start, ["s"]}, {start, [1]}, {start_link, [every_function]}, {start, []},
         {join, [every_function, g, Living]}, {join, [every_function, g, [Living, Living]]},
         {join, [every_function, {other, 1.0}, Other]}, {join, [every_function, g, Mine]},
         {join, [every_function, g, [Living, Mine]]}, {join, [every_function, g, x]},
         {join, [every_function, g, [x]]}, {join, [every_function, g, [Living, x]]},
         {join, [every_function, g, [Living | x]]}, {join, [no_scope, g, Living]}, {join, ["s", g, Living]},
         {join, [S, g, Living]}, {leave, [S, g, Living]}, {join, [1, g, Living]}, {leave, [no_scope, g, Living]},
         {get_members, [every_function, g]}, {get_members, [no_scope, g]}, {get_members, ["s", g]},
         {get_members, [1, g]}, {get_members, [S, g]}, {get_members, [every_function, nobody]},
         {get_local_members, [every_function, g]}, {get_local_members, [no_scope, g]},
         {get_local_members, ["s", g]}, {which_groups, [every_function]}, {which_groups, [no_scope]},
         {which_groups, ["s"]}, {which_groups, [S]}, {which_local_groups, [every_function]},
         {which_local_groups, [no_scope]}, {which_local_groups, ["s"]}, {monitor_scope, [every_function]},
         {monitor_scope, [no_scope]}, {monitor_scope, ["s"]}, {monitor_scope, [S]}, {monitor, [every_function, g]},
         {monitor, [every_function, nobody]}, {monitor, [no_scope, g]}, {demonitor, [every_function, make_ref()]},
         {demonitor, [no_scope, make_ref()]}, {leave, [every_function, g, Living]},
         {leave, [every_function, g, [Living, Living, Living, Living, Living, Living]]},
         {leave, [every_function, g, Living]}, {leave, [every_function, g, []]}, {leave, [every_function, g, Mine]},
         {leave, [every_function, g, x]}, {leave, [every_function, g, [x]]}, {leave, [every_function, nobody, Other]},
         {leave, [every_function, g, [Dead]]}, {which_groups, [every_function]},
         {join, [every_function, g]}, {foo, [every_function]},
         {leave, [every_function, {other, 1.0}, [Other, Other]]}, {which_groups, [every_function]}]].

%% Groups are listed in the order of a hash table.
sorted({which_groups, _}, {{value, A}, {value, B}}) when is_list(A), is_list(B) -> {lists:sort(A), lists:sort(B)};
sorted({which_local_groups, _}, {{value, A}, {value, B}}) when is_list(A), is_list(B) -> {lists:sort(A), lists:sort(B)};
sorted(_, Answer) -> Answer.

functions_without_a_scope_are_of_the_scope_pg(N) ->
    P = sleeper(N),
    [{F, call(N, {pg, F, A})} || {F, A} <-
        [{join, [default, P]}, {get_members, [default]}, {get_local_members, [default]}, {leave, [default, P]},
         {leave, [default, P]}, {leave, [default, P]}, {join, [default, [P, P]]}, {leave, [default, [P, P, P, P]]},
         {get_members, [default]}, {demonitor, [make_ref()]}, {join, [default, x]}, {leave, [default, self()]}]]
        ++ [is_list(pg(N, which_groups, [])), is_list(pg(N, which_local_groups, [])),
            tuple_size(pg(N, monitor_scope, [])), tuple_size(pg(N, monitor, [default]))].

names() ->
    [a, 1, 1.0, true, false, undefined, [], {}, "text", <<"text">>, <<1:3>>, #{}, #{1 => a}, #{1.0 => a}, {1, 1.0}, {1.0, 1},
     [1 | 2], lists:seq(1, 2000), lists:duplicate(300, {deep, [list]}), self(), make_ref(), fun erlang:node/0,
     fun names/0, 1 bsl 100, -(1 bsl 100), -1, 0, [[]], [a | b], 'Elixir.Phoenix.PubSub', 'an atom', '', {self(), #{b => []}},
     binary:copy(<<"x">>, 100000), maps:from_list([{I, I} || I <- lists:seq(1, 100)])].

any_term_is_a_group(N) ->
    pair(N, any_term),
    P = sleeper(N),
    Joined = [pg(N, join, [any_term, Name, P]) || Name <- names()],
    settled(N, any_term),
    There = lists:sort(pg(N, which_groups, [any_term])) =:= lists:sort(names_as(N)),
    Here = [pg:get_members(any_term, Name) || Name <- names_here()],
    Mine = self(),
    [ok = pg:join(any_term, Name, Mine) || Name <- names_here()],
    settled(N, any_term),
    Both = [pg(N, get_members, [any_term, Name]) || Name <- names_here()],
    Left = [pg(N, leave, [any_term, Name, P]) || Name <- names_here()],
    settled(N, any_term),
    {Joined, There, Here, Both, Left, [pg:get_members(any_term, Name) || Name <- names_here()],
     length(pg(N, which_groups, [any_term])), length(pg(N, which_local_groups, [any_term]))}.

%% Those that are the same each time they are made.
names_here() -> [Name || Name <- names(), not is_reference(Name), not (is_function(Name) andalso erlang:fun_info(Name, type) =:= {type, local})].

names_as(_) -> names_here() ++ [].

numbers_that_are_equal_are_not_the_same_group(N) ->
    pair(N, numbers),
    [P, Q, R] = sleepers(N, 3),
    [pg(N, join, [numbers, Name, Pid]) || {Name, Pid} <- [{1, P}, {1.0, Q}, {true, R}, {#{1 => x}, P}, {#{1.0 => x}, Q}, {[1], P}, {[1.0], Q}]],
    settled(N, numbers),
    {[{Name, pg:get_members(numbers, Name), pg(N, get_members, [numbers, Name])} ||
        Name <- [1, 1.0, true, #{1 => x}, #{1.0 => x}, [1], [1.0], 2]], length(pg:which_groups(numbers))}.

members_are_listed_in_otps_order(N) ->
    pair(N, order),
    [P, Q, R] = sleepers(N, 3),
    Mine = self(),
    Steps = [{join, P}, {join, [Q, R]}, {join, P}, {leave, P}, {join, [R, R, P]}, {leave, [R, Q]}, {leave, [P, P, P, P]}],
    [begin
         Done = pg(N, F, [order, g, Pids]),
         settled(N, order),
         {F, Pids, Done, pg(N, get_members, [order, g]), pg(N, get_local_members, [order, g]), pg:get_members(order, g)}
     end || {F, Pids} <- Steps] ++
        [begin pg:join(order, g, Mine), settled(N, order), {pg(N, get_members, [order, g]), pg:get_members(order, g)} end].

changes_are_told_to_monitors_with_otps_words(N) ->
    {There, _} = pair(N, told_changes),
    [P, Q] = sleepers(N, 2),
    ok = pg(N, join, [told_changes, before, P]),
    {R, []} = gen_server:call(There, {monitor, g}),
    {S, #{before := [P]}} = gen_server:call(There, monitor),
    Mine = self(),
    Do = fun(F, A) -> X = pg(N, F, [told_changes | A]), settled(N, told_changes), {F, A, X, drained()} end,
    Here = fun(F, A) -> X = apply(pg, F, [told_changes | A]), settled(N, told_changes), {F, A, X, drained()} end,
    Events =
        [Do(join, [g, P]), Do(join, [g, [P, Q]]), Do(leave, [g, P]), Do(leave, [g, [P, Q, Q]]), Do(leave, [g, Q]),
         Do(join, [h, [Q, Q]]), Here(join, [g, Mine]), Here(join, [g, [Mine, Mine]]), Here(leave, [g, [Mine, Mine]]),
         Here(leave, [g, Mine]), Do(join, [g, [P, P, Q]])],
    exit(P, kill),
    Death = (fun() -> gone(P), drained() end)(),
    {R, S, Events, Death, gen_server:call(There, {demonitor, R}), gen_server:call(There, {demonitor, R}),
     Do(leave, [g, Q]), gen_server:call(There, {demonitor, S}), Do(join, [g, Q]),
     gen_server:call(There, {demonitor, make_ref()})}.

a_watcher_that_ends_is_told_no_more_and_harms_nobody(N) ->
    {There, _} = pair(N, watcher_ends),
    Me = self(),
    W = spawn(fun() -> {_, _} = gen_server:call(There, monitor), {_, _} = gen_server:call(There, {monitor, g}),
                       Me ! ready, receive stop -> ok end end),
    receive ready -> ok end,
    W ! stop, gone(W),
    P = sleeper(N),
    [pg(N, join, [watcher_ends, g, P]), pg(N, get_members, [watcher_ends, g]), rpc:call(N, erlang, whereis, [watcher_ends]) =:= There].

changes_over_there_are_told_here_by_our_own_pg(N) ->
    pair(N, told_here),
    {R, []} = pg:monitor(told_here, g),
    {S, #{}} = pg:monitor_scope(told_here),
    [P, Q] = sleepers(N, 2),
    Do = fun(F, A) -> X = pg(N, F, [told_here | A]), settled(N, told_here), {F, A, X, drained()} end,
    Events = [Do(join, [g, P]), Do(join, [g, [P, Q, Q]]), Do(leave, [g, [Q, P]]), Do(leave, [g, P])],
    exit(Q, kill), gone(Q),
    Death = drained(),
    ok = pg(N, join, [told_here, g, [P, P]]), ok = pg(N, join, [told_here, h, P]),
    settled(N, told_here), Joins = drained(),
    ok = gen_server:stop({told_here, N}),
    Stop = lists:sort(drained()),
    {R, S, Events, Death, Joins, Stop, pg:which_groups(told_here)}.

who_dies_leaves_all_groups_as_often_as_he_joined(N) ->
    pair(N, deaths),
    [P, Q] = sleepers(N, 2),
    [pg(N, join, [deaths, G, Pids]) || {G, Pids} <- [{a, P}, {a, [P, Q]}, {b, P}, {c, [Q, P, P]}]],
    settled(N, deaths),
    Before = [lists:sort(pg:get_members(deaths, G)) || G <- [a, b, c]],
    exit(P, kill), gone(P),
    settled(N, deaths),
    {Before, [pg:get_members(deaths, G) || G <- [a, b, c]], [pg(N, get_members, [deaths, G]) || G <- [a, b, c]],
     lists:sort(pg:which_groups(deaths)), lists:sort(pg(N, which_groups, [deaths]))}.

who_is_dead_already_joins_for_a_moment(N) ->
    pair(N, dead_joins),
    P = brief(N),
    X = pg(N, join, [dead_joins, g, [P, P]]),
    settled(N, dead_joins),
    Y = soon(fun() -> pg(N, get_members, [dead_joins, g]) =:= [] end),
    settled(N, dead_joins),
    {X, Y, pg:get_members(dead_joins, g), pg(N, which_groups, [dead_joins]), pg:which_groups(dead_joins), pg(N, leave, [dead_joins, g, P])}.

no_group_stays_without_members(N) ->
    pair(N, no_phantoms),
    [P, Q] = sleepers(N, 2),
    [begin
         ok = pg(N, join, [no_phantoms, {g, I}, [P, Q]]), ok = pg(N, leave, [no_phantoms, {g, I}, [Q, P]]),
         ok = pg:join(no_phantoms, {h, I}, self()), ok = pg:leave(no_phantoms, {h, I}, self())
     end || I <- lists:seq(1, 50)],
    settled(N, no_phantoms),
    {pg:which_groups(no_phantoms), pg(N, which_groups, [no_phantoms]), pg(N, which_local_groups, [no_phantoms]),
     gen_server:call({no_phantoms, N}, {monitor, {g, 1}})}.

a_scope_ends_and_begins_by_name_by_pid_and_by_signal(N) ->
    [begin
         {There, _} = pair(N, ends_and_begins),
         P = sleeper(N),
         ok = pg(N, join, [ends_and_begins, g, P]),
         settled(N, ends_and_begins),
         [P] = pg:get_members(ends_and_begins, g),
         R = monitor(process, There),
         Answer = outcome(fun() -> Stop(There) end),
         Down = judge:down(R, 500),
         sys:log(ends_and_begins, get),
         Gone = {rpc:call(N, erlang, whereis, [ends_and_begins]) =:= There, pg:get_members(ends_and_begins, g),
                 pg(N, get_members, [ends_and_begins, g])},
         {New, Started} = case pg(N, start, [ends_and_begins]) of
             {ok, Pid} -> {Pid =/= There, new}; {error, {already_started, There}} -> {There, still} end,
         settled(N, ends_and_begins),
         {Answer, Down, Gone, New, Started, lists:sort(pg(N, which_groups, [ends_and_begins]))}
     end || Stop <-
        [fun(_) -> rpc:call(N, gen_server, stop, [ends_and_begins]) end,
         fun(S) -> rpc:call(N, gen_server, stop, [S]) end,
         fun(_) -> rpc:call(N, gen_server, stop, [{ends_and_begins, N}]) end,
         fun(_) -> gen_server:stop({ends_and_begins, N}) end,
         fun(S) -> gen_server:stop(S, shutdown, 5000) end,
         fun(S) -> gen_server:stop(S, {shutdown, why}, 5000) end,
         fun(S) -> gen_server:stop(S, odd, 5000) end,
         fun(S) -> exit(S, kill) end, fun(S) -> exit(S, shutdown) end, fun(S) -> exit(S, odd) end,
         fun(S) -> exit(S, normal) end,
         fun(S) -> sys:terminate(S, normal) end]].

a_linked_scope_shares_the_fate_of_its_starter(N) ->
    _ = (catch rpc:call(N, gen_server, stop, [linked_scope])),
    {ok, S} = rpc:call(N, pg, start_link, [linked_scope]),
    One = soon(fun() -> rpc:call(N, erlang, whereis, [linked_scope]) =:= undefined end),
    {P, R} = spawn_monitor(N, pg, start_link, [linked_scope]),
    normal = judge:down(R),
    Two = is_pid(rpc:call(N, erlang, whereis, [linked_scope])),
    {node(S) =:= N, node(P) =:= N, One, Two, rpc:call(N, pg, start_link, [linked_scope]) =/= ok,
     rpc:call(N, gen_server, stop, [linked_scope])}.

many_scopes_do_not_mix(N) ->
    Scopes = [list_to_atom("mixed_" ++ integer_to_list(I)) || I <- lists:seq(1, 20)],
    [pair(N, S) || S <- Scopes],
    Ps = sleepers(N, 20),
    [ok = pg(N, join, [S, g, P]) || {S, P} <- lists:zip(Scopes, Ps)],
    [settled(N, S) || S <- Scopes],
    Seen = [pg:get_members(S, g) =:= [P] || {S, P} <- lists:zip(Scopes, Ps)],
    [gen_server:stop(S) || S <- Scopes],
    [gen_server:stop({S, N}) || S <- Scopes],
    lists:usort(Seen).

a_scope_that_starts_late_here_learns_of_all(N) ->
    S = scope(N, starts_late),
    Ps = sleepers(N, 3),
    ok = pg(N, join, [starts_late, g, Ps]),
    {ok, _} = pg:start(starts_late),
    settled(N, starts_late),
    One = lists:sort(pg:get_members(starts_late, g)) =:= lists:sort(Ps),
    gen_server:stop(starts_late),
    ok = pg(N, join, [starts_late, h, hd(Ps)]),
    {ok, _} = pg:start(starts_late),
    settled(N, starts_late),
    {S, One, lists:sort(pg:which_groups(starts_late)), length(pg:get_members(starts_late, g)), gen_server:stop(starts_late)}.

a_scope_here_that_ends_takes_its_members_along_there(N) ->
    {_, Here} = pair(N, ends_here),
    ok = pg:join(ends_here, g, [self(), self()]),
    settled(N, ends_here),
    Before = pg(N, get_members, [ends_here, g]),
    {R, _} = gen_server:call({ends_here, N}, {monitor, g}),
    exit(Here, kill), gone(Here),
    {R, Before, drained(), pg(N, get_members, [ends_here, g]), pg(N, which_groups, [ends_here])}.

a_cut_takes_members_along_and_a_meeting_brings_them_back_changed(N) ->
    {There, _} = pair(N, cut),
    [P, Q] = sleepers(N, 2),
    Mine = self(),
    ok = pg(N, join, [cut, stays, [P, P, Q]]), ok = pg(N, join, [cut, goes, P]), ok = pg:join(cut, stays, Mine),
    settled(N, cut),
    {R, _} = pg:monitor_scope(cut),
    apart(N),
    sys:log(cut, get),
    Apart = {lists:sort(drained()), pg:get_members(cut, stays), pg:which_groups(cut)},
    ok = pg:join(cut, alone, Mine), ok = pg:leave(cut, stays, Mine),
    Alone = drained(),
    true = net_kernel:connect_node(N),
    settled(N, cut),
    Together = lists:sort(drained()),
    {R, There, Apart, Alone, [{F, E, G, lists:sort(Ps)} || {F, E, G, Ps} <- Together], lists:sort(pg:get_members(cut, stays)), pg:get_members(cut, goes),
     pg(N, get_members, [cut, alone]), lists:sort(pg(N, get_members, [cut, stays])),
     lists:sort(pg(N, which_groups, [cut]))}.

ten_cuts_in_a_row_lose_and_double_nothing(N) ->
    pair(N, ten_cuts),
    Ps = sleepers(N, 5),
    ok = pg(N, join, [ten_cuts, g, Ps]), ok = pg:join(ten_cuts, g, [self(), self()]),
    settled(N, ten_cuts),
    [begin
         apart(N), true = net_kernel:connect_node(N), settled(N, ten_cuts),
         {length(pg:get_members(ten_cuts, g)), length(pg(N, get_members, [ten_cuts, g]))}
     end || _ <- lists:seq(1, 10)].

a_discover_is_answered_with_a_sync_and_once_with_a_discover(N) ->
    S = scope(N, discovered),
    P = sleeper(N),
    ok = pg(N, join, [discovered, g, [P, P]]),
    S ! {discover, self()},
    First = drained(),
    {discovered, N} ! {discover, self()},
    Second = drained(),
    gen_server:cast(S, {sync, self(), [{mine, [self()]}]}),
    S ! {join, self(), {mine, 2}, [self(), self()]},
    S ! {join, self(), mine, self()},
    Members = [pg(N, get_members, [discovered, G]) || G <- [mine, {mine, 2}]],
    S ! {leave, self(), self(), [mine, {mine, 2}]},
    S ! {leave, self(), [self()], [mine]},
    Left = [pg(N, get_members, [discovered, G]) || G <- [mine, {mine, 2}]],
    ok = pg(N, join, [discovered, h, P]),
    ok = pg(N, leave, [discovered, g, P]),
    exit(P, kill),
    {First, Second, Members, Left, drained(), pg(N, which_groups, [discovered])}.

a_sync_replaces_what_was_known(N) ->
    S = scope(N, synced),
    [A, B] = [spawn(fun() -> receive after infinity -> ok end end) || _ <- [1, 2]],
    [begin
         gen_server:cast(S, {sync, self(), Groups}),
         sys:get_state(S), % which comes after it; the tables are read by others
         [{G, lists:sort(pg(N, get_members, [synced, G]))} || G <- lists:sort(pg(N, which_groups, [synced]))]
     end || Groups <- [[{g, [A]}], [{g, [A, B]}, {h, [B]}], [{h, [B, B]}], [], [{g, [A, A]}], [{g, [B]}]]] ++ [drained()].

who_is_not_known_may_not_join(N) ->
    S = scope(N, strangers),
    S ! {join, self(), g, self()},
    S ! {leave, self(), self(), [g]},
    {pg(N, get_members, [strangers, g]), drained(), rpc:call(N, erlang, whereis, [strangers]) =:= S}.

a_discoverer_that_dies_takes_its_members_along(N) ->
    S = scope(N, discoverer_dies),
    Me = self(),
    D = spawn(fun() -> S ! {discover, self()}, gen_server:cast(S, {sync, self(), [{g, [Me]}]}), Me ! said, receive stop -> ok end end),
    receive said -> ok end,
    One = pg(N, get_members, [discoverer_dies, g]),
    D ! stop, gone(D),
    {One, soon(fun() -> pg(N, get_members, [discoverer_dies, g]) =:= [] end), pg(N, which_groups, [discoverer_dies])}.

raw_calls_of_a_scope(N) ->
    S = scope(N, raw_calls),
    P = sleeper(N),
    [outcome(fun() -> gen_server:call(S, Request, 2000) end) || Request <-
        [{join_local, g, P}, {join_local, g, [P, P]}, {leave_local, g, P}, {leave_local, nobody, P},
         {leave_local, g, [P, P, P]}, {leave_local, g, P}, monitor, {monitor, g}, {demonitor, make_ref()}]]
        ++ [element(1, sys:get_status(S)), sys:log(S, get), drained()].

a_scope_can_be_suspended(N) ->
    S = scope(N, suspended),
    ok = sys:suspend(S),
    Hung = outcome(fun() -> gen_server:call(S, {monitor, g}, 100) end),
    ok = sys:resume(S),
    {Hung, tuple_size(gen_server:call(S, {monitor, g}))}.

%% OTP 25 shows the state as it is, OTP 26 and later as {ok, State}; a BEAM of 25 gets the latter from those, too.
the_state_of_a_scope_has_otps_shape(N) ->
    {There, Here} = pair(N, has_state),
    P = sleeper(N),
    ok = pg(N, join, [has_state, g, [P, P]]), ok = pg(N, join, [has_state, {h}, P]), ok = pg:join(has_state, g, self()),
    {_, _} = gen_server:call(There, monitor), {_, _} = gen_server:call(There, {monitor, g}),
    settled(N, has_state),
    {Here, case sys:get_state(There) of {ok, State} -> State; State -> State end}.

%% OTP 26 and later take a discover of three elements as one of two; OTP 25 ends at it.
the_discover_of_later_releases_is_understood(N) ->
    case list_to_integer(erlang:system_info(otp_release)) >= 26 of
        true ->
            S = scope(N, later_discover),
            S ! {discover, self(), 1},
            {drained(), rpc:call(N, erlang, whereis, [later_discover]) =:= S};
        false ->
            not_asked
    end.

%% Whatever happens in between, what both sides show in the end is the same, and is what there is.
a_storm_of_changes_ends_with_the_same_on_both_sides(N) ->
    pair(N, storm),
    rand:seed(exsss, {1, 2, 3}),
    There = sleepers(N, 15),
    Here = [spawn(fun() -> receive after infinity -> ok end end) || _ <- lists:seq(1, 15)],
    Groups = [g, {h, 1}, 1, 1.0],
    One = fun(List) -> lists:nth(rand:uniform(length(List)), List) end,
    Step = fun(I) when I rem 100 =:= 0 -> apart(N), true = net_kernel:connect_node(N);
              (I) when I rem 40 =:= 0 -> exit(One(There), kill), exit(One(Here), kill);
              (_) ->
                   {Far, Pids} = One([{true, [One(There)]}, {true, [One(There), One(There)]}, {false, [One(Here)]}]),
                   Call = {One([join_local, join_local, leave_local]), One(Groups), Pids},
                   gen_server:call(case Far of true -> {storm, N}; false -> storm end, Call)
           end,
    [Step(I) || I <- lists:seq(1, 1000)],
    settled(N, storm),
    Alive = [P || P <- There, rpc:call(N, erlang, is_process_alive, [P])] ++ [P || P <- Here, is_process_alive(P)],
    [begin
         Seen = pg:get_members(storm, G),
         {G, soon(fun() -> lists:sort(pg:get_members(storm, G)) =:= lists:sort(pg(N, get_members, [storm, G])) end),
          Seen -- [P || P <- Seen, lists:member(P, Alive)],
          lists:sort([P || P <- Seen, node(P) =:= N]) =:= lists:sort(pg(N, get_local_members, [storm, G]))}
     end || G <- Groups].
