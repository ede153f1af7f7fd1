%% Links, monitors, exits, and processes that are started from afar.
-module(conf_processes).
-compile([export_all, nowarn_export_all]).
-import(judge, [apart/1, brief/1, down/1, drained/0, gone/1, outcome/1, quiet/0, sleeper/1, sleepers/2, soon/1, told/0]).

reasons() ->
    [shutdown, {shutdown, why}, killed, kill, "text", <<"binary">>, <<5:3>>, 1.5, 1 bsl 80, #{a => [1]}, {badarg, []}, [],
     noconnection, noproc, true, fun erlang:node/0, make_ref(), self(), [a | b]].

alive(N, Pid) -> rpc:call(N, erlang, is_process_alive, [Pid]).

a_linked_process_is_told_the_reason(N) ->
    process_flag(trap_exit, true),
    [begin P = spawn_link(N, timer, sleep, [infinity]), exit(P, Reason), {Reason, told()} end || Reason <- reasons()].

a_monitor_is_told_the_reason(N) ->
    [begin P = sleeper(N), R = monitor(process, P), exit(P, Reason), {Reason, P, R, told()} end || Reason <- reasons()].

exit_normal_from_another_process_ends_nobody(N) ->
    process_flag(trap_exit, true),
    P = spawn_link(N, timer, sleep, [infinity]),
    R = monitor(process, P),
    true = exit(P, normal),
    {alive(N, P), quiet(), exit(P, bye), told(), told(), R, alive(N, P)}.

a_process_that_ends_by_itself_tells_its_reason(N) ->
    process_flag(trap_exit, true),
    [begin
         {P, R} = spawn_opt(N, erlang, exit, [Reason], [link, monitor]),
         {Reason, P, R, lists:sort([told(), told()])}
     end || Reason <- [normal | reasons()]].

what_a_function_raises_is_the_reason_of_its_process(N) ->
    [begin
         {P, R} = spawn_monitor(N, M, F, A),
         case told() of
             {'DOWN', R, process, P, {{nocatch, Ball}, Stack}} when is_list(Stack) -> {nocatch, Ball};
             {'DOWN', R, process, P, {Reason, [{TopM, TopF, TopA, _} | _]}} -> {Reason, {TopM, TopF, TopA}};
             {'DOWN', R, process, P, Reason} -> Reason
         end
     end || {M, F, A} <- [{erlang, throw, [ball]}, {erlang, hd, [[]]}, {erlang, exit, [done]}, {no, such, []},
                          {no, such, [1, 2]}, {erlang, node, []}, {timer, sleep, [1]}, {erlang, hd, [[1]]}]].

an_exit_comes_before_a_down(N) ->
    process_flag(trap_exit, true),
    [begin
         P = spawn_link(N, timer, sleep, [infinity]),
         R = monitor(process, P),
         exit(P, Reason),
         {R, told(), told()}
     end || Reason <- [a, kill, b]].

a_link_to_who_is_dead_is_noproc(N) ->
    process_flag(trap_exit, true),
    P = brief(N),
    {link(P), told(), quiet(), link(P), told(), quiet()}.

a_monitor_of_who_is_dead_is_noproc(N) ->
    P = brief(N),
    R = monitor(process, P),
    S = monitor(process, {nobody_of_this_name, N}),
    {P, R, S, lists:keysort(2, [told(), told()]), quiet()}.

monitors_by_name_speak_of_the_name(N) ->
    judge:scope(N, by_name),
    R = monitor(process, {by_name, N}),
    S = monitor(process, rpc:call(N, erlang, whereis, [by_name])),
    ok = gen_server:stop({by_name, N}, shutdown, 5000),
    {R, S, lists:keysort(2, [told(), told()]), quiet()}.

a_monitor_that_is_taken_back_says_nothing(N) ->
    P = sleeper(N),
    R = monitor(process, P),
    true = demonitor(R),
    S = monitor(process, P),
    true = demonitor(S, [info]),
    exit(P, kill),
    gone(P),
    T = monitor(process, P),
    D = soon(fun() -> {messages, Ms} = process_info(self(), messages), Ms =/= [] end),
    {D, demonitor(T, [flush, info]), demonitor(R, [info]), quiet()}.

many_monitors_of_one_process_are_all_told(N) ->
    P = sleeper(N),
    Refs = [monitor(process, P) || _ <- lists:seq(1, 50)],
    {Odd, Even} = lists:partition(fun(I) -> I rem 2 =:= 1 end, lists:seq(1, 50)),
    [demonitor(lists:nth(I, Refs)) || I <- Odd],
    exit(P, enough),
    {[down(lists:nth(I, Refs)) || I <- Even], quiet()}.

a_link_that_is_taken_back_says_nothing(N) ->
    process_flag(trap_exit, true),
    P = spawn_link(N, timer, sleep, [infinity]),
    true = unlink(P),
    exit(P, kill),
    gone(P),
    {unlink(P), quiet()}.

linking_twice_is_linking_once(N) ->
    process_flag(trap_exit, true),
    P = sleeper(N),
    [true = link(P) || _ <- [1, 2, 3]],
    true = unlink(P),
    Q = sleeper(N),
    [true = link(Q) || _ <- [1, 2, 3]],
    exit(P, p), exit(Q, q),
    {gone(P), gone(Q), drained()}.

linking_and_unlinking_in_haste_ends_as_the_last_word_says(N) ->
    process_flag(trap_exit, true),
    P = sleeper(N),
    [begin link(P), unlink(P) end || _ <- lists:seq(1, 300)],
    link(P),
    Q = sleeper(N),
    [begin link(Q), unlink(Q) end || _ <- lists:seq(1, 300)],
    exit(P, p), exit(Q, q),
    {gone(Q), told(), quiet()}.

an_unlink_and_an_exit_that_cross_leave_no_exit(N) ->
    process_flag(trap_exit, true),
    [begin
         P = spawn_link(N, timer, sleep, [infinity]),
         exit(P, crossing),
         unlink(P),
         receive {'EXIT', P, _} -> ok after 0 -> ok end,
         gone(P)
     end || _ <- lists:seq(1, 100)],
    quiet().

%% A process here that is linked to one there ends with each reason: what does that do there?
the_end_of_a_process_here_reaches_the_linked_one_there(N) ->
    [begin
         P = sleeper(N),
         R = monitor(process, P),
         {L, S} = spawn_monitor(fun() -> link(P), exit(Reason) end),
         Here = down(S),
         There = case Reason of normal -> {still, alive(N, P)}; _ -> told() end,
         exit(P, kill),
         {Reason, L, R, Here, There}
     end || Reason <- [normal | reasons()]].

a_killed_process_here_ends_the_linked_one_there_with_killed(N) ->
    P = sleeper(N),
    R = monitor(process, P),
    L = spawn(fun() -> link(P), receive after infinity -> ok end end),
    soon(fun() -> process_info(L, links) =:= {links, [P]} end),
    exit(L, kill),
    {R, told(), alive(N, P)}.

one_death_goes_through_a_chain_of_links(N) ->
    process_flag(trap_exit, true),
    Me = self(),
    Ps = sleepers(N, 20),
    Ls = [spawn(fun() -> link(P), Me ! {linked, self()}, receive {link, Next} -> link(Next), Me ! {linked, self()} end,
                         receive after infinity -> ok end end) || P <- Ps],
    [receive {linked, L} -> ok end || L <- Ls],
    [begin L ! {link, P}, receive {linked, L} -> ok end end || {L, P} <- lists:zip(Ls, tl(Ps) ++ [hd(Ps)])],
    Refs = [monitor(process, P) || P <- Ps ++ Ls],
    exit(lists:nth(7, Ps), domino),
    {[down(R) || R <- Refs], [alive(N, P) || P <- Ps]}.

an_alias_of_a_monitor_and_its_tag(N) ->
    P = sleeper(N),
    R = erlang:monitor(process, P, [{tag, {my, tag}}]),
    A = erlang:monitor(process, P, [{alias, explicit_unalias}]),
    B = erlang:monitor(process, P, [{alias, demonitor}, {tag, other}]),
    exit(P, over),
    {R, A, B, lists:keysort(2, [told(), told(), told()]), erlang:unalias(A), erlang:unalias(B)}.

options_of_spawn(N) ->
    process_flag(trap_exit, true),
    [begin
         Answer = outcome(fun() -> spawn_opt(N, erlang, exit, [over], Options) end),
         {Options, Answer, lists:sort(drained())}
     end || Options <- [[], [link], [monitor], [link, monitor], [monitor, link], [{monitor, []}], [{monitor, [{tag, t}]}],
                        [{monitor, [{alias, explicit_unalias}]}], [{monitor, [{tag, t}, {alias, demonitor}]}],
                        [link, link], [{priority, high}], [{priority, low}, link], [{min_heap_size, 1000}],
                        [{fullsweep_after, 10}], [{min_bin_vheap_size, 1000}], [{message_queue_data, off_heap}],
                        [{max_heap_size, 100000}], [{max_heap_size, #{size => 100000, kill => true}}]]].

bad_options_of_spawn(N) ->
    process_flag(trap_exit, true),
    [begin
         Answer = outcome(fun() -> spawn_opt(N, erlang, exit, [over], Options) end),
         Asked = outcome(fun() -> spawn_request(N, erlang, exit, [over], Options) end),
         {Options, Answer, Asked, drained()}
     end || Options <- [[foo], [{foo, bar}], [{priority, foo}], [{priority, 5}], [link, foo], [{monitor, foo}],
                        [{monitor, [foo]}], [{link, 1}], [{min_heap_size, -1}], [{min_heap_size, a}],
                        [{fullsweep_after, a}], [{message_queue_data, foo}], [{max_heap_size, a}], [{a, b, c}], [1],
                        [{scheduler, 1}], [link | foo], foo, [{monitor, [{alias, foo}]}], [{min_bin_vheap_size, x}],
                        [{max_heap_size, #{size => x}}], [{priority, max}]]].

requests_to_spawn_are_answered_as_they_ask_to_be(N) ->
    process_flag(trap_exit, true),
    [begin
         R = spawn_request(N, erlang, exit, [over], Options),
         {R, Options, drained()}
     end || Options <- [[], [{reply_tag, mine}], [{reply, yes}], [{reply, no}], [{reply, success_only}],
                        [{reply, error_only}], [{reply, error_only}, monitor], [{reply_tag, {a, tag}}, monitor],
                        [{reply_tag, x}, link], [{reply, no}, link, monitor], [monitor, {reply_tag, [1 | 2]}],
                        [foo, {reply_tag, mine}], [foo, {reply, no}], [foo, {reply, success_only}]]].

a_request_to_spawn_can_be_abandoned(N) ->
    process_flag(trap_exit, true),
    Rs = [spawn_request(N, timer, sleep, [infinity], [link, monitor]) || _ <- [1, 2, 3]],
    Abandoned = [spawn_request_abandon(R) || R <- Rs],
    {Rs, Abandoned, drained(), spawn_request_abandon(make_ref())}.

processes_started_from_afar_have_their_own_pids(N) ->
    Ps = [spawn(N, timer, sleep, [infinity]) || _ <- lists:seq(1, 200)],
    Different = length(lists:usort(Ps)),
    Alive = lists:usort([alive(N, P) || P <- Ps]),
    [exit(P, kill) || P <- Ps],
    [gone(P) || P <- Ps],
    {Different, Alive, lists:usort([alive(N, P) || P <- Ps]), lists:usort([node(P) || P <- Ps])}.

messages_to_nobody_vanish(N) ->
    P = brief(N),
    {P ! one, {nobody_of_this_name, N} ! two, erlang:send(P, three, [noconnect]), erlang:send(P, four, [nosuspend]),
     erlang:send({nobody_of_this_name, N}, five, [noconnect, nosuspend]), exit(P, kill), quiet(), net_adm:ping(N)}.

a_big_reason_arrives(N) ->
    Big = {big, binary:copy(<<"reason">>, 200000), lists:seq(1, 50000)},
    P = sleeper(N),
    R = monitor(process, P),
    exit(P, Big),
    {'DOWN', R, process, P, Reason} = told(),
    Reason =:= Big.

the_group_leader_of_a_process_there_can_be_set(N) ->
    P = sleeper(N),
    {group_leader(self(), P), rpc:call(N, erlang, is_process_alive, [P]), exit(P, kill)}.

a_cut_is_noconnection_for_links_and_monitors_and_both_sides_live_on(N) ->
    process_flag(trap_exit, true),
    P = sleeper(N),
    L = spawn_link(N, timer, sleep, [infinity]),
    M = monitor(process, P),
    S = monitor(process, {pg, N}),
    apart(N),
    Told = lists:sort(drained()),
    true = net_kernel:connect_node(N),
    {P, L, M, S, Told, alive(N, P), alive(N, L), quiet()}.

links_and_monitors_of_a_new_connection_work_as_those_of_the_first(N) ->
    process_flag(trap_exit, true),
    [begin
         P = sleeper(N),
         link(P), R = monitor(process, P),
         true = alive(N, P),
         apart(N),
         Told = lists:sort([told(), told()]),
         true = net_kernel:connect_node(N),
         Q = sleeper(N),
         {P, R, Told, link(Q), exit(Q, again), told()}
     end || _ <- lists:seq(1, 5)].

what_is_sent_to_an_unconnected_node_connects_it(N) ->
    process_flag(trap_exit, true),
    process_flag(trap_exit, true),
    [begin
         P = sleeper(N),
         apart(N),
         Seen = Speak(P),
         {P, Seen, soon(fun() -> lists:member(N, nodes()) end), alive(N, P), drained()}
     end || Speak <- [fun(P) -> monitor(process, P) end, fun(P) -> link(P) end, fun(P) -> P ! hello end,
                      fun(P) -> {x, node(P)} ! hello end, fun(P) -> exit(P, normal) end,
                      fun(P) -> erlang:send(P, x, [noconnect]), net_adm:ping(N) end,
                      fun(P) -> spawn_request(node(P), erlang, node, []), P end]].

node_events_name_their_reason(N) ->
    ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
    apart(N),
    true = net_kernel:connect_node(N),
    [E1, E2 | _] = [receive {E, N, I} -> {E, I} end || E <- [nodedown, nodeup]],
    {E1, E2}.

monitor_node_is_told_once_for_each(N) ->
    [erlang:monitor_node(N, true) || _ <- [1, 2, 3]],
    erlang:monitor_node(N, false),
    true = erlang:disconnect_node(N),
    drained() ++ [erlang:disconnect_node(N), net_kernel:connect_node(N)].
