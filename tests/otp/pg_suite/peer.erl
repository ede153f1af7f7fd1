%% OTP's `peer`, as far as its pg_SUITE asks for it, with erlmesh nodes as the peers. It is found before OTP's own when its
%% folder comes first in the code path; the suite and Common Test are unchanged.
%%
%% ERLMESH_PEER is the command that starts a node: the words of `erlmesh start`, without a name and a cookie. The node is
%% called by way of file descriptors 3 and 4 (see pg_suite_peer.py), as OTP's peer has a connection of its own, so that it
%% hears us also when it is cut off from the cluster.
-module(peer).
-export([start_link/1, start/1, stop/1, call/4, call/5, random_name/0, random_name/1]).
-export([supervision_child_spec/0]).  % kernel asks for it as it starts

random_name() ->
    random_name("peer").

random_name(Prefix) ->
    lists:flatten(io_lib:format("~s-~b-~s", [Prefix, erlang:unique_integer([positive]), os:getpid()])).

start_link(Options) ->
    {ok, Peer, Node} = start(Options),
    link(Peer),
    {ok, Peer, Node}.

start(#{name := Name}) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Node = list_to_atom(lists:concat([Name, "@", Host])),
    Me = self(),
    {Peer, Monitor} = spawn_monitor(fun() -> run(Me, Node) end),
    receive
        {Peer, up} ->
            demonitor(Monitor, [flush]),
            {ok, Peer, Node};
        {'DOWN', Monitor, process, Peer, Reason} ->
            {error, Reason}
    after 30000 ->
        exit(Peer, kill),
        {error, timeout}
    end.

stop(Peer) ->
    Monitor = monitor(process, Peer),
    Peer ! stop,
    receive {'DOWN', Monitor, process, Peer, _} -> ok end.

call(Peer, Module, Function, Arguments) ->
    call(Peer, Module, Function, Arguments, 5000).

call(Peer, Module, Function, Arguments, Timeout) ->
    Monitor = monitor(process, Peer),
    Peer ! {call, {self(), Monitor}, [Module, Function, Arguments]},
    receive
        {Monitor, {return, Value}} -> demonitor(Monitor, [flush]), Value;
        {Monitor, {Class, Reason, Stack}} -> demonitor(Monitor, [flush]), erlang:raise(Class, Reason, Stack);
        {'DOWN', Monitor, process, Peer, Reason} -> exit(Reason)
    after Timeout ->
        demonitor(Monitor, [flush]),
        exit(timeout)
    end.

supervision_child_spec() ->
    none.

run(Starter, Node) ->
    [Program | Words] = string:lexemes(os:getenv("ERLMESH_PEER"), " "),
    Arguments = Words ++ ["--name", atom_to_list(Node), "--cookie", atom_to_list(erlang:get_cookie())],
    Port = open_port({spawn_executable, Program}, [{args, Arguments}, {packet, 4}, nouse_stdio, binary, exit_status]),
    receive
        {Port, {data, Up}} -> up = binary_to_term(Up)
    end,
    Starter ! {self(), up},
    serve(Port, #{}, 1).

serve(Port, Asked, Number) ->
    receive
        {call, From, Call} ->
            port_command(Port, term_to_binary({Number, Call})),
            serve(Port, Asked#{Number => From}, Number + 1);
        {Port, {data, Data}} ->
            {Answered, Outcome} = binary_to_term(Data),
            {{Pid, Tag}, Rest} = maps:take(Answered, Asked),
            Pid ! {Tag, Outcome},
            serve(Port, Rest, Number);
        {Port, {exit_status, Status}} ->
            exit({erlmesh_ended, Status});
        stop ->
            {os_pid, Pid} = erlang:port_info(Port, os_pid),
            os:cmd("kill -KILL " ++ integer_to_list(Pid)),
            receive {Port, {exit_status, _}} -> ok end
    end.
