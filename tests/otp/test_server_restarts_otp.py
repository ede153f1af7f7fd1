"""A BEAM kills servers of a Python node by their pids. Tests what it sees, and what works again afterwards."""

import pytest

from erlmesh.terms import Atom
from polling import wait_until

KILL, KILLED, PONG, YES, X = map(Atom, ("kill", "killed", "pong", "yes", "x"))
IDLE = "async def idle(me):\n    async for _ in me: pass"
MONITOR_AND_KILL = """
    fun() ->
        Ref = erlang:monitor(process, P__),
        exit(P__, kill),
        receive {'DOWN', Ref, process, P__, Reason} -> Reason after 5000 -> timeout end
    end()"""


@pytest.fixture
def pair(cluster, otp):
    beam, python = cluster.beam("plato", otp=otp), cluster.pynode("socrates")
    python.eval(IDLE)
    assert python.ping(beam.name)
    wait_until(lambda: is_mesh(beam, python))
    return beam, python


def is_mesh(beam, python):
    known = beam.eval("gen_server:call(global_name_server, get_known)")
    return known == [Atom(python.name)] and python.eval("node.global_.known()") == [beam.name]


def kill(beam, pid):
    """Its monitor of the process fires, as for any process."""
    assert beam.eval(MONITOR_AND_KILL, P__=pid) == KILLED


def whereis(python, name):
    return python.eval("node.whereis(name)", name=name)


def test_a_ping_is_answered_after_net_kernel_is_killed(pair):
    beam, python = pair
    kill(beam, whereis(python, "net_kernel"))

    assert beam.eval("gen_server:call({net_kernel, N__}, {is_auth, node()})", N__=Atom(python.name)) == YES
    assert beam.eval("net_adm:ping(N__)", N__=Atom(python.name)) == PONG


def test_calls_are_answered_after_rex_is_killed(pair):
    beam, python = pair
    kill(beam, whereis(python, "rex"))

    call = "gen_server:call({rex, N__}, {call, erlang, node, [], group_leader()})"
    assert beam.eval(call, N__=Atom(python.name)) == Atom(python.name)


def test_remote_output_is_shown_here_after_the_group_leader_is_killed(pair):
    beam, python = pair
    old = whereis(python, "user")
    kill(beam, old)

    assert python.eval("node.internals.group_leader") not in (None, old)
    assert python.eval("await node.rpc(peer, 'io', 'format', ['shown~n'])", peer=beam.name) == Atom("ok")


@pytest.mark.parametrize("reason", ["kill", "shutdown"])
def test_members_stay_when_a_beam_sends_an_exit_signal_to_our_pg(pair, reason):
    beam, python = pair
    beam.eval("case pg:start(pg) of {ok, _} -> ok; {error, {already_started, _}} -> ok end")
    member = python.eval("node.spawn(idle)")
    theirs = beam.eval('P = spawn(fun() -> timer:sleep(infinity) end), ok = pg:join(<<"x">>, P), P')
    python.eval("node.pg.join('x', member)", member=member)
    members = 'lists:sort(pg:get_members(<<"x">>))'
    both = beam.eval("lists:sort(Both__)", Both__=[member, theirs])
    wait_until(lambda: beam.eval(members) == both)
    old = whereis(python, "pg")
    beam.eval(f"exit(Old__, {reason})", Old__=old)
    wait_until(lambda: whereis(python, "pg") not in (None, old))

    wait_until(lambda: beam.eval(members) == both)
    assert python.eval("set(node.pg.get_members('x'))") == {member, theirs}
    python.eval("node.pg.leave('x', member)", member=member)
    wait_until(lambda: beam.eval(members) == [theirs])


@pytest.mark.parametrize(
    "part",
    ["node.whereis('global_name_server')", "node.global_._server._locker", "node.global_._server.registrar"],
)
def test_global_names_and_locks_work_after_a_process_of_global_is_killed(pair, part):
    beam, python = pair
    mine = python.eval("node.spawn(idle)")
    assert python.eval("await node.global_.register('mine', mine)", mine=mine)
    theirs = beam.eval("P = spawn(fun() -> timer:sleep(infinity) end), yes = global:register_name(theirs, P), P")
    beam.eval("true = global:set_lock({lock, self()}, nodes())")
    old = python.eval(part)
    kill(beam, old)
    wait_until(lambda: is_mesh(beam, python))

    assert python.eval(part) != old
    wait_until(lambda: beam.eval('global:whereis_name(<<"mine">>)') == mine)
    wait_until(lambda: python.eval("node.global_.whereis(Atom('theirs'))") == theirs)
    assert beam.eval("global:register_name(again, P__)", P__=theirs, timeout=60) == Atom("no")  # it has one already
    assert beam.eval("global:register_name(again, spawn(fun() -> timer:sleep(infinity) end))", timeout=60) == YES
    assert beam.eval("global:trans({other, self()}, fun() -> done end)", timeout=60) == Atom("done")
    assert python.eval("await node.global_.register('more', node.spawn(idle))")


def test_pg2_has_its_groups_after_it_is_killed(cluster):
    beam, python = cluster.beam("plato", otp=23), cluster.pynode("socrates")
    python.eval(IDLE)
    assert python.ping(beam.name)
    beam.eval("{ok, _} = pg2:start(), ok = pg2:create(x), ok = pg2:join(x, whereis(init))")
    wait_until(lambda: len(python.eval("node.pg2.which_groups()")) == 1)
    member = python.eval("node.spawn(idle)")
    python.eval("await node.pg2.join(Atom('x'), member)", member=member)
    kill(beam, whereis(python, "pg2"))

    assert set(python.eval("node.pg2.get_members(Atom('x'))")) == set(beam.eval("pg2:get_members(x)"))
    assert beam.eval("pg2:leave(x, P__)", P__=member, timeout=60) == Atom("ok")
    wait_until(lambda: python.eval("member not in node.pg2.get_members(Atom('x'))"))
