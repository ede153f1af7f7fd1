"""pg between nodes: the messages of its servers, and its public API."""

import gc
import sys
from collections import Counter

import pytest
from fake_cluster import Cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh.collector import without_collector
from erlmesh.errors import EncodeError
from erlmesh.services.multiset import listed
from erlmesh.services.pg.server import Joined, Left, Pg
from erlmesh.terms import Atom, Map, Pid, Ref, exact_key

PG, G, H = Atom("pg"), Atom("g"), Atom("h")
OK, ERROR, CALL, CAST, DISCOVER, SYNC, JOIN, LEAVE = (
    Atom(word) for word in ("ok", "error", "$gen_call", "$gen_cast", "discover", "sync", "join", "leave")
)


class StrictPg(Pg):
    """Fail the test where the scope of an OTP 25 node would crash: at a leave of a member that it does not know."""

    def __init__(self, *args):
        super().__init__(*args)
        self._handle = self._server.process._handler
        self._server.process._handler = self._check_and_handle

    def _check_and_handle(self, message):
        match message:
            case (Atom("leave"), Pid() as server, Pid() | [Pid(), *_] as pids, [*groups]):
                peer = self._server.state._peers.get(server)
                held = {key: Counter(listed(bag)) for key, bag in peer.groups.items()} if peer else None
                for group in map(exact_key, groups if peer else ()):
                    assert group in held, f"{message} to a node that holds {held}"
                    held[group] -= Counter(pids if isinstance(pids, list) else [pids])
                    if not held[group]:
                        del held[group]
        self._handle(message)


def pair(cluster=None):
    cluster = cluster or Cluster()
    a, b = cluster.node("a@h"), cluster.node("b@h")
    return cluster, a, b, StrictPg(a), StrictPg(b)


def connected_pair():
    cluster, a, b, pg_a, pg_b = pair()
    cluster.connect(a, b)
    cluster.run()
    return cluster, a, b, pg_a, pg_b


# Between nodes


def test_members_that_joined_before_the_connection_are_exchanged():
    cluster, a, b, pg_a, pg_b = pair()
    p, q = a.process().pid, b.process().pid
    pg_a.join(G, [p, p])
    pg_b.join(G, q)

    cluster.connect(a, b)
    cluster.run()

    assert Counter(pg_a.get_members(G)) == Counter(pg_b.get_members(G)) == {p: 2, q: 1}
    assert pg_a.get_local_members(G) == [p, p]


def test_scope_started_after_the_connection_discovers_other_nodes():
    cluster = Cluster()
    a, b = cluster.node("a@h"), cluster.node("b@h")
    pg_a = StrictPg(a)
    p = a.process().pid
    pg_a.join(G, p)
    cluster.connect(a, b)
    cluster.run()

    pg_b = StrictPg(b)
    cluster.run()

    assert pg_b.get_members(G) == [p]
    assert pg_a.statistics().peers == 1


def test_each_node_sends_two_discovers_and_two_syncs_on_connect():
    cluster, _a, _b, _pg_a, _pg_b = connected_pair()

    counts = Counter(message[1][0] if message[0] is CAST else message[0] for _, _, message in cluster.sent)

    assert counts == {DISCOVER: 4, SYNC: 4}
    assert {len(message) for _, _, message in cluster.sent if message[0] is DISCOVER} == {2}


def test_joins_leaves_and_exits_reach_the_other_node():
    cluster, a, _, pg_a, pg_b = connected_pair()
    p, q = a.process().pid, a.process().pid

    pg_a.join(G, [p, q])
    pg_a.join(G, p)
    cluster.run()
    assert Counter(pg_b.get_members(G)) == {p: 2, q: 1}
    assert pg_a.leave(G, p) is True
    cluster.run()
    assert Counter(pg_b.get_members(G)) == {p: 1, q: 1}
    pg_a.join(H, p)
    a.end(p)
    cluster.run()

    assert pg_a.get_members(G) == pg_b.get_members(G) == [q]
    assert pg_a.which_groups() == pg_b.which_groups() == [G]
    assert pg_b.which_local_groups() == []


def test_terminated_process_that_joins_is_removed_at_once():
    cluster, a, _, pg_a, pg_b = connected_pair()
    p = a.process().pid
    a.end(p)

    pg_a.join(G, p)
    cluster.run()

    assert pg_a.which_groups() == pg_b.which_groups() == []


def test_leave_during_exit_is_harmless():
    cluster, a, _, pg_a, pg_b = connected_pair()
    p = a.process().pid
    pg_a.join(G, p)
    cluster.run()

    a.end(p)
    left = pg_a.leave(G, p)
    pg_a.join(H, p)
    cluster.run()

    assert left
    assert pg_a.which_groups() == pg_b.which_groups() == []


def test_members_of_lost_node_leave_and_do_not_return_with_its_restart():
    cluster, a, b, pg_a, pg_b = connected_pair()
    q = b.process().pid
    pg_b.join(G, q)
    cluster.run()

    cluster.crash(b)
    cluster.run()
    assert pg_a.get_members(G) == []
    b = cluster.node("b@h", creation=2)
    StrictPg(b)
    cluster.connect(a, b)
    cluster.run()

    assert pg_a.get_members(G) == []
    assert pg_a.statistics().peers == 1


def test_changes_during_a_partition_are_exchanged_after_it():
    cluster, a, b, pg_a, pg_b = connected_pair()
    p, q = a.process().pid, b.process().pid
    pg_a.join(G, p)
    pg_b.join(G, q)
    cluster.run()

    cluster.cut(a, b)
    pg_b.leave(G, q)
    pg_b.join(H, q)
    cluster.run()
    assert pg_a.get_members(G) == [p]
    cluster.connect(a, b)
    cluster.run()

    assert pg_a.get_members(G) == pg_b.get_members(G) == [p]
    assert pg_a.get_members(H) == [q]


def test_members_leave_when_only_their_scope_stops():
    cluster, _a, b, pg_a, pg_b = connected_pair()
    pg_b.join(G, b.process().pid)
    cluster.run()

    b.end(b.names[PG])
    cluster.run()

    assert pg_a.get_members(G) == []


def test_scopes_are_independent():
    cluster, a, b, pg_a, _ = pair()
    other_a, other_b = StrictPg(a, Atom("other")), StrictPg(b, Atom("other"))
    cluster.connect(a, b)
    cluster.run()

    other_a.join(G, a.process().pid)
    cluster.run()

    assert len(other_b.get_members(G)) == 1
    assert pg_a.get_members(G) == []


actions = st.lists(
    st.tuples(
        st.sampled_from(["join", "join", "join", "leave", "leave", "die", "cut", "crash", "scope", "step", "step"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 12),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(actions, st.integers(0, 10_000))
def test_random_actions_converge_and_send_nothing_that_crashes_a_beam(actions, seed):
    cluster = Cluster(seed)
    names = ["a@h", "b@h", "c@h"]
    creations = dict.fromkeys(names, 1)
    scopes, pids, model = {}, {}, {}

    def boot(name):
        node = cluster.node(name, creations[name])
        scopes[name] = StrictPg(node)
        pids[name] = [node.process().pid for _ in range(3)]
        model[name] = Counter()

    def link_all():
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                if frozenset((one, other)) not in cluster.links:
                    cluster.connect(cluster.nodes[one], cluster.nodes[other])

    for name in names:
        boot(name)
    cluster.connect(cluster.nodes["a@h"], cluster.nodes["b@h"])
    for action, x, y, z in actions:
        name, group = names[x], (G, H, 1)[y]
        node, pid = cluster.nodes[name], pids[name][z % 3]
        match action:
            case "join":
                scopes[name].join(group, [pid] * (1 + z % 2))
                if pid in node.processes:
                    model[name][group, pid] += 1 + z % 2
            case "leave":
                scopes[name].leave(group, pid)
                if model[name][group, pid]:
                    model[name][group, pid] -= 1
            case "die":
                node.end(pid)
                for other in (G, H, 1):
                    model[name].pop((other, pid), None)
            case "cut":
                other = names[(x + 1) % 3]
                if frozenset((name, other)) in cluster.links:
                    cluster.cut(node, cluster.nodes[other])
                else:
                    cluster.connect(node, cluster.nodes[other])
            case "crash" if z > 6:
                cluster.crash(node)
                creations[name] += 1
                boot(name)
            case "scope" if z > 6:
                node.end(node.names[PG])
                scopes[name] = StrictPg(node)
                model[name] = Counter()
            case _:
                for _ in range(z):
                    cluster.step()
    link_all()
    cluster.run()

    expected = sum((+model[name] for name in names), Counter())
    for name in names:
        seen = scopes[name]
        members = Counter((group, pid) for group in seen.which_groups() for pid in seen.get_members(group))
        assert members == expected
        assert all(seen.get_members(group) for group in seen.which_groups())
        assert seen.statistics().peers == 2


# The API


def test_join_and_leave_refuse_processes_of_other_nodes():
    _, a, b, pg_a, _ = connected_pair()
    local, remote, earlier = a.process().pid, b.process().pid, Pid(Atom("a@h"), 101, 0, 99)

    for group_act in (pg_a.join, pg_a.leave):
        with pytest.raises(ValueError, match="is a process of b@h: it can only join and leave there"):
            group_act(G, [local, remote])
        with pytest.raises(ValueError, match="a@h"):
            group_act(G, earlier)
        with pytest.raises(TypeError, match="members are pids, not str"):
            group_act(G, [local, "me"])
        with pytest.raises(TypeError, match="members are pids, not Atom"):
            group_act(G, Atom("me"))
        with pytest.raises(TypeError, match="members are pids, not 'greeters': the group comes first"):
            group_act(local, "greeters")

    assert pg_a.which_groups() == []


def test_leave_returns_false_for_a_non_member():
    _, a, _, pg_a, _ = connected_pair()

    assert pg_a.leave(G, a.process().pid) is False
    assert pg_a.get_members(Atom("none")) == []


def test_group_name_is_normalized_and_copied():
    _, a, _, pg_a, _ = connected_pair()
    p, name = a.process().pid, [1]

    pg_a.join("greeters", p)
    pg_a.join(name, p)
    name.append(2)

    assert pg_a.which_groups() == [b"greeters", [1]]
    assert pg_a.get_members("greeters") == pg_a.get_members(b"greeters") == pg_a.get_members([1]) == [p]


def test_group_name_that_is_not_a_term_raises():
    _, a, _, pg_a, _ = connected_pair()

    with pytest.raises(EncodeError):
        pg_a.join(object(), a.process().pid)

    assert pg_a.which_groups() == []


# Messages


@pytest.mark.parametrize(
    "message",
    [
        Atom("hello"),
        (),
        5,
        (DISCOVER,),
        (DISCOVER, Atom("me")),
        (JOIN, Atom("me"), G, []),
        (LEAVE, "pid", "pids", "groups"),
        (CAST, Atom("hello")),
        (CAST, (SYNC, Atom("me"), [])),
        (Atom("nodeup"), 5),
        (Atom("DOWN"), 1, 2, 3, 4),
    ],
)
def test_malformed_messages_are_ignored(message):
    cluster, a, b, pg_a, _ = connected_pair()
    p = a.process().pid
    pg_a.join(G, p)

    b.process().send((PG, Atom("a@h")), message)
    cluster.run()

    assert pg_a.get_members(G) == [p]


@pytest.mark.parametrize(
    "groups", [Atom("x"), [G], [(G,)], [(G, Atom("pid"))], [(G, [Atom("pid")])], [[G, []]], [(G, []), 5], ()]
)
def test_malformed_sync_changes_nothing(groups):
    cluster, _a, b, pg_a, pg_b = connected_pair()
    q = b.process().pid
    pg_b.join(G, q)
    cluster.run()

    b.process().send((PG, Atom("a@h")), (CAST, (SYNC, b.names[PG], groups)))
    cluster.run()

    assert pg_a.get_members(G) == [q]


@pytest.mark.parametrize("members", [Atom("x"), [Atom("x")], 5, ()])
def test_malformed_join_or_leave_changes_nothing(members):
    cluster, _a, b, pg_a, pg_b = connected_pair()
    q, someone = b.process().pid, b.process()
    pg_b.join(G, q)
    cluster.run()

    someone.send((PG, Atom("a@h")), (JOIN, b.names[PG], G, members))
    someone.send((PG, Atom("a@h")), (LEAVE, b.names[PG], members, [G]))
    someone.send((PG, Atom("a@h")), (LEAVE, b.names[PG], q, G))
    cluster.run()

    assert pg_a.get_members(G) == [q]


def test_a_node_cannot_let_processes_of_other_nodes_join():
    cluster, a, b, pg_a, pg_b = connected_pair()
    q, someone, victim = b.process().pid, b.process(), a.process().pid
    third = Pid(Atom("c@h"), 1, 0, 1)
    pg_b.join(G, q)
    cluster.run()

    for pids in ([victim], [third], [q, third]):
        someone.send((PG, Atom("a@h")), (JOIN, b.names[PG], G, pids))
        someone.send((PG, Atom("a@h")), (CAST, (SYNC, b.names[PG], [(G, pids)])))
    cluster.run()

    assert pg_a.get_members(G) == [q]


def test_discover_with_protocol_version_is_accepted():
    cluster, a, b, _pg_a, _ = pair()
    cluster.links.add(frozenset(("a@h", "b@h")))
    new_server = b.process()

    new_server.send((PG, Atom("a@h")), (DISCOVER, new_server.pid, 1))
    cluster.run()

    assert list(new_server._mailbox) == [(CAST, (SYNC, a.names[PG], [])), (DISCOVER, a.names[PG])]


def call(cluster, node, request):
    return cluster.run(node.call((PG, Atom("a@h")), request))


def test_calls_of_pg_get_the_replies_of_pg():
    cluster, a, b, pg_a, _ = connected_pair()
    p = a.process().pid

    assert call(cluster, b, (Atom("join_local"), G, [p])) is OK
    assert call(cluster, b, (Atom("join_local"), G, p)) is OK
    assert pg_a.get_members(G) == [p, p]
    assert call(cluster, b, (Atom("leave_local"), G, [p, p])) is OK
    assert call(cluster, b, (Atom("leave_local"), G, p)) is Atom("not_joined")
    assert call(cluster, b, (Atom("join_local"), G, b.process().pid))[0] is ERROR
    assert call(cluster, b, Atom("hello")) == (ERROR, Atom("badarg"))
    assert pg_a.which_groups() == []


def test_monitoring_process_gets_changes_until_demonitor():
    cluster, a, b, pg_a, _pg_b = connected_pair()
    p, watcher = a.process().pid, b.process()
    pg_a.join(G, p)

    def ask(request):
        ref = watcher.monitor((PG, Atom("a@h")))
        watcher.send((PG, Atom("a@h")), (CALL, (watcher.pid, ref), request))
        cluster.run()
        answer = watcher._mailbox.pop()
        assert answer[0] == ref
        return answer[1]

    ref, members = ask((Atom("monitor"), G))
    everything_ref, everything = ask(Atom("monitor"))
    assert isinstance(ref, Ref)
    assert members == [p]
    assert everything == Map({G: [p]})
    pg_a.join(H, p)
    pg_a.leave(G, p)
    cluster.run()
    received = list(watcher._mailbox)
    watcher._mailbox.clear()

    assert [message for message in received if message[0] == ref] == [(ref, LEAVE, G, [p])]
    assert [message[1:] for message in received if message[0] == everything_ref] == [(JOIN, H, [p]), (LEAVE, G, [p])]
    assert ask((Atom("demonitor"), ref)) is OK
    assert ask((Atom("demonitor"), ref)) is False
    b.end(watcher.pid)
    cluster.run()
    assert not pg_a._server.observers.monitors
    assert pg_a._server.state.recording is False


# Observers


def test_watch_yields_changes_of_its_group_after_the_call():
    cluster, a, b, pg_a, pg_b = connected_pair()
    p, q = a.process().pid, b.process().pid
    pg_a.join(G, p)
    changes = pg_a.watch(G)

    pg_a.join(H, p)
    pg_b.join(G, q)
    first = cluster.run(changes.__anext__())
    waiting = cluster.start(changes.__anext__())
    cluster.run()
    assert waiting == []
    cluster.crash(b)
    cluster.run()
    a.end(p, Atom("oops"))
    third = cluster.run(changes.__anext__())

    assert first == Joined((q,), G)
    assert waiting == [Left((q,), Atom("noconnection"), G)]
    assert third == Left((p,), Atom("oops"), G)


def test_watch_ends_when_closed_or_dropped():
    cluster, a, _, pg_a, _ = connected_pair()
    before = len(a.processes)
    kept = pg_a.watch(G)
    ended = []

    async def loop():
        ended.extend([change async for change in kept])
        ended.append("end")

    done = cluster.start(loop())
    cluster.run()
    kept.close()
    cluster.run()
    pg_a.watch(G)
    cluster.run()

    assert ended == ["end"]
    assert done == [None]
    assert pg_a._server.observers._watches == {}
    assert pg_a._server.state.recording is False
    assert len(a.processes) == before


def monitored_by_watches(node):
    """The targets of the monitors of all processes but the scope."""
    return Counter(
        target for pid, process in node.processes.items() if pid != node.names[PG] for target in process.refs.values()
    )


def test_change_is_told_before_its_members_are_monitored_once_for_all_watches():
    cluster, a, b, pg_a, pg_b = connected_pair()
    p, q = b.process().pid, b.process().pid
    watches = [pg_a.watch(G) for _ in range(3)]
    pg_b.join(G, [p, q])
    cluster.run()

    told = [cluster.start(changes.__anext__()) for changes in watches]
    told += [cluster.start(changes.__anext__()) for changes in watches]
    assert monitored_by_watches(a) == {p: 1, q: 1}
    pg_a._server.observers._watches[G].on_event(Joined((b.names[PG],), G))
    assert monitored_by_watches(a) == {p: 1, q: 1}
    cluster.run()

    assert told == [[Joined((p, q), G)]] * 3 + [[Joined((b.names[PG],), G)]] * 3
    assert monitored_by_watches(a) == {p: 1, q: 1, b.names[PG]: 1}
    for changes in watches:
        changes.close()
    cluster.run()
    assert monitored_by_watches(a) == {}


def test_watch_that_ends_before_it_monitors_leaves_no_monitor():
    cluster, a, b, pg_a, pg_b = connected_pair()
    p, q = b.process().pid, b.process().pid
    pg_b.join(G, p)
    cluster.run()

    pg_a.watch(G).close()
    changes = pg_a.watch(G)
    watch = pg_a._server.observers._watches[G]
    watch.on_event(Joined((q,), G))
    watch.on_event(Left((q,), LEAVE, G))
    cluster.run()
    assert monitored_by_watches(a) == {p: 1}
    watch.on_event(Joined((q,), G))
    changes.close()
    cluster.run()

    assert monitored_by_watches(a) == {}
    assert watch._monitor_refs.keys() == {p}


def test_watch_delivers_queued_changes_after_its_scope_has_stopped():
    cluster, a, _, pg_a, _ = connected_pair()
    p = a.process().pid
    changes = pg_a.watch(G)
    pg_a.join(G, p)

    pg_a.stop()
    pg_a._server._on_exit()  # The fake runtime does not call it.
    seen = cluster.start(_all(changes))
    cluster.run()

    assert seen == [[Joined((p,), G)]]


async def _all(changes):
    return [change async for change in changes]


def test_change_calls_only_the_watches_of_its_group():
    _cluster, a, _, pg_a, _ = connected_pair()
    p = a.process().pid

    def calls_of_a_change():
        calls = []

        def note(frame, event, _argument):
            if event == "call" and "services/pg/" in frame.f_code.co_filename:
                calls.append(frame.f_code.co_qualname)

        gc.collect()  # The finalizers of other tests must not run during the change.
        sys.setprofile(note)
        try:
            without_collector(pg_a.join, G, p)
        finally:
            sys.setprofile(None)
        return calls

    pg_a.join(G, p)
    watches = [pg_a.watch(H)]
    with_one = calls_of_a_change()
    watches += [pg_a.watch((H, number)) for number in range(100)]
    with_many = calls_of_a_change()

    assert with_many == with_one


def test_lists_of_members_are_copies():
    _cluster, a, _, pg_a, _ = connected_pair()
    pids = [a.process().pid for _ in range(20)]
    pg_a.join(G, pids)

    pg_a.get_members(G).clear()
    pg_a.get_local_members(G).clear()

    assert pg_a.get_members(G) == pg_a.get_local_members(G) == pids
    assert pg_a.snapshot(G).pids is pg_a.snapshot(G).pids


def test_subscribers_see_the_same_order_when_one_joins_in_its_callback():
    _cluster, a, _, pg_a, _ = connected_pair()
    p = a.process().pid
    seen = []

    def join_once(change):
        if change.group is G:
            pg_a.join(H, p)

    pg_a.subscribe(join_once)
    end = pg_a.subscribe(seen.append)
    pg_a.join(G, p)
    end()
    pg_a.join(G, p)

    assert seen == [Joined((p,), G), Joined((p,), H)]


def test_exception_in_a_subscriber_is_logged_and_others_are_called(caplog):
    _, a, _, pg_a, _ = connected_pair()
    p, seen = a.process().pid, []
    pg_a.subscribe(lambda change: change.nonsense)
    pg_a.subscribe(seen.append)

    pg_a.join(G, p)

    assert seen == [Joined((p,), G)]
    assert "a subscriber raised an exception" in caplog.text
