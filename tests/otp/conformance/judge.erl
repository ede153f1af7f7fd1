%% Runs one case against one node and gives what came of it in a form that can be compared with what came of it elsewhere.
%%
%% A case is a function of one argument, the node it examines. It runs in a process of its own and returns what it saw. The
%% same case is run against a BEAM and against an erlmesh node: where the two differ, OTP could tell them apart.
-module(judge).
-export([run/3, shape/2]).
-export([apart/1, brief/1, call/2, drained/0, drained/1, down/1, down/2, gone/1, outcome/1, quiet/0, scope/2, sleeper/1,
         sleepers/2, soon/1, told/0, told/1]).

-define(PATIENCE, 10000).

run(Module, Case, Node) ->
    true = net_kernel:connect_node(Node),
    {Pid, Ref} = spawn_monitor(fun() -> exit({saw, Module:Case(Node)}) end),
    receive
        {'DOWN', Ref, process, Pid, {saw, What}} -> {saw, shape(What, Node)};
        {'DOWN', Ref, process, Pid, Why} -> {crashed, shape(Why, Node)}
    after 60000 ->
        Where = process_info(Pid, [current_stacktrace, messages]),
        exit(Pid, kill),
        {hung, shape(Where, Node)}
    end.

%% A term without what differs from node to node and from run to run. The same pid or reference is the same mark wherever
%% it stands.
shape(Term, Node) ->
    {Shape, _} = shape(Term, Node, #{}),
    unicode:characters_to_binary(io_lib:format("~0tp", [Shape])).

shape(Pid, Node, Seen) when is_pid(Pid) ->
    Where = case node(Pid) of Node -> subject; Own when Own =:= node() -> judge; _ -> other end,
    mark(Pid, {pid, Where}, Seen);
shape(Ref, _, Seen) when is_reference(Ref) ->
    mark(Ref, {ref}, Seen);
shape(Node, Node, Seen) ->
    {'THE-NODE', Seen};
shape(Own, _, Seen) when Own =:= node() ->
    {'THE-JUDGE', Seen};
shape([Head | Tail], Node, Seen) ->
    {First, Seen1} = shape(Head, Node, Seen),
    {Rest, Seen2} = shape(Tail, Node, Seen1),
    {[First | Rest], Seen2};
shape(Tuple, Node, Seen) when is_tuple(Tuple) ->
    {Parts, Seen1} = shape(tuple_to_list(Tuple), Node, Seen),
    {list_to_tuple(Parts), Seen1};
shape(Map, Node, Seen) when is_map(Map) ->
    {Pairs, Seen1} = shape(lists:sort(maps:to_list(Map)), Node, Seen),
    {{map, Pairs}, Seen1};
shape(Other, _, Seen) ->
    {Other, Seen}.

mark(Thing, Kind, Seen) ->
    case Seen of
        #{Thing := Mark} -> {Mark, Seen};
        #{} ->
            Mark = list_to_tuple(tuple_to_list(Kind) ++ [map_size(Seen)]),
            {Mark, Seen#{Thing => Mark}}
    end.

%% A value, or what it did instead: class and reason, and of a stack the function on top.
outcome(Fun) ->
    try {value, trimmed(Fun())}
    catch Class:Reason -> {Class, trimmed(Reason)}
    end.

trimmed({exception, function_clause, _}) -> {exception, function_clause};  % of whichever of its functions
trimmed({badrpc, {'EXIT', {function_clause, _}}}) -> {badrpc, {'EXIT', function_clause}};
trimmed({exception, {{function_clause, _}, Call}}) -> {exception, {function_clause, Call}};
trimmed({badrpc, {'EXIT', {{function_clause, _}, Call}}}) -> {badrpc, {'EXIT', {function_clause, Call}}};
trimmed({exception, Reason, Stack}) when is_list(Stack) -> {exception, Reason, top(Stack)};
trimmed({badrpc, {'EXIT', {Reason, [{_, _, _, _} | _] = Stack}}}) -> {badrpc, {'EXIT', {Reason, top(Stack)}}};
trimmed({error, {exception, Reason, Stack}}) when is_list(Stack) -> {error, {exception, Reason, top(Stack)}};
trimmed(Other) -> Other.

top([{Module, Function, Arguments, _} | _]) when is_list(Arguments) -> {Module, Function, Arguments};
top([{Module, _, _, _} | _]) -> Module;  % which of its functions is another in each release
top(Other) -> Other.

%% A call by both ways there are.
call(Node, {Module, Function, Arguments}) ->
    {outcome(fun() -> erpc:call(Node, Module, Function, Arguments, 5000) end),
     outcome(fun() -> rpc:call(Node, Module, Function, Arguments, 5000) end)}.

sleeper(Node) -> spawn(Node, timer, sleep, [infinity]).

sleepers(Node, Count) -> [sleeper(Node) || _ <- lists:seq(1, Count)].

%% A process there that has ended.
brief(Node) ->
    {Pid, Ref} = spawn_monitor(Node, erlang, node, []),
    receive {'DOWN', Ref, process, Pid, normal} -> Pid end.

%% A new scope there, of a name that no other case has.
scope(Node, Name) ->
    _ = (catch rpc:call(Node, gen_server, stop, [Name])),
    {ok, Pid} = rpc:call(Node, pg, start, [Name]),
    Pid.

told() -> told(?PATIENCE).

%% The next message.
told(Patience) -> receive Message -> Message after Patience -> nothing end.

%% Everything that has come, when nothing more comes.
drained() -> drained(150).

drained(Pause) -> case told(Pause) of nothing -> []; Message -> [Message | drained(Pause)] end.

%% The reason in the DOWN of this monitor.
down(Ref) -> down(Ref, ?PATIENCE).

down(Ref, Patience) -> receive {'DOWN', Ref, process, _, Reason} -> Reason after Patience -> nothing end.

%% Waits for the end of a process.
gone(Pid) -> down(monitor(process, Pid)), ok.

%% Whether no message is there, all that was under way having arrived.
quiet() -> drained() =:= [].

%% Looks until it is so.
soon(Condition) -> soon(Condition, erlang:monotonic_time(millisecond) + ?PATIENCE).

soon(Condition, Until) ->
    case Condition() of
        true -> true;
        Other ->
            case erlang:monotonic_time(millisecond) > Until of
                true -> {never, Other};
                false -> timer:sleep(5), soon(Condition, Until)
            end
    end.

%% Cuts the connection, and returns when that is known here.
apart(Node) ->
    erlang:monitor_node(Node, true),
    true = erlang:disconnect_node(Node),
    receive {nodedown, Node} -> ok end.
