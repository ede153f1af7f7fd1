"""Calls to erlmesh.otp_functions give the same answers as the same calls to a BEAM."""

from __future__ import annotations

import pytest

from erlmesh.terms import Atom, Map, Pid, Ref
from polling import wait_until

ERLANG_AND_PG = r"""
    {erlang, node, []}, {erlang, nodes, []}, {erlang, hd, [[1, 2]]}, {erlang, hd, [[1 | 2]]}, {erlang, hd, [[]]},
    {erlang, hd, [x]}, {erlang, throw, [ball]}, {erlang, throw, [{'EXIT', ball}]}, {erlang, exit, [why]}, {erlang,
    exit, [normal]}, {erlang, whereis, [nobody]}, {erlang, whereis, [true]}, {erlang, whereis, ["rex"]}, {erlang,
    whereis, [rex]}, {erlang, is_process_alive, [Dead]}, {erlang, is_process_alive, [Living]}, {erlang,
    is_process_alive, [self()]}, {erlang, is_process_alive, [x]}, {erlang, exit, [Dead, kill]}, {erlang, exit, [x,
    kill]}, {erlang, spawn, [timer, sleep, [infinity]]}, {erlang, spawn, [erlang, node, []]}, {erlang, spawn, [no,
    such, []]}, {erlang, spawn, ["no", such, []]}, {erlang, spawn, [no, such, x]}, {no, such, []}, {erlang, node, [1,
    2, 3]}, {timer, sleep, [1]}, {timer, sleep, [0]}, {timer, sleep, [-1]}, {timer, sleep, [x]}, {timer, sleep,
    [true]}, {timer, sleep, [1 bsl 40]}, {net_kernel, connect_node, [node()]}, {net_kernel, connect_node, [N]},
    {net_kernel, connect_node, [nowhere]}, {net_kernel, connect_node, ['no@127.0.0.1']}, {net_kernel, connect_node,
    ["x"]}, {gen_server, stop, [nobody]}, {gen_server, stop, [Dead]}, {gen_server, stop, ["x"]}, {pg, start, [s]},
    {pg, start, [s]}, {pg, start, ["s"]}, {pg, start_link, [s]}, {erlang, whereis, [s]}, {pg, start_link, [brief]},
    {timer, sleep, [50]}, {erlang, whereis, [brief]}, {pg, join, [s, g, Living]}, {pg, join, [s, g, [Living,
    Living]]}, {pg, join, [s, {other, 1.0}, Living]}, {pg, join, [s, g, self()]}, {pg, join, [s, g, [Living,
    self()]]}, {pg, join, [s, g, x]}, {pg, join, [s, g, [x]]}, {pg, join, [nope, g, Living]}, {pg, leave, [nope, g,
    Living]}, {pg, get_members, [s, g]}, {pg, get_members, [nope, g]}, {pg, get_members, ["s", g]}, {pg,
    get_local_members, [s, g]}, {pg, get_local_members, [nope, g]}, {pg, which_groups, [s]}, {pg, which_groups,
    [nope]}, {pg, which_groups, ["s"]}, {pg, which_local_groups, [s]}, {pg, which_local_groups, [nope]}, {pg,
    which_local_groups, ["s"]}, {pg, monitor_scope, [s]}, {pg, monitor_scope, [nope]}, {pg, monitor, [s, g]}, {pg,
    monitor, [s, empty]}, {pg, monitor, [nope, g]}, {pg, demonitor, [s, make_ref()]}, {pg, demonitor, [nope,
    make_ref()]}, {pg, leave, [s, g, Living]}, {pg, leave, [s, g, [Living, Living, Living]]}, {pg, leave, [s, g,
    Living]}, {pg, leave, [s, g, []]}, {pg, leave, [s, g, self()]}, {pg, leave, [s, g, x]}, {pg, which_groups, [s]},
    {erlang, exit, [Living, kill]}, {timer, sleep, [50]}, {erlang, is_process_alive, [Living]}, {pg, which_groups,
    [s]}, {gen_server, stop, [s]}, {gen_server, stop, [s]}, {pg, get_members, [s, g]}, {pg, join, [s, g, Living]},
    {pg, start, [s]}, {pg, which_groups, [s]}, {gen_server, stop, [{s, N}]}, {pg, join, [g, Sleeper]}, {pg,
    get_members, [g]}, {pg, get_local_members, [g]}, {pg, which_groups, []}, {pg, which_local_groups, []}, {pg,
    monitor_scope, []}, {pg, monitor, [g]}, {pg, demonitor, [make_ref()]}, {pg, leave, [g, Sleeper]}, {pg, leave, [g,
    Sleeper]}
"""

PG2 = r"""
    {pg2, start, []}, {pg2, which_groups, []}, {pg2, create, [g]}, {pg2, create, [g]}, {pg2, which_groups, []},
    {pg2, get_members, [g]}, {pg2, get_closest_pid, [g]}, {pg2, get_members, [nope]}, {pg2, get_local_members, [nope]},
    {pg2, get_closest_pid, [nope]}, {pg2, join, [nope, Living]}, {pg2, leave, [nope, Living]}, {pg2, join, [g, x]},
    {pg2, leave, [g, x]}, {pg2, join, [g, Living]}, {pg2, join, [g, Living]}, {pg2, get_members, [g]},
    {pg2, get_local_members, [g]}, {pg2, get_closest_pid, [g]}, {pg2, leave, [g, Living]}, {pg2, get_members, [g]},
    {pg2, leave, [g, self()]}, {erlang, exit, [Living, kill]}, {timer, sleep, [50]}, {pg2, get_members, [g]},
    {pg2, delete, [nope]}, {pg2, delete, [g]}, {pg2, which_groups, []}
"""

ASK = """
    N = Node,
    Living = rpc:call(N, erlang, spawn, [timer, sleep, [infinity]]),
    Sleeper = spawn(N, timer, sleep, [infinity]),
    Dead = rpc:call(N, erlang, spawn, [erlang, node, []]),
    timer:sleep(50),
    [{Call, rpc:call(N, M, F, A, 3000)} || Call = {M, F, A} <- [CALLS]]
"""


@pytest.fixture
def stock(pynode):
    node = pynode("socrates")
    node.eval("import erlmesh.otp_functions")
    node.eval("node.expose(erlmesh.otp_functions)")
    return node


def shape(term, node):
    """The term without the parts that differ between nodes: identifiers, names and calls between functions."""
    match term:
        case Pid():
            return "a pid" if term.node.name == node.name else "our pid"
        case Ref():
            return "a ref"
        case Atom() if term.name == node.name:
            return "the node"
        case Atom():
            return "the asker" if term.name.startswith("asker") else term.name
        case (Atom("badrpc"), (Atom("EXIT"), (reason, [(Atom(), Atom(), _, list()) as top, *_]))):
            undefined = top[:3] if reason is Atom("undef") else ()
            return ("badrpc", "error", shape(reason, node), shape(undefined, node))
        case Map() | dict():
            return sorted(((shape(key, node), shape(value, node)) for key, value in dict(term).items()), key=repr)
        case tuple():
            return tuple(shape(part, node) for part in term)
        case list():
            return [shape(part, node) for part in term]
    return term


def call_results(asker, node, calls):
    answers = asker.eval(ASK.replace("CALLS", calls), Node=Atom(node.name), timeout=60.0)
    shapes = [(shape(call, node), shape(answer, node)) for call, answer in answers]
    return [  # groups are listed in the order of a hash table
        (call, sorted(answer, key=repr) if call[1].startswith("which") and isinstance(answer, list) else answer)
        for call, answer in shapes
    ]


@pytest.mark.otps(25, 27)  # the releases of these functions; pg2 has its own test, and pg of 29 gives other answers
def test_every_function_answers_as_in_otp(beam, stock, otp):
    real = beam("plato", otp=otp, arguments=["-kernel", "start_pg", "true"])

    expected = call_results(beam("asker1", otp=otp), real, ERLANG_AND_PG)
    given = call_results(beam("asker2", otp=otp), stock, ERLANG_AND_PG)

    differ = [(call, want, got) for (call, want), (_, got) in zip(expected, given, strict=True) if want != got]
    assert differ == [], differ


def test_every_function_of_pg2_answers_as_in_otp_23(beam, stock):
    real = beam("plato", otp=23)

    expected = call_results(beam("asker1", otp=23), real, PG2)
    real.kill()
    given = call_results(beam("asker2", otp=23), stock, PG2)

    differ = [(call, want, got) for (call, want), (_, got) in zip(expected, given, strict=True) if want != got]
    assert differ == [], differ


def test_a_sleeping_call_does_not_block_other_calls(beam, stock):
    asker = beam("asker")
    node = Atom(stock.name)

    asker.eval("Key = erpc:send_request(N, timer, sleep, [infinity])", N=node)

    assert asker.eval("rpc:call(N, timer, sleep, [1])", N=node) == Atom("ok")
    assert asker.eval("erpc:wait_response(Key, 0)") == Atom("no_response")


def test_an_exit_signal_ends_the_process_of_a_running_call(beam, stock):
    asker = beam("asker")
    asker.eval("{Pid, Ref} = spawn_monitor(N, timer, sleep, [infinity])", N=Atom(stock.name))

    asker.eval("exit(Pid, enough)")

    assert asker.eval("receive {'DOWN', Ref, process, Pid, Why} -> Why after 5000 -> late end") == Atom("enough")
    assert (
        stock.eval("len([p for p in node.internals.processes() if 'timer' in node.internals.local_process(p).label])")
        == 0
    )


@pytest.mark.parametrize(
    "stop", ["gen_server:stop(S)", "rpc:call(N, gen_server, stop, [s])", "exit(S, kill), ok", "exit(S, enough), ok"]
)
def test_a_stopped_scope_loses_its_members_and_can_be_started_again(beam, stock, stop):
    asker = beam("asker")
    asker.eval("N = Node, {ok, _} = pg:start(s), {ok, S} = rpc:call(N, pg, start, [s])", Node=Atom(stock.name))
    asker.eval("P = rpc:call(N, erlang, spawn, [timer, sleep, [infinity]])")
    asker.eval("ok = rpc:call(N, pg, join, [s, g, P])")
    wait_until(lambda: asker.eval("pg:get_members(s, g) =:= [P]"))

    assert asker.eval(stop) == Atom("ok")
    wait_until(lambda: asker.eval("pg:get_members(s, g) =:= []"))
    assert asker.eval("{ok, New} = rpc:call(N, pg, start, [s]), New =/= S")
    assert asker.eval("rpc:call(N, pg, which_groups, [s])") == []
    assert asker.eval("rpc:call(N, pg, join, [s, again, P])") == Atom("ok")
    wait_until(lambda: asker.eval("pg:get_members(s, again) =:= [P]"))


def test_a_scope_answers_sys_requests(beam, stock):
    asker = beam("asker")
    asker.eval("N = Node, {ok, _} = rpc:call(N, pg, start, [s])", Node=Atom(stock.name))

    assert asker.eval("sys:log({s, N}, get)") == (Atom("ok"), [])
    assert asker.eval("S = sys:get_state({s, N}), {ok, {state, s, _, _, _, _, _}} = {ok, element(2, S)}, ok") == Atom(
        "ok"
    )
    assert asker.eval("sys:terminate({s, N}, normal)") == Atom("ok")
    wait_until(lambda: asker.eval("rpc:call(N, erlang, whereis, [s])") == Atom("undefined"))


def test_a_beam_process_that_monitors_a_scope_here_receives_its_changes(beam, stock):
    asker = beam("asker")
    asker.eval("N = Node, {ok, _} = rpc:call(N, pg, start, [s])", Node=Atom(stock.name))
    asker.eval("P = rpc:call(N, erlang, spawn, [timer, sleep, [infinity]])")

    asker.eval("{R, []} = gen_server:call({s, N}, {monitor, g}), {S, #{}} = gen_server:call({s, N}, monitor)")
    asker.eval("ok = rpc:call(N, pg, join, [s, g, [P, P]]), exit(P, kill)")

    events = (
        "[receive {Tag, What, g, Pids} -> {What, length(Pids)} after 5000 -> late end || Tag <- [S, R, S, R, S, R]]"
    )
    assert asker.eval(events) == [(Atom("join"), 2)] * 2 + [(Atom("leave"), 1)] * 4
    assert asker.eval("gen_server:call({s, N}, {demonitor, R})") == Atom("ok")
    assert asker.eval("gen_server:call({s, N}, {demonitor, R})") is False
