"""Restarts, a mesh, a partition and a long run of an ``erlmesh start`` node, as BEAMs see them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from beam import otp_environment, programs
from erlmesh.terms import Atom
from polling import wait_until
from test_conformance_otp import COOKIE, erlmesh

OK = Atom("ok")
NAME = "socrates@127.0.0.1"
N = Atom(NAME)
PAGE = os.sysconf("SC_PAGE_SIZE")
START_PG = ["-kernel", "start_pg", "true"]


@pytest.fixture
def observer(cluster, otp):
    return cluster.beam("judge", otp=otp, cookie=COOKIE, arguments=START_PG)


def resident(node) -> int:
    return int(Path(f"/proc/{node.pid}/statm").read_text().split()[1]) * PAGE


@pytest.mark.timeout(600)  # twenty starts of Python on a machine that may be busy
def test_each_restart_of_a_killed_node_is_a_new_incarnation(cluster, observer, rounds):
    observer.eval("net_kernel:monitor_nodes(true), Next = fun() -> receive X -> X after 10000 -> nothing end end")
    observer.eval("Down = fun(R) -> receive {'DOWN', R, _, _, Why} -> Why after 10000 -> nothing end end")
    olds: list = []
    for _ in range(rounds(20)):
        node = erlmesh(cluster, "socrates")
        assert observer.ping(NAME)
        assert observer.eval("Next()") == (Atom("nodeup"), N)
        pid, ref = observer.eval("spawn_monitor(N, timer, sleep, [infinity])", N=N)
        assert observer.eval("rpc:call(N, pg, join, [g, P])", N=N, P=pid) == OK
        wait_until(lambda pid=pid: observer.eval("pg:get_members(g)") == [pid])
        for old in olds:  # gone, although a process with the same numbers is alive
            assert observer.eval("Down(monitor(process, Old))", Old=old) == Atom("noproc")
            assert observer.eval("rpc:call(N, erlang, is_process_alive, [Old])", N=N, Old=old) is False

        node.kill()

        assert observer.eval("Down(M)", M=ref) == Atom("noconnection")
        assert observer.eval("Next()") == (Atom("nodedown"), N)
        wait_until(lambda: observer.eval("pg:get_members(g) =:= []"))
        olds = [*olds[-2:], pid]


def test_a_node_connects_two_beams_and_a_restart_restores_the_mesh(cluster, otp):
    one, other = (cluster.beam(name, otp=otp, cookie=COOKIE, arguments=START_PG) for name in ("plato", "aristotle"))
    node = erlmesh(cluster, "socrates")

    assert one.ping(NAME)
    assert other.ping(NAME)

    wait_until(lambda: one.nodes() == {other.name, NAME} and other.nodes() == {one.name, NAME})
    pid = one.eval("P = spawn(N, timer, sleep, [infinity])", N=N)
    wait_until(lambda: one.eval("global:register_name(sleeper, P)") == Atom("yes"))
    wait_until(lambda: other.eval("global:whereis_name(sleeper)") == pid)
    assert other.eval("rpc:call(N, pg, join, [g, P])", N=N, P=pid) == OK
    wait_until(lambda: one.eval("pg:get_members(g)") == other.eval("pg:get_members(g)") == [pid])
    node.kill()
    wait_until(lambda: one.eval("{global:whereis_name(sleeper), pg:get_members(g)}") == (Atom("undefined"), []))
    wait_until(lambda: other.eval("{global:whereis_name(sleeper), pg:get_members(g)}") == (Atom("undefined"), []))
    erlmesh(cluster, "socrates", "--join", one.name)
    wait_until(lambda: one.nodes() == {other.name, NAME} and other.nodes() == {one.name, NAME}, timeout=30)


def test_changes_on_both_sides_of_a_long_partition_are_seen_when_it_ends(cluster, observer):
    erlmesh(cluster, "socrates")
    through = cluster.beam("through", cookie=COOKIE, arguments=["-hidden", "-connect_all", "false"])
    assert observer.ping(NAME)
    observer.eval("[P, Q] = [spawn(N, timer, sleep, [infinity]) || _ <- [1, 2]], Me = self()", N=N)
    observer.eval(
        "[rpc:call(N, pg, join, [G, X]) || {G, X} <- [{old, P}, {moved, P}, {dies, Q}]], pg:join(mine, Me)", N=N
    )
    p, q = observer.eval("[P, Q]")

    observer.eval("erlang:set_cookie(N, wrong), erlang:disconnect_node(N)", N=N)

    wait_until(lambda: observer.eval("pg:which_groups()") == [Atom("mine")])
    assert not observer.ping(NAME)
    ask = "rpc:call(N, M, F, A)"

    def there(module, function, *arguments):
        return through.eval(ask, N=N, M=Atom(module), F=Atom(function), A=list(arguments))

    assert there("erlang", "nodes") == []
    assert there("pg", "leave", Atom("moved"), p) == there("pg", "join", Atom("new"), p) == OK
    assert there("erlang", "exit", q, Atom("kill")) is True
    wait_until(lambda: there("pg", "get_members", Atom("dies")) == [])
    observer.eval("pg:join(mine, Me), pg:join(also, Me)")
    assert there("pg", "get_members", Atom("mine")) == []
    observer.eval("erlang:set_cookie(N, Cookie)", N=N, Cookie=Atom(COOKIE))
    assert observer.ping(NAME)
    groups = [Atom(name) for name in ("also", "mine", "new", "old")]
    wait_until(lambda: observer.eval("lists:sort(pg:which_groups())") == groups)
    wait_until(lambda: sorted(there("pg", "which_groups"), key=str) == groups)
    assert observer.eval("[pg:get_members(G) =:= [P] || G <- [old, new]]") == [True, True]
    assert len(there("pg", "get_members", Atom("mine"))) == 2


WORK = """
    S = rpc:call(N, erlang, whereis, [pg]), Nothing = make_ref(),
    [S ! {'$gen_call', {self(), I}, {demonitor, Nothing}} || I <- lists:seq(1, 50000)],
    [receive {I, false} -> ok end || I <- lists:seq(1, 50000)],
    Odd = fun(I) -> {I, make_ref(), list_to_atom([$x | integer_to_list(I rem 1000)])} end,
    [erpc:call(N, erlang, hd, [[Odd(I)]]) || I <- lists:seq(1, 3000)],
    Ps = [spawn(N, timer, sleep, [infinity]) || _ <- lists:seq(1, 2000)],
    Rs = [monitor(process, X) || X <- Ps], [link(X) || X <- Ps], [unlink(X) || X <- Ps],
    [ok = rpc:call(N, pg, join, [{g, I rem 50}, X]) || {I, X} <- lists:zip(lists:seq(1, 500), lists:sublist(Ps, 500))],
    [exit(X, kill) || X <- Ps], [receive {'DOWN', R, _, _, _} -> ok end || R <- Rs],
    [erlang:monitor(process, {list_to_atom("nobody" ++ integer_to_list(I rem 1000)), N}) || I <- lists:seq(1, 2000)],
    [receive {'DOWN', _, _, _, noproc} -> ok end || _ <- lists:seq(1, 2000)],
    Bin = binary:copy(<<1>>, 1000000), [Bin = erpc:call(N, erlang, hd, [[Bin]]) || _ <- lists:seq(1, 20)],
    erpc:call(N, pg, which_groups, [])
"""


def test_two_hundred_thousand_messages_leak_nothing(cluster, observer):
    node = erlmesh(cluster, "socrates")
    observer.eval("Work = fun(N) -> " + WORK + " end")
    for _ in range(2):  # memory that the node keeps is allocated by then
        assert observer.eval("Work(N)", N=N, timeout=60) == []
    before = resident(node)

    for _ in range(2):
        assert observer.eval("Work(N)", N=N, timeout=60) == []

    assert resident(node) - before < 4 << 20, f"{before} bytes became {resident(node)}"


def test_a_c_node_sees_an_erlmesh_node_as_a_beam(cluster):
    """The client is ``erl_call`` of OTP, which uses its C library."""
    erlmesh(cluster, "socrates")
    plato = cluster.beam("plato", cookie=COOKIE)
    asked = ["erlang node []", "erlang hd [[{1,two,[3]},4]]", "erlang hd [[]]", "no such []", "erlang throw [ball]"]

    def erl_call(node, *arguments):
        command = [programs() / "erl_call", "-c", COOKIE, "-name", node, *arguments]
        environment = {**os.environ, **otp_environment(cluster.epmd_port, cluster.home, programs())}
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=environment)
        return done.returncode, done.stdout.strip().replace(node, "NODE").partition("[{")[0]

    assert [erl_call(NAME, "-a", call) for call in asked] == [erl_call(plato.name, "-a", call) for call in asked]
    assert erl_call(NAME, "-a", "erlang node []") == (0, "'NODE'")


NODE_OPTIONS = [["-hidden"], ["-connect_all", "false"], ["-kernel", "dist_auto_connect", "once"]]


@pytest.mark.parametrize("form", NODE_OPTIONS, ids=lambda form: form[-2 if len(form) > 1 else 0].lstrip("-"))
def test_an_observer_with_any_node_option_is_served(cluster, otp, form):
    erlmesh(cluster, "socrates")
    observer = cluster.beam("judge", otp=otp, cookie=COOKIE, arguments=[*START_PG, *form])

    assert observer.ping(NAME)

    assert observer.eval("rpc:call(N, erlang, nodes, [])", N=N) == ([] if form == ["-hidden"] else [observer.atom])
    assert observer.eval("P = spawn(N, timer, sleep, [infinity]), rpc:call(N, pg, join, [g, P])", N=N) == OK
    if form != ["-hidden"]:
        wait_until(lambda: observer.eval("pg:get_members(g) =:= [P]"))
    observer.eval("R = monitor(process, P), exit(P, over)")
    assert observer.eval("receive {'DOWN', R, _, P, Why} -> Why after 9000 -> late end") == Atom("over")


def test_a_node_that_is_its_own_epmd_has_a_new_creation_after_a_fast_restart(cluster_without_epmd, rounds):
    cluster = cluster_without_epmd
    lives = []
    node = erlmesh(cluster, "socrates")
    observer = cluster.beam("judge", cookie=COOKIE)
    for _ in range(rounds(4)):
        assert observer.ping(NAME)
        lives.append(observer.eval("spawn(N, timer, sleep, [infinity])", N=N).creation)
        node.kill()
        wait_until(lambda: observer.nodes() == set())
        node = erlmesh(cluster, "socrates")

    assert len(set(lives)) == len(lives)
