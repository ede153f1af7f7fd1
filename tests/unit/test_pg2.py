"""pg2 between nodes, and its public API."""

from collections import Counter

import pytest
from fake_cluster import Cluster, wait

from erlmesh.errors import EmptyGroup, EncodeError, NoSuchGroup
from erlmesh.services.pg2.server import Pg2
from erlmesh.terms import Atom, Pid

PG2, G, H = Atom("pg2"), Atom("group"), Atom("h")
OK, CAST, EXCHANGE = Atom("ok"), Atom("$gen_cast"), Atom("exchange")


class FakeLocks:
    """The cluster-wide lock: one holder per resource, and a record of the requests."""

    def __init__(self):
        self.on_loop_blocked = {}
        self.asked = []
        self.blocked = False

    async def trans(self, me, lock, nodes, body):
        resource, requester = lock
        assert requester == me.pid
        self.asked.append((me.pid, resource, list(nodes)))
        while self.blocked or resource in self.on_loop_blocked:
            await wait()
        self.on_loop_blocked[resource] = me.pid
        await body()
        del self.on_loop_blocked[resource]


def start(*names, cluster=None):
    cluster = cluster or Cluster()
    locks = FakeLocks()
    nodes = [cluster.node(name) for name in names]
    return cluster, locks, nodes, [Pg2(node, locks.trans) for node in nodes]


def connected(*names):
    cluster, locks, nodes, groups = start(*names)
    for index, node in enumerate(nodes):
        for other in nodes[index + 1 :]:
            cluster.connect(node, other)
    cluster.run()
    return cluster, locks, nodes, groups


def test_groups_created_before_the_connection_are_merged():
    cluster, _, (a, b), (pg2_a, pg2_b) = start("a@h", "b@h")
    p, q = a.process().pid, b.process().pid
    cluster.run(pg2_a.create(G))
    cluster.run(pg2_a.join(G, p))
    cluster.run(pg2_b.create(G))
    cluster.run(pg2_b.join(G, q))
    cluster.run(pg2_b.create(H))

    cluster.connect(a, b)
    cluster.run()

    assert pg2_a.get_members(G) == pg2_b.get_members(G)
    assert Counter(pg2_a.get_members(G)) == {p: 1, q: 1}
    assert pg2_a.which_groups() == pg2_b.which_groups() == [G, H]


def test_merge_keeps_multiplicity_of_both_partitions():
    cluster, _, nodes, groups = start("a@h", "b@h", "c@h", "d@h")
    cluster.connect(nodes[0], nodes[1])
    cluster.connect(nodes[2], nodes[3])
    cluster.run()
    for index in (0, 2):
        cluster.run(groups[index].create(G))
    for node, pg2 in zip(nodes, groups, strict=True):
        member = node.process().pid
        cluster.run(pg2.join(G, member))
        cluster.run(pg2.join(G, member))

    for left in nodes[:2]:
        for right in nodes[2:]:
            cluster.connect(left, right)
    cluster.run()

    assert [len(pg2.get_members(G)) for pg2 in groups] == [8, 8, 8, 8]


def test_change_runs_on_all_nodes_under_a_lock_of_its_own_process():
    cluster, locks, (a, _, _), groups = connected("a@h", "b@h", "c@h")

    cluster.run(groups[0].create(G))
    p = a.process().pid
    cluster.run(groups[0].join(G, p))

    assert [pg2.get_members(G) for pg2 in groups] == [[p], [p], [p]]
    assert [(resource, nodes) for _, resource, nodes in locks.asked] == [((PG2, G), ["a@h", "b@h", "c@h"])] * 2
    assert all(pid.node is a.atom and pid not in a.processes for pid, _, _ in locks.asked)
    assert locks.on_loop_blocked == {}


def test_node_without_pg2_is_skipped():
    cluster = Cluster()
    bare = cluster.node("bare@h")
    _, _, (a,), (pg2,) = start("a@h", cluster=cluster)
    cluster.connect(a, bare)
    cluster.run()

    cluster.run(pg2.create(G))

    assert pg2.get_members(G) == []


def test_node_lost_during_a_change_is_skipped():
    cluster, locks, (_a, b), (pg2, _) = connected("a@h", "b@h")
    b.names.clear()
    b.names[PG2] = b.process().pid  # runs, and does not answer
    done = cluster.start(pg2.create(G))
    cluster.run()
    assert done == []

    cluster.crash(b)
    cluster.run()

    assert done == [None]
    assert G in pg2.which_groups()
    assert locks.on_loop_blocked == {}


def test_creating_a_known_group_makes_no_calls():
    cluster, locks, _, (pg2,) = connected("a@h")
    cluster.run(pg2.create(G))

    cluster.run(pg2.create(G))

    assert len(locks.asked) == 1


def test_double_join_counts_twice_and_leave_removes_one():
    cluster, _, (a, _), (pg2_a, pg2_b) = connected("a@h", "b@h")
    p = a.process().pid
    cluster.run(pg2_a.create(G))

    for _ in range(2):
        cluster.run(pg2_b.join(G, p))
    assert pg2_a.get_members(G) == pg2_b.get_members(G) == [p, p]
    assert pg2_a.get_local_members(G) == [p, p]
    assert pg2_b.get_local_members(G) == []
    cluster.run(pg2_b.leave(G, p))

    assert pg2_a.get_members(G) == pg2_b.get_members(G) == [p]


def test_leave_of_a_non_member_is_harmless():
    cluster, _, (a,), (pg2,) = connected("a@h")
    cluster.run(pg2.create(G))

    cluster.run(pg2.leave(G, a.process().pid))

    assert pg2.get_members(G) == []


def test_each_node_detects_exits_of_members_itself():
    cluster, _, (a, b), (pg2_a, pg2_b) = connected("a@h", "b@h")
    p, q = a.process().pid, b.process().pid
    cluster.run(pg2_a.create(G))
    for member in (p, p, q):
        cluster.run(pg2_a.join(G, member))
    cluster.run()
    before = len(cluster.sent)

    a.end(p)
    cluster.run()

    assert pg2_a.get_members(G) == pg2_b.get_members(G) == [q]
    assert len(cluster.sent) == before


def test_exit_after_an_ineffective_leave_is_still_detected():
    cluster, _, (a, _b), (pg2_a, pg2_b) = connected("a@h", "b@h")
    p = a.process().pid
    for name in (G, H):
        cluster.run(pg2_a.create(name))
    cluster.run(pg2_a.join(G, p))
    cluster.run(pg2_b.leave(H, p))

    a.end(p)
    cluster.run()

    assert pg2_a.get_members(G) == pg2_b.get_members(G) == []


def test_process_is_monitored_until_it_leaves_its_last_group():
    cluster, _, (a,), (pg2,) = connected("a@h")
    p = a.process().pid
    for name in (G, H):
        cluster.run(pg2.create(name))
        cluster.run(pg2.join(name, p))

    cluster.run(pg2.leave(G, p))
    assert list(pg2._monitor_refs) == [p]
    cluster.run(pg2.delete(H))

    assert pg2._monitor_refs == {}
    cluster.run(pg2.join(G, p))
    a.end(p)
    cluster.run()
    assert pg2.get_members(G) == []


def test_terminated_process_may_join_and_is_removed_at_once():
    cluster, _, (a, _b), (pg2_a, pg2_b) = connected("a@h", "b@h")
    p = a.process().pid
    cluster.run(pg2_a.create(G))
    a.end(p)

    cluster.run(pg2_b.join(G, p))
    cluster.run()

    assert pg2_a.get_members(G) == pg2_b.get_members(G) == []


def test_members_of_lost_node_leave_and_groups_return_on_reconnect():
    cluster, _, (a, b), (pg2_a, pg2_b) = connected("a@h", "b@h")
    p, q = a.process().pid, b.process().pid
    cluster.run(pg2_a.create(G))
    cluster.run(pg2_a.join(G, p))
    cluster.run(pg2_b.join(G, q))

    cluster.cut(a, b)
    cluster.run()
    separate = pg2_a.get_members(G), pg2_b.get_members(G)
    cluster.run(pg2_a.delete(G))
    cluster.connect(a, b)
    cluster.run()

    assert separate == ([p], [q])
    assert pg2_a.get_members(G) == [q]  # the delete is lost: the merge brings the group back
    assert Counter(pg2_b.get_members(G)) == {q: 1}


def test_pid_of_an_earlier_incarnation_is_removed():
    cluster, _, (a, b), (pg2_a, _pg2_b) = connected("a@h", "b@h")
    stale = Pid(a.atom, 300, 0, 77)
    cluster.run(pg2_a.create(G))

    b.process().send((PG2, a.atom), (CAST, (EXCHANGE, b.atom, [[G, [stale]]])))
    cluster.run()

    assert pg2_a.get_members(G) == []


# Errors


def test_unknown_group_raises_with_the_reason_of_otp():
    cluster, _locks, (a,), (pg2,) = connected("a@h")
    p = a.process().pid

    for attempt in (
        lambda: pg2.get_members(G),
        lambda: pg2.get_local_members(G),
        lambda: pg2.get_closest_pid(G),
        lambda: cluster.run(pg2.join(G, p)),
        lambda: cluster.run(pg2.leave(G, p)),
    ):
        with pytest.raises(NoSuchGroup, match="create it first") as caught:
            attempt()
        assert caught.value.reason == (Atom("no_such_group"), G)
    cluster.run(pg2.delete(G))
    assert pg2.which_groups() == []


def test_closest_pid_prefers_local_members():
    cluster, _, (a, b), (pg2_a, pg2_b) = connected("a@h", "b@h")
    p, q = a.process().pid, a.process().pid
    cluster.run(pg2_a.create(G))
    with pytest.raises(EmptyGroup) as caught:
        pg2_a.get_closest_pid(G)
    for member in (p, q):
        cluster.run(pg2_a.join(G, member))
    assert {pg2_b.get_closest_pid(G) for _ in range(50)} == {p, q}
    own = b.process().pid
    cluster.run(pg2_a.join(G, own))

    assert {pg2_b.get_closest_pid(G) for _ in range(50)} == {own}
    assert caught.value.reason == (Atom("no_process"), G)


def test_invalid_pid_or_name_raises():
    cluster, _locks, _, (pg2,) = connected("a@h")
    cluster.run(pg2.create(G))

    with pytest.raises(TypeError, match="members are pids, not str"):
        cluster.run(pg2.join(G, "me"))
    with pytest.raises(TypeError, match="members are pids, not Atom"):
        cluster.run(pg2.leave(G, Atom("me")))
    with pytest.raises(EncodeError):
        cluster.run(pg2.create(object()))

    assert pg2.which_groups() == [G]


def test_cancelled_change_stops_asking_for_the_lock():
    cluster, locks, (a,), (pg2,) = connected("a@h")
    locks.blocked = True
    change = pg2.create(G).__await__()
    for _ in range(5):
        next(change)
        cluster.run()
    [(changer, _, _)] = locks.asked

    change.close()
    cluster.run()
    locks.blocked = False
    cluster.run()

    assert changer not in a.processes
    assert pg2.which_groups() == []


def test_start_returns_the_running_server():
    _, _, (a,), (pg2,) = connected("a@h")

    assert pg2.start() == (OK, a.names[PG2])


# Messages


def test_nodeup_sends_an_exchange_with_all_groups():
    cluster, _, (a, b), (pg2_a, _) = start("a@h", "b@h")
    p = a.process().pid
    cluster.run(pg2_a.create("text"))
    cluster.run(pg2_a.join("text", p))
    cluster.connect(a, b)

    sent = [(to, message) for source, to, message in cluster.sent if source.node is a.atom and to == (PG2, b.atom)]

    assert sent == [((PG2, b.atom), (CAST, (EXCHANGE, a.atom, [[b"text", [p]]])))]


def test_late_server_requests_and_sends_an_exchange():
    cluster = Cluster()
    _, _, (a,), (pg2_a,) = start("a@h", cluster=cluster)
    cluster.run(pg2_a.create(G))
    b = cluster.node("b@h")
    cluster.connect(a, b)
    cluster.run()
    cluster.sent.clear()

    late = Pg2(b, FakeLocks().trans)
    cluster.run()

    assert late.which_groups() == [G]
    to_a = [message for source, to, message in cluster.sent if to == (PG2, a.atom)]
    assert to_a == [(Atom("new_pg2"), b.atom), (CAST, (EXCHANGE, b.atom, []))]


def test_calls_return_ok_for_unknown_groups_too():
    cluster, _, (a, b), (pg2_a, _) = connected("a@h", "b@h")
    p = b.process().pid

    def call(*request):
        return cluster.run(b.call((PG2, a.atom), request))

    assert call(Atom("join"), G, p) is OK
    assert pg2_a.which_groups() == []
    assert call(Atom("create"), G) is OK
    assert call(Atom("join"), G, p) is OK
    assert pg2_a.get_members(G) == [p]
    assert call(Atom("leave"), G, p) is OK
    assert call(Atom("leave"), H, p) is OK
    assert pg2_a.get_members(G) == []
    assert call(Atom("delete"), G) is OK
    assert call(Atom("delete"), G) is OK
    assert pg2_a.which_groups() == []
    assert call(Atom("join"), G, Atom("pid")) == (Atom("error"), Atom("badarg"))


@pytest.mark.parametrize(
    "message",
    [
        Atom("hello"),
        (CAST, (Atom("del_member"), G, G)),
        (CAST, (EXCHANGE, Atom("b@h"), Atom("x"))),
        (CAST, (EXCHANGE, Atom("b@h"), [(H, [])])),
        (CAST, (EXCHANGE, Atom("b@h"), [[H, Atom("x")]])),
        (CAST, (EXCHANGE, Atom("b@h"), [[H, [Atom("x")]]])),
        (CAST, (EXCHANGE, Atom("b@h"), [[H]])),
        (Atom("new_pg2"), 5),
        (Atom("DOWN"), 1, 2, 3, 4),
        ([], 7),
    ],
)
def test_malformed_messages_are_ignored(message):
    cluster, _, (a, b), (pg2_a, _) = connected("a@h", "b@h")
    cluster.run(pg2_a.create(G))

    b.process().send((PG2, a.atom), message)
    cluster.run()

    assert pg2_a.which_groups() == [G]
