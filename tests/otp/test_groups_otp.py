"""pg and pg2 with real Erlang: the same members on both sides after kills, cuts and restarts."""

from collections import Counter

import pytest

from erlmesh.terms import Atom
from polling import HANG, wait_until

OK, GROUP = Atom("ok"), Atom("group")
IDLE = """
async def idle(me):
    await me.receive(lambda message: message == "never")
"""


def python(cluster, name, **options):
    node = cluster.pynode(name, **options)
    node.eval(IDLE)
    return node


def member(node):
    """A process that does nothing."""
    if hasattr(node, "otp"):
        return node.eval("spawn(fun() -> receive never -> ok end end)")
    return node.eval("node.spawn(idle)")


def kill(node, pid):
    if hasattr(node, "otp"):
        node.eval("exit(P__, kill)", P__=pid)
    else:
        node.eval("me.exit(p, Atom('kill'))", p=pid)


class PgClient:
    """pg of a node, of either kind."""

    service = "pg"
    start = "{ok, _} = pg:start(pg)"
    wait = ""  # what comes before a change in Python

    def __init__(self, node):
        self.node = node
        self.is_beam = hasattr(node, "otp")
        if self.is_beam:
            node.eval(self.start)

    def join(self, pid, group=GROUP):
        if self.is_beam:
            assert self.node.eval(f"{self.service}:join(G__, P__)", G__=group, P__=pid) == OK
        else:
            self.node.eval(f"{self.wait}node.{self.service}.join(group, pid)", group=group, pid=pid)

    def leave(self, pid, group=GROUP):
        if self.is_beam:
            return self.node.eval(f"{self.service}:leave(G__, P__)", G__=group, P__=pid) == OK
        return self.node.eval(f"{self.wait}node.{self.service}.leave(group, pid)", group=group, pid=pid)

    def members(self, group=GROUP):
        if self.is_beam:
            return self.node.eval(f"{self.service}:get_members(G__)", G__=group)
        return self.node.eval(f"node.{self.service}.get_members(group)", group=group)

    def local_members(self, group=GROUP):
        if self.is_beam:
            return self.node.eval(f"{self.service}:get_local_members(G__)", G__=group)
        return self.node.eval(f"node.{self.service}.get_local_members(group)", group=group)

    def groups(self):
        return self.node.eval(
            f"{self.service}:which_groups()" if self.is_beam else f"node.{self.service}.which_groups()"
        )


class Pg2Client(PgClient):
    """pg2 of a node, of either kind."""

    service = "pg2"
    start = "{ok, _} = pg2:start()"  # in Python its first call starts it, without any groups yet
    wait = "await "

    def create(self, group=GROUP):
        if self.is_beam:
            assert self.node.eval("pg2:create(G__)", G__=group) == OK
        else:
            self.node.eval("await node.pg2.create(group)", group=group)

    def delete(self, group=GROUP):
        if self.is_beam:
            assert self.node.eval("pg2:delete(G__)", G__=group) == OK
        else:
            self.node.eval("await node.pg2.delete(group)", group=group)

    def members(self, group=GROUP):
        if not self.is_beam and group not in self.groups():
            return None
        return super().members(group)


def wait_for_members(groups, expected, group=GROUP, timeout=HANG):
    """Wait until each of ``groups`` has exactly the ``expected`` members, with multiplicity."""
    for one in groups:
        try:
            wait_until(lambda one=one: Counter(one.members(group) or []) == Counter(expected), timeout)
        except AssertionError:
            assert Counter(one.members(group) or []) == Counter(expected), one.node.name


def pg_pair(cluster, otp=None):
    beam, py = cluster.beam("plato", otp=otp), python(cluster, "socrates")
    return beam, py, PgClient(beam), PgClient(py)


# pg


@pytest.mark.parametrize("beam_calls", [True, False])
def test_existing_members_are_on_both_sides_after_connecting(cluster, otp, beam_calls):
    beam, py, theirs, ours = pg_pair(cluster, otp)
    p, q = member(beam), member(py)
    theirs.join([p, p])
    ours.join(q)

    assert beam.ping(py.name) if beam_calls else py.ping(beam.name)

    wait_for_members([theirs, ours], [p, p, q])
    assert ours.local_members() == [q]
    assert theirs.local_members() == [p, p]


def test_joins_leaves_and_exits_on_either_side_are_seen_by_both(cluster, otp):
    beam, py, theirs, ours = pg_pair(cluster, otp)
    py.ping(beam.name)
    p, q = member(beam), member(py)
    for pid, own in ((p, theirs), (q, ours)):
        own.join(pid)
        own.join([pid, pid])
        wait_for_members([theirs, ours], [pid] * 3)
        assert own.leave(pid)
        wait_for_members([theirs, ours], [pid] * 2)
        assert own.leave([pid, pid])
        wait_for_members([theirs, ours], [])
        assert not own.leave(pid)
        assert theirs.groups() == ours.groups() == []
    for name in (GROUP, {1: [b"x"]}, 1, 1.0):
        theirs.join([p, p], name)
        ours.join([q], name)
        wait_for_members([theirs, ours], [p, p, q], name)

    kill(beam, p)
    kill(py, q)

    wait_until(lambda: theirs.groups() == ours.groups() == [])
    assert beam.eval("is_pid(whereis(pg))")


@pytest.mark.parametrize("name", [1, 1.0, True, "text", b"bytes", (Atom("a"), 1), [1, 2], {1: 2, b"k": 3}])
def test_any_term_is_a_group_name(cluster, name):
    beam, py, theirs, ours = pg_pair(cluster)
    py.ping(beam.name)
    q = member(py)

    ours.join(q, name)

    wait_for_members([theirs, ours], [q], name)


def test_a_killed_python_node_loses_its_members_and_a_restart_adds_new_ones(cluster):
    beam, py, theirs, ours = pg_pair(cluster)
    p, q = member(beam), member(py)
    theirs.join(p)
    ours.join(q)
    py.ping(beam.name)
    wait_for_members([theirs, ours], [p, q])

    py.kill()
    wait_for_members([theirs], [p])
    py = python(cluster, "socrates")
    ours = PgClient(py)
    again = member(py)
    ours.join(again)
    py.ping(beam.name)

    wait_for_members([theirs, ours], [p, again])
    assert q != again
    assert q not in theirs.members()


def test_a_killed_beam_loses_its_members_and_a_restart_adds_new_ones(cluster):
    beam, py, theirs, ours = pg_pair(cluster)
    p, q = member(beam), member(py)
    theirs.join(p)
    ours.join(q)
    py.ping(beam.name)
    wait_for_members([theirs, ours], [p, q])

    beam.kill()
    wait_for_members([ours], [q])
    beam = cluster.beam("plato")
    theirs = PgClient(beam)
    again = member(beam)
    theirs.join(again)
    beam.ping(py.name)

    wait_for_members([theirs, ours], [again, q])


def test_a_scope_started_late_or_restarted_on_a_beam_receives_our_members(cluster):
    beam, py = cluster.beam("plato"), python(cluster, "socrates")
    ours = PgClient(py)
    q = member(py)
    ours.join(q)
    py.ping(beam.name)

    theirs = PgClient(beam)
    p = member(beam)
    theirs.join(p)
    wait_for_members([theirs, ours], [p, q])
    beam.eval("exit(whereis(pg), kill)")
    wait_for_members([ours], [q])
    wait_until(lambda: beam.eval("whereis(pg)") == Atom("undefined"))

    wait_for_members([PgClient(beam), ours], [q])


def test_three_nodes_agree_and_the_third_receives_the_members_of_both(cluster):
    beam, py, theirs, ours = pg_pair(cluster)
    other = python(cluster, "aristotle")
    others = PgClient(other)
    pids = [member(node) for node in (beam, py, other)]
    for pg, pid in zip((theirs, ours, others), pids, strict=True):
        pg.join(pid)
    py.ping(beam.name)

    other.ping(beam.name)

    wait_for_members([theirs, ours, others], pids)
    kill(py, pids[1])
    wait_for_members([theirs, ours, others], [pids[0], pids[2]])


def test_one_ping_restores_a_cut_connection_and_earlier_changes_are_seen(cluster):
    beam, py, theirs, ours = pg_pair(cluster)
    p, q = member(beam), member(py)
    theirs.join([p, p])
    ours.join([q, q])
    py.ping(beam.name)
    wait_for_members([theirs, ours], [p, p, q, q])

    py.eval("node.disconnect(name)", name=beam.name)
    wait_for_members([theirs], [p, p])
    wait_for_members([ours], [q, q])
    theirs.leave(p)
    ours.leave(q)
    new = Atom("new")
    ours.join(q, new)
    beam.ping(py.name)

    wait_for_members([theirs, ours], [p, q])
    wait_for_members([theirs, ours], [q], new)


def test_no_sequence_of_our_changes_harms_the_scope_of_a_beam(cluster, rounds):
    beam, py, theirs, _ = pg_pair(cluster)
    scope = beam.eval("whereis(pg)")
    py.eval(CHURN)

    for seed in range(rounds(3)):
        py.eval("await storm(node, peer, seed)", peer=beam.name, seed=seed)
        py.ping(beam.name)
        expected = py.eval("[(group, node.pg.get_members(group)) for group in node.pg.which_groups()]")
        for group, pids in expected:
            wait_for_members([theirs], pids, group)
        wait_until(lambda expected=expected: len(theirs.groups()) == len(expected))

    assert beam.eval("whereis(pg)") == scope
    assert not beam.logged("terminating")


CHURN = """
import random
async def storm(node, peer, seed):
    chance = random.Random(seed)
    pids = []
    for turn in range(400):
        alive = [pid for pid in pids if node.internals.is_alive(pid)]
        act = chance.choice(["spawn", "join", "join", "many", "leave", "leave", "kill", "cut", "ping", "breathe"])
        group = chance.choice(["g", "h", Atom("i"), 1])
        some = [chance.choice(alive) for _ in range(chance.randint(1, 4))] if alive else []
        if act == "spawn":
            pids.append(node.spawn(idle))
        elif act in ("join", "many") and some:
            node.pg.join(group, some[0] if act == "join" else some)
        elif act == "leave" and some:
            node.pg.leave(group, some)
        elif act == "kill" and some:
            node.exit(some[0], Atom("kill"))
        elif act == "cut" and chance.random() < 0.2:
            node.disconnect(peer)
        elif act == "ping" and chance.random() < 0.3:
            node.internals.connect_nowait(peer, lambda up: None)
        elif act == "breathe":
            await asyncio.sleep(chance.random() * 0.003)
"""


def test_a_beam_queries_our_scope_like_its_own(cluster):
    beam, py, _, ours = pg_pair(cluster)
    py.ping(beam.name)
    q = member(py)
    scope = (Atom("pg"), py.atom)

    assert beam.eval("gen_server:call(S, {join_local, group, [Q, Q]})", S=scope, Q=q) == OK
    ref, members = beam.eval("gen_server:call(S, {monitor, group})")
    assert members == [q, q]
    assert beam.eval("gen_server:call(S, {leave_local, group, Q})") == OK
    assert beam.eval("receive {R, leave, group, [_]} -> R after 5000 -> late end") == ref
    assert beam.eval("gen_server:call(S, {demonitor, R})") == OK
    assert beam.eval("gen_server:call(S, {leave_local, other, Q})") == Atom("not_joined")
    assert beam.eval("element(1, gen_server:call(S, nonsense))") == Atom("error")

    assert ours.members() == [q]


def test_a_watch_reports_members_on_a_beam_and_why_they_left(cluster):
    beam, py, theirs, _ = pg_pair(cluster)
    py.ping(beam.name)
    py.eval("""
heard = []
async def listen(me):
    async for change in node.pg.watch(Atom("group")):
        heard.append((type(change).__name__, change.pids, getattr(change, "reason", None)))
node.spawn(listen)
""")
    p, dead = member(beam), member(beam)

    theirs.join([p, dead])
    wait_until(lambda: py.eval("heard"))
    py.ping(beam.name)  # arrives after the monitors that the watch has set
    kill(beam, dead)
    wait_until(lambda: len(py.eval("heard")) == 2)
    beam.kill()
    wait_until(lambda: len(py.eval("heard")) == 3)

    assert py.eval("heard") == [
        ("Joined", (p, dead), None),
        ("Left", (dead,), Atom("killed")),
        ("Left", (p,), Atom("connection_closed")),
    ]


def test_many_memberships_are_received_on_connecting(cluster):
    beam, py, _, _ = pg_pair(cluster)
    beam.eval("P = spawn(fun() -> receive never -> ok end end), [pg:join(N, [P, P]) || N <- lists:seq(1, 10000)], ok")
    py.eval("for number in range(10_000): node.pg.join((Atom('py'), number), [me.pid, me.pid])")

    py.ping(beam.name)

    wait_until(lambda: py.eval("node.pg.statistics().memberships") == 40_000)
    wait_until(lambda: beam.eval("length(pg:which_groups())") == 20_000)
    py.kill()
    wait_until(lambda: beam.eval("length(pg:which_groups())") == 10_000)


# pg2 (last in OTP 23)


@pytest.fixture
def otp23_pair(cluster):
    """An OTP 23 node and a Python node that are not connected, and their pg2."""
    beam, py = cluster.beam("plato", otp=23), python(cluster, "socrates")
    return beam, py, Pg2Client(beam), Pg2Client(py)


@pytest.mark.parametrize("beam_calls", [True, False])
def test_the_lines_of_the_post_give_the_same_members_on_both_sides(otp23_pair, beam_calls):
    beam, py, theirs, ours = otp23_pair
    assert py.eval("node.pg2.start()") == (OK, py.eval("node.whereis('pg2')"))
    p, q = beam.eval("self()"), py.eval("me.pid")
    for pg2, pid in ((theirs, p), (ours, q)):
        pg2.create()
        pg2.join(pid)
        assert pg2.members() == [pid]

    assert beam.ping(py.name) if beam_calls else py.ping(beam.name)

    wait_for_members([theirs, ours], [p, q])
    assert theirs.members() == ours.members()  # also in the same order
    py.kill()
    wait_for_members([theirs], [p])


def test_changes_from_either_side_apply_to_both(otp23_pair):
    beam, py, theirs, ours = otp23_pair
    py.ping(beam.name)
    p, q = member(beam), member(py)
    theirs.create()
    assert ours.groups() == theirs.groups() == [GROUP]

    for mine, pid, foreign in ((theirs, p, q), (ours, q, p)):
        mine.join(pid)
        mine.join(pid)
        mine.join(foreign)
        assert Counter(theirs.members()) == Counter(ours.members()) == {pid: 2, foreign: 1}
        mine.leave(pid)
        mine.leave(foreign)
        mine.leave(foreign)
        assert theirs.members() == ours.members() == [pid]
        mine.leave(pid)
    ours.join(p)
    theirs.join(q)
    assert theirs.local_members() == [p]
    assert ours.local_members() == [q]
    assert beam.eval("pg2:get_closest_pid(group)") == p
    assert py.eval("node.pg2.get_closest_pid(Atom('group'))") == q
    ours.delete()

    assert ours.groups() == theirs.groups() == []
    assert ours.members() is None
    assert theirs.members() == (Atom("error"), (Atom("no_such_group"), GROUP))


def test_exits_are_seen_by_both_and_a_dead_process_is_removed(otp23_pair):
    beam, py, theirs, ours = otp23_pair
    py.ping(beam.name)
    p, q, dead = member(beam), member(py), member(py)
    ours.create()
    for pid in (p, p, q, q):
        ours.join(pid)

    kill(beam, p)
    wait_for_members([theirs, ours], [q, q])
    kill(py, q)
    wait_for_members([theirs, ours], [])
    kill(py, dead)
    theirs.join(dead)

    wait_for_members([theirs, ours], [])


def test_nodes_that_joined_twice_while_apart_list_each_member_twice_together(cluster):
    nodes = [cluster.beam("a", otp=23), python(cluster, "b"), cluster.beam("c", otp=23), python(cluster, "d")]
    groups = [Pg2Client(node) for node in nodes]
    nodes[1].ping(nodes[0].name)
    nodes[3].ping(nodes[2].name)
    pids = [member(node) for node in nodes]
    for index in (0, 2):
        groups[index].create()
        wait_until(lambda index=index: GROUP in groups[index + 1].groups())
    for pg2, pid in zip(groups, pids, strict=True):
        pg2.join(pid)
        pg2.join(pid)

    nodes[0].ping(nodes[3].name)

    wait_for_members(groups, pids * 2)


def test_joins_from_three_nodes_at_once_all_count(cluster):
    nodes = [cluster.beam("a", otp=23), cluster.beam("b", otp=23), python(cluster, "c")]
    groups = [Pg2Client(node) for node in nodes]
    for node in nodes[1:]:
        node.ping(nodes[0].name)
    for node in nodes:
        wait_until(lambda node=node: len(node.nodes()) == 2)
    groups[2].create()
    pids = [member(node) for node in nodes]

    for beam, pid in zip(nodes[:2], pids, strict=False):
        beam.eval("spawn(fun() -> [pg2:join(group, P__) || _ <- lists:seq(1, 20)] end), ok", P__=pid)
    nodes[2].eval("await asyncio.gather(*[node.pg2.join(Atom('group'), p) for _ in range(20)])", p=pids[2], timeout=60)

    wait_for_members(groups, pids * 20, timeout=60)


def test_a_lock_held_on_the_beam_makes_a_change_wait(otp23_pair):
    beam, py, theirs, ours = otp23_pair
    py.ping(beam.name)
    beam.eval("global:sync()")
    beam.eval("true = global:set_lock({{pg2, group}, self()})")

    py.eval("task = asyncio.ensure_future(node.pg2.create(Atom('group')))")
    assert beam.eval("timer:sleep(300), pg2:which_groups()") == []
    assert py.eval("task.done()") is False
    beam.eval("global:del_lock({{pg2, group}, self()})")

    wait_until(lambda: py.eval("task.done()"))
    assert theirs.groups() == ours.groups() == [GROUP]


def test_a_restarted_node_of_either_kind_has_only_its_new_members(cluster, otp23_pair):
    beam, py, theirs, ours = otp23_pair
    py.ping(beam.name)
    p, q = member(beam), member(py)
    ours.create()
    ours.join(p)
    ours.join(q)
    wait_for_members([theirs, ours], [p, q])

    py.kill()
    wait_for_members([theirs], [p])
    py = python(cluster, "socrates")
    ours = Pg2Client(py)
    py.ping(beam.name)
    wait_for_members([ours], [p])
    q = member(py)
    ours.join(q)
    wait_for_members([theirs, ours], [p, q])
    beam.kill()
    wait_for_members([ours], [q])
    beam = cluster.beam("plato", otp=23)
    theirs = Pg2Client(beam)
    beam.ping(py.name)

    wait_for_members([theirs, ours], [q])


def test_a_group_deleted_while_apart_is_restored(otp23_pair):
    beam, py, theirs, ours = otp23_pair
    py.ping(beam.name)
    ours.create()
    q = member(beam)
    theirs.join(q)

    py.eval("node.disconnect(name)", name=beam.name)
    wait_until(lambda: beam.nodes() == set())
    ours.delete()
    py.ping(beam.name)

    wait_for_members([ours, theirs], [q])


# Other servers


def test_ping_features_and_remote_calls_are_answered(cluster, otp):
    beam, py = cluster.beam("plato", otp=otp), python(cluster, "socrates")

    assert beam.ping(py.name)
    assert beam.eval("gen_server:call({net_kernel, N}, {is_auth, node()})", N=py.atom) == Atom("yes")
    assert beam.eval("gen_server:call({rex, N}, {call, erlang, node, [], group_leader()})") == py.atom
    undef = beam.eval("gen_server:call({rex, N}, {call, no, such, [1], group_leader()})")
    assert undef == (
        Atom("badrpc"),
        (Atom("EXIT"), (Atom("undef"), [(Atom("no"), Atom("such"), [1], [])])),
    )
    assert beam.eval(
        "{rex, N} ! {self(), {call, erlang, node, [], user}}, receive {rex, V} -> V after 5000 -> late end"
    ) == (py.atom)
    beam.eval("{rex, N} ! {self(), features_request}")
    assert beam.eval("receive {features_reply, N, F} -> F after 5000 -> late end") == [Atom("erpc")]
