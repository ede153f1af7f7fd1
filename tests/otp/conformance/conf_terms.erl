%% Every kind of term goes there and comes back the same.
-module(conf_terms).
-compile([export_all, nowarn_export_all]).

terms() ->
    N = 7, Big = maps:from_list([{{key, I}, [I, I * 1.5]} || I <- lists:seq(1, 1000)]),
    [0, 1, -1, 255, 256, -256, 1 bsl 27, 1 bsl 28, 1 bsl 31, -(1 bsl 31), (1 bsl 31) - 1, 1 bsl 59, 1 bsl 60, -(1 bsl 60),
     1 bsl 63, 1 bsl 64, -(1 bsl 64), 1 bsl 2039, 1 bsl 2040, 1 bsl 2047, 1 bsl 30000, -(1 bsl 30000),
     0.0, -0.0, 1.0, -1.5, 1.0e308, 5.0e-324, 1.7976931348623157e308, 3.141592653589793,
     a, true, false, undefined, nil, '', 'with space', 'ünïcode', '日本語', list_to_atom(lists:duplicate(255, $x)),
     list_to_atom(lists:duplicate(255, 16#436)), 'Elixir.String',
     {}, {a}, {a, {b, {c, {}}}}, list_to_tuple(lists:seq(1, 255)), list_to_tuple(lists:seq(1, 256)),
     list_to_tuple(lists:seq(1, 70000)),
     [], [[]], [1, 2, 3], "string", lists:duplicate(65535, $a), lists:duplicate(65536, $a), [255, 256], [a | b],
     [1, 2 | 3], [[a | b] | [c | d]], lists:seq(1, 100000), [$a | <<"tail">>],
     <<>>, <<"binary">>, <<0:1>>, <<1:1>>, <<5:3>>, <<255, 1:7>>, <<0:9>>, binary:copy(<<7>>, 63), binary:copy(<<7>>, 64),
     binary:copy(<<7>>, 65535), binary:copy(<<7>>, 65536), binary:copy(<<7>>, 1000000), <<(binary:copy(<<7>>, 300000))/binary, 5:3>>,
     #{}, #{a => 1}, #{1 => int, 1.0 => float, true => bool, <<"1">> => bin, "1" => list, [] => nil, {} => tuple},
     #{#{} => #{}, #{a => 1} => #{1 => a}, [a | b] => improper}, Big, #{'__struct__' => 'Elixir.Date', year => 2026},
     maps:from_list([{I, I} || I <- lists:seq(1, 32)]), maps:from_list([{I, I} || I <- lists:seq(1, 33)]),
     self(), whereis(rex), make_ref(), hd(erlang:ports()), erlang:alias(), spawn(fun() -> ok end),
     fun erlang:node/0, fun lists:map/2, fun terms/0, fun() -> ok end, fun(X) -> X + N end, fun() -> Big end,
     fun(A, B) -> {A, B, self(), N, make_ref()} end,
     {1, 1.0, true, <<"1">>, "1", ['1'], #{1 => 1.0}}, nested(1000), wide(2000)].

nested(0) -> [];
nested(Depth) -> [{nested(Depth - 1)}].

wide(Count) -> [{I, <<I:32>>, integer_to_list(I), #{I => a}} || I <- lists:seq(1, Count)].

every_term_comes_back(N) ->
    [Term || Term <- terms(), erpc:call(N, erlang, hd, [[Term]], 30000) =/= Term].

every_term_comes_back_by_rpc_and_rex(N) ->
    [Term || Term <- terms(), rpc:call(N, erlang, hd, [[Term]], 30000) =/= Term
                       orelse gen_server:call({rex, N}, {call, erlang, hd, [[Term]], group_leader()}, 30000) =/= Term].

all_at_once(N) ->
    Terms = terms(),
    erpc:call(N, erlang, hd, [[Terms]], 30000) =:= Terms.

every_term_is_a_reason(N) ->
    [Term || Term <- terms(), begin
                                  P = judge:sleeper(N), R = monitor(process, P), exit(P, Term),
                                  case judge:down(R, 30000) of
                                      killed when Term =:= kill -> false;
                                      Reason -> Reason =/= Term
                                  end
                              end].

every_term_is_thrown(N) ->
    [Term || Term <- terms(), (try erpc:call(N, erlang, throw, [Term], 30000) catch throw:T -> T end) =/= Term].

terms_nested_deep_come_back(N) ->
    [erpc:call(N, erlang, hd, [[nested(Depth)]], 30000) =:= nested(Depth) || Depth <- [10, 100, 10000, 50000]].

a_message_of_16_mib_is_echoed(N) ->
    Big = binary:copy(<<"0123456789abcdef">>, 1 bsl 20),
    {erpc:call(N, erlang, hd, [[Big]], 30000) =:= Big, rpc:call(N, erlang, hd, [[{Big, x}]], 30000) =:= {Big, x}}.

small_messages_pass_between_the_pieces_of_a_big_one(N) ->
    Big = binary:copy(<<"0123456789abcdef">>, 1 bsl 20),
    Ks = [erpc:send_request(N, erlang, hd, [[{I, Big}]]) || I <- [1, 2, 3]],
    Small = [erpc:call(N, erlang, hd, [[I]], 30000) || I <- lists:seq(1, 20)],
    {Small, [element(1, erpc:receive_response(K, 30000)) || K <- Ks]}.
