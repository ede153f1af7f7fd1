%% rpc, erpc, rex, gen calls and what else is asked of a node by name.
-module(conf_calls).
-compile([export_all, nowarn_export_all]).
-import(judge, [apart/1, brief/1, call/2, drained/0, gone/1, outcome/1, quiet/0, sleeper/1, soon/1, told/0, told/1]).

functions_of_erlang(N) ->
    Dead = brief(N), Living = sleeper(N), Mine = self(),
    [{C, call(N, {erlang, F, A})} || C = {F, A} <-
        [{node, []}, {node, [1, 2, 3]}, {hd, [[1, 2]]}, {hd, [[1 | 2]]}, {hd, [[]]}, {hd, [x]}, {hd, [<<"a">>]},
         {hd, []}, {hd, ["text"]}, {throw, [ball]}, {throw, [{'EXIT', ball}]}, {throw, [{error, x}]}, {exit, [why]},
         {exit, [normal]}, {exit, [kill]}, {exit, [{shutdown, 1}]}, {whereis, [nobody]}, {whereis, [true]},
         {whereis, ["rex"]}, {whereis, [1]}, {whereis, [undefined]}, {is_process_alive, [Dead]},
         {is_process_alive, [Living]}, {is_process_alive, [Mine]}, {is_process_alive, [x]}, {is_process_alive, [[]]},
         {exit, [Dead, kill]}, {exit, [x, kill]}, {exit, [rex, kill]}, {exit, [Living, normal]},
         {no_such_function, []}, {spawn, ["no", such, []]}, {spawn, [no, such, x]}, {spawn, [no, such, [1 | 2]]},
         {spawn, [no, 1, []]}]].

whereis_gives_pids_of_the_node(N) ->
    [begin P = rpc:call(N, erlang, whereis, [Name]), {is_pid(P), P =/= self(), node(P)} end ||
        Name <- [rex, net_kernel, global_name_server, pg]].

nodes_lists_the_visible_ones(N) ->
    lists:member(node(), rpc:call(N, erlang, nodes, [])).

exit_there_ends_processes_there_and_here(N) ->
    process_flag(trap_exit, true),
    P = spawn_link(N, timer, sleep, [infinity]),
    {rpc:call(N, erlang, exit, [P, called]), told(), rpc:call(N, erlang, exit, [self(), to_the_judge]), told()}.

spawned_processes_live_and_end(N) ->
    P = rpc:call(N, erlang, spawn, [timer, sleep, [infinity]]),
    Q = rpc:call(N, erlang, spawn, [erlang, node, []]),
    gone(Q),
    U = rpc:call(N, erlang, spawn, [no, such, []]),
    gone(U),
    {[rpc:call(N, erlang, is_process_alive, [X]) || X <- [P, Q, U]], exit(P, kill), gone(P),
     rpc:call(N, erlang, is_process_alive, [P])}.

functions_of_timer_net_kernel_and_gen_server(N) ->
    Dead = brief(N),
    [{C, call(N, C)} || C <-
        [{timer, sleep, [1]}, {timer, sleep, [0]}, {timer, sleep, [-1]}, {timer, sleep, [x]}, {timer, sleep, [1.0]},
         {timer, sleep, [true]}, {timer, sleep, []}, {net_kernel, connect_node, [node()]},
         {net_kernel, connect_node, [N]}, {net_kernel, connect_node, [nowhere]},
         {net_kernel, connect_node, ['no@127.0.0.1']}, {net_kernel, connect_node, ["x"]},
         {gen_server, stop, [nobody]}, {gen_server, stop, [Dead]}, {gen_server, stop, ["x"]}, {gen_server, stop, [1]},
         {gen_server, stop, [{nobody, N}]}, {gen_server, stop, [{nobody, 'no@127.0.0.1'}]},
         {gen_server, stop, [{global, nobody}]}, {no, such, []}, {no, such, [1, [2]]}]].

a_call_that_lasts_can_be_given_up(N) ->
    [outcome(fun() -> erpc:call(N, timer, sleep, [infinity], 50) end),
     outcome(fun() -> rpc:call(N, timer, sleep, [infinity], 50) end),
     outcome(fun() -> rpc:block_call(N, timer, sleep, [200], 50) end),
     outcome(fun() -> erpc:call(N, erlang, node, [], 0) end) =/= nothing,
     outcome(fun() -> erpc:call(N, erlang, node, [], x) end),
     outcome(fun() -> erpc:call(N, erlang, node, x, 100) end),
     outcome(fun() -> erpc:call(N, erlang, node, [1 | 2], 100) end),
     outcome(fun() -> erpc:call(N, "erlang", node, [], 100) end),
     (fun() -> timer:sleep(300), quiet() end)()].

every_way_of_rpc(N) ->
    [outcome(fun() -> rpc:block_call(N, erlang, hd, [[block]]) end),
     outcome(fun() -> rpc:block_call(N, erlang, hd, [[]]) end),
     outcome(fun() -> rpc:block_call(N, erlang, throw, [ball]) end),
     outcome(fun() -> rpc:block_call(N, erlang, exit, [out]) end),
     outcome(fun() -> rpc:block_call(N, no, such, []) end),
     outcome(fun() -> K = rpc:async_call(N, erlang, hd, [[async]]), rpc:yield(K) end),
     outcome(fun() -> K = rpc:async_call(N, erlang, hd, [[]]), rpc:yield(K) end),
     outcome(fun() -> K = rpc:async_call(N, timer, sleep, [infinity]), rpc:nb_yield(K, 30) end),
     outcome(fun() -> K = rpc:async_call(N, timer, sleep, [30]), rpc:nb_yield(K, 5000) end),
     outcome(fun() -> rpc:multicall([N, node(), 'no@127.0.0.1'], erlang, hd, [[multi]]) end),
     outcome(fun() -> rpc:multicall([N], timer, sleep, [infinity], 50) end),
     outcome(fun() -> rpc:cast(N, erlang, node, []) end),
     outcome(fun() -> rpc:eval_everywhere([N], erlang, node, []) end),
     outcome(fun() -> rpc:abcast([N], nobody, message) end),
     outcome(fun() -> rpc:sbcast([N], nobody, message) end),
     outcome(fun() -> rpc:sbcast([N], rex, message) end),
     outcome(fun() -> rpc:server_call(N, nobody, reply, request) end),
     outcome(fun() -> rpc:parallel_eval([{erlang, hd, [[I]]} || I <- [1, 2, 3]]) end),
     outcome(fun() -> rpc:pmap({erlang, hd}, [], [[1], [2], [3]]) end),
     quiet()].

a_cast_does_what_it_is_told(N) ->
    process_flag(trap_exit, true),
    [begin P = spawn_link(N, timer, sleep, [infinity]), Cast(P), told() end || Cast <-
        [fun(P) -> rpc:cast(N, erlang, exit, [P, rpc]) end, fun(P) -> erpc:cast(N, erlang, exit, [P, erpc]) end,
         fun(P) -> erpc:multicast([N], erlang, exit, [P, multi]) end,
         fun(P) -> gen_server:cast({rex, N}, {cast, erlang, exit, [P, rex], self()}) end]].

every_way_of_erpc(N) ->
    [outcome(fun() -> erpc:multicall([N, node(), 'no@127.0.0.1'], erlang, hd, [[multi]], 5000) end),
     outcome(fun() -> [trim(E) || E <- erpc:multicall([N, N], erlang, hd, [[]], 5000)] end),
     outcome(fun() -> erpc:multicall([N, N], erlang, throw, [ball], 5000) end),
     outcome(fun() -> erpc:multicall([N, N], erlang, exit, [ball], 5000) end),
     outcome(fun() -> erpc:multicall([N], timer, sleep, [infinity], 50) end),
     outcome(fun() -> erpc:receive_response(erpc:send_request(N, erlang, hd, [[later]])) end),
     outcome(fun() -> erpc:receive_response(erpc:send_request(N, erlang, hd, [[]])) end),
     outcome(fun() -> erpc:receive_response(erpc:send_request(N, erlang, exit, [later]), 5000) end),
     outcome(fun() -> erpc:receive_response(erpc:send_request(N, timer, sleep, [infinity]), 30) end),
     outcome(fun() -> erpc:wait_response(erpc:send_request(N, timer, sleep, [infinity]), 30) end),
     outcome(fun() -> erpc:wait_response(erpc:send_request(N, erlang, throw, [later]), 5000) end),
     outcome(fun() -> K = erpc:send_request(N, erlang, hd, [[checked]]), M = told(), erpc:check_response(M, K) end),
     outcome(fun() -> K = erpc:send_request(N, erlang, hd, [[no]]), R = erpc:check_response(what, K),
                      {R, erpc:receive_response(K)} end),
     outcome(fun() -> erpc:call('no@127.0.0.1', erlang, node, [], 5000) end),
     outcome(fun() -> erpc:call(N, fun erlang:node/0, 5000) end),
     quiet()].

trim({C, {exception, R, [{M, F, A, _} | _]}}) -> {C, {exception, R, {M, F, A}}};
trim(Other) -> Other.

many_calls_at_once_all_answer(N) ->
    Ks = [erpc:send_request(N, erlang, hd, [[I]]) || I <- lists:seq(1, 1000)],
    [erpc:receive_response(K, 10000) || K <- Ks] =:= lists:seq(1, 1000).

a_sleeping_call_holds_up_no_other(N) ->
    K = erpc:send_request(N, timer, sleep, [infinity]),
    L = rpc:async_call(N, timer, sleep, [infinity]),
    {rpc:call(N, erlang, hd, [[here]], 5000), rpc:block_call(N, erlang, hd, [[too]], 5000), is_tuple(K) orelse is_list(K),
     is_pid(L) orelse is_tuple(L)}.

a_call_in_the_middle_of_being_cut_is_noconnection(N) ->
    K = erpc:send_request(N, timer, sleep, [infinity]),
    Me = self(),
    P = spawn(fun() -> Me ! {self(), rpc:call(N, timer, sleep, [infinity])} end),
    timer:sleep(50),
    apart(N),
    {outcome(fun() -> erpc:receive_response(K, 5000) end), P, told()}.

a_c_nodes_calls_are_answered(N) ->
    [begin {rex, N} ! {self(), Call}, trim_rex(told(1000)) end || Call <-
        [{call, erlang, hd, [[c]], user}, {call, erlang, hd, [[c]], self()}, {call, no, such, [], user},
         {call, erlang, throw, [ball], user}, {call, erlang, exit, [out], user}, features_request]].

trim_rex({rex, {badrpc, {'EXIT', {R, [{M, F, A, _} | _]}}}}) -> {rex, badrpc, R, {M, F, A}};
trim_rex(Other) -> Other.

calls_by_rex_of_old(N) ->
    [trim_old(outcome(fun() -> gen_server:call({rex, N}, Request, 2000) end)) || Request <-
        [{call, erlang, hd, [[old]], self()}, {call, erlang, hd, [[]], self()}, {call, no, such, [], self()},
         {call, erlang, throw, [ball], self()}, {call, erlang, exit, [out], self()},
         {block_call, erlang, hd, [[old]], self()}, {block_call, erlang, exit, [out], self()}]].

trim_old({value, {badrpc, {'EXIT', {R, [{M, F, A, _} | _]}}}}) -> {badrpc, R, {M, F, A}};
trim_old(Other) -> Other.

gen_calls_to_who_does_not_answer(N) ->
    P = sleeper(N), Dead = brief(N),
    Killed = sleeper(N),
    spawn(fun() -> timer:sleep(400), exit(Killed, reaped) end),
    [outcome(fun() -> gen_server:call({nobody, N}, x) end),
     outcome(fun() -> gen_server:call(Dead, x) end),
     outcome(fun() -> gen_server:call(P, x, 50) end),
     outcome(fun() -> gen_server:call(Killed, x, 5000) end),
     outcome(fun() -> gen_server:call({pg, 'no@127.0.0.1'}, x) end),
     outcome(fun() -> gen_server:multi_call([N, node()], nobody, x) end),
     outcome(fun() -> gen_server:cast({nobody, N}, x) end),
     outcome(fun() -> gen_server:abcast([N], nobody, x) end),
     outcome(fun() -> gen_server:receive_response(gen_server:send_request({nobody, N}, x), 5000) end),
     outcome(fun() -> gen_server:wait_response(gen_server:send_request(P, x), 50) end),
     outcome(fun() -> gen_server:stop({nobody, N}) end),
     outcome(fun() -> gen_server:stop(Dead) end),
     rpc:call(N, erlang, is_process_alive, [P]), quiet()].

a_server_that_ends_during_a_call_gives_its_reason(N) ->
    [begin
         judge:scope(N, ends_during_a_call),
         S = rpc:call(N, erlang, whereis, [ends_during_a_call]),
         R = monitor(process, S),
         exit(S, Reason),
         Reason =:= normal orelse judge:down(R)
     end || Reason <- [shutdown, kill, {a, b}, normal]].

pings_and_connections(N) ->
    [net_adm:ping(N), net_kernel:connect_node(N), erlang:disconnect_node(N), net_adm:ping(N),
     erlang:disconnect_node('no@127.0.0.1'), net_adm:ping('no@127.0.0.1'), net_kernel:hidden_connect_node(N),
     gen_server:call({net_kernel, N}, {is_auth, node()}),
     gen_server:call({net_kernel, N}, {is_auth, 'somebody@else'}),
     lists:member(N, nodes()), lists:member(N, nodes(hidden)), lists:member(N, nodes(connected))].

global_sees_the_node_and_answers(N) ->
    ok = global:sync(),
    true = soon(fun() -> lists:member(N, gen_server:call(global_name_server, get_known)) end),
    Name = {conformance, N},
    P = sleeper(N),
    [global:register_name(Name, P), global:whereis_name(Name) =:= P, lists:member(Name, global:registered_names()),
     global:register_name(Name, self()), global:re_register_name(Name, self()), global:whereis_name(Name) =:= self(),
     global:unregister_name(Name), global:whereis_name(Name), global:set_lock({lock, self()}, [N, node()], 3),
     global:set_lock({lock, other}, [N, node()], 0), global:del_lock({lock, self()}, [N, node()]),
     global:trans({lock, self()}, fun() -> inside end, [N, node()]), global:register_name(Name, P), exit(P, kill),
     soon(fun() -> global:whereis_name(Name) =:= undefined end)].
