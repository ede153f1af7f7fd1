"""``global`` with real Erlang: meshes, names, locks and partitions of both kinds of node."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh.terms import Atom
from global_cases import (
    PLAYED,
    PY_MAILBOXES,
    YES,
    X,
    is_beam,
    is_mesh,
    known_nodes,
    register,
    spawn,
    sync,
    wait_for_mesh,
    wait_for_name,
    whereis,
)
from polling import wait_until


@pytest.fixture
def python(cluster):
    def start(name, **options):
        node = cluster.pynode(name, **options)
        node.eval(PY_MAILBOXES)
        return node

    return start


def all_works(*nodes):
    """No call of global hangs on any of the nodes: sync, names, transactions."""
    for number, node in enumerate(nodes):
        sync(node)
        pid = spawn(node)
        assert register(node, pid, name=(PLAYED, number))
        wait_for_name(pid, *nodes, name=(PLAYED, number))
        if is_beam(node):
            assert node.eval("global:trans({r, self()}, fun() -> done end)") == Atom("done")
        else:
            node.eval("async with node.global_.trans((Atom('r'), me.pid)): pass")


def test_a_beam_connects_to_python_and_all_of_global_works(cluster, python, otp):
    beam, node = cluster.beam("b", otp=otp), python("p")

    assert beam.ping(node.name)

    wait_for_mesh(beam, node)
    all_works(beam, node)


def test_python_connects_first(cluster, python, otp):
    beam, node = cluster.beam("b", otp=otp), python("p")

    assert node.ping(beam.name)

    wait_for_mesh(beam, node)
    all_works(beam, node)


def test_global_synchronizes_both_nodes_within_a_second(cluster, python):
    beam, node = cluster.beam("b"), python("p")

    assert node.ping(beam.name)

    wait_for_mesh(beam, node, seconds=1)


def test_python_introduces_two_beams(cluster, python, otp):
    a, b, node = cluster.beam("a", otp=otp), cluster.beam("b"), python("p")

    assert a.ping(node.name)
    assert b.ping(node.name)

    wait_for_mesh(a, b, node)
    all_works(a, b, node)


def test_a_beam_introduces_python_to_a_beam(cluster, python):
    a, b, node = cluster.beam("a"), cluster.beam("b"), python("p")
    assert a.ping(b.name)
    wait_for_mesh(a, b)

    assert node.ping(a.name)

    wait_for_mesh(a, b, node)
    all_works(a, b, node)


def test_a_beam_introduces_two_python_nodes(cluster, python):
    a, p, q = cluster.beam("a"), python("p"), python("q")

    assert p.ping(a.name)
    assert q.ping(a.name)

    wait_for_mesh(a, p, q)
    all_works(a, p, q)


def test_python_introduces_otp_23_to_otp_25(cluster, python):
    old, new, node = cluster.beam("o", otp=23), cluster.beam("m"), python("p")

    assert old.ping(node.name)
    wait_until(lambda: old.name in known_nodes(node))
    assert new.ping(node.name)

    wait_until(lambda: all(len(one.nodes()) == 2 for one in (old, new, node)))
    wait_until(lambda: known_nodes(node) == {old.name, new.name})
    pid = spawn(old)
    assert register(old, pid)
    wait_for_name(pid, old, new, node)
    pid = spawn(node)
    assert register(node, pid, name=PLAYED)
    wait_for_name(pid, old, new, node, name=PLAYED)


def test_nodes_of_both_kinds_started_at_once_form_a_mesh_through_one_node(cluster, python, rounds):
    for number in range(rounds(2)):
        cluster.start_epmd_once()
        with ThreadPoolExecutor() as threads:
            names = [f"{letter}{number}" for letter in "abcde"]
            kinds = [cluster.beam, python, cluster.beam, python, cluster.beam]
            nodes = list(threads.map(lambda kind, name: kind(name), kinds, names))
            pings = [threads.submit(node.ping, nodes[1].name) for node in nodes if node is not nodes[1]]
            assert all(ping.result() for ping in pings)

        wait_for_mesh(*nodes)
        all_works(*nodes)
        for node in nodes:
            node.close()


def test_a_name_is_known_on_every_node_until_its_process_ends(cluster, python):
    beam, node = cluster.beam("b"), python("p")
    node.ping(beam.name)
    wait_for_mesh(beam, node)
    theirs, ours = spawn(beam), spawn(node)
    assert register(beam, theirs)
    assert register(node, ours, name=PLAYED)
    wait_for_name(theirs, node)
    wait_for_name(ours, beam, name=PLAYED)

    assert not register(node, spawn(node))
    assert not register(beam, spawn(beam), name=PLAYED)
    beam.eval("exit(P__, kill)", P__=theirs)
    node.eval("me.exit(pid, Atom('kill'))", pid=ours)

    wait_for_name(None, beam, node)
    wait_for_name(None, beam, node, name=PLAYED)


def test_a_killed_node_loses_its_names(cluster, python):
    beam, p, q = cluster.beam("b"), python("p"), python("q")
    p.ping(beam.name)
    q.ping(beam.name)
    wait_for_mesh(beam, p, q)
    register(p, spawn(p))
    wait_for_name(whereis(p), beam, q)

    p.kill()

    wait_for_name(None, beam, q)
    wait_for_mesh(beam, q)
    all_works(beam, q)


def test_each_kind_registers_processes_of_the_other(cluster, python):
    beam, node = cluster.beam("b"), python("p")
    node.ping(beam.name)
    wait_for_mesh(beam, node)
    theirs, ours = spawn(beam), spawn(node)

    assert register(node, theirs)
    assert beam.eval("global:register_name(played, P__)", P__=ours) == YES

    wait_for_name(theirs, beam, node)
    wait_for_name(ours, beam, node, name=PLAYED)
    beam.eval("global:send(played, hello)")
    wait_until(lambda: node.eval("boxes[pid]", pid=ours) == [Atom("hello")])
    node.eval("await node.global_.unregister(Atom('x'))")
    beam.eval("global:unregister_name(played)")
    wait_for_name(None, beam, node)
    wait_for_name(None, beam, node, name=PLAYED)


@pytest.mark.parametrize("beam_name", ["a", "z"])
@pytest.mark.parametrize("default", [True, False])
def test_a_name_conflict_resolves_to_one_process(cluster, python, beam_name, default):
    beam, node = cluster.beam(beam_name), python("m")
    theirs, ours = spawn(beam), spawn(node)
    if default:  # a local fun of module global travels with the name
        assert beam.eval("global:register_name(x, P__)", P__=theirs) == YES
    else:
        assert register(beam, theirs)
    assert register(node, ours)

    assert node.ping(beam.name)
    wait_for_mesh(beam, node)

    kept = theirs if beam_name == "a" else ours
    wait_for_name(kept, beam, node)
    wait_until(lambda: beam.eval("is_process_alive(P__)", P__=theirs) == (kept == theirs))
    wait_until(lambda: node.eval("node.internals.is_alive(pid)", pid=ours) == (kept == ours))
    all_works(beam, node)


@pytest.mark.parametrize("beam_name", ["a", "z"])
def test_the_loser_of_a_name_conflict_is_notified(cluster, python, beam_name):
    beam, node = cluster.beam(beam_name), python("m")
    theirs = beam.eval(
        "Box = spawn(fun Loop() -> receive {get, To} -> To ! process_info(self(), messages), Loop() end end)"
    )
    ours = spawn(node)
    assert register(beam, theirs, method="random_notify_name")
    assert register(node, ours, method="random_notify_name")

    assert beam.ping(node.name)
    wait_for_mesh(beam, node)

    told = (Atom("global_name_conflict"), X)
    if beam_name == "a":
        wait_for_name(theirs, beam, node)
        wait_until(lambda: node.eval("boxes[pid]", pid=ours) == [told])
    else:
        wait_for_name(ours, beam, node)
        wait_until(lambda: beam.eval("process_info(Box, messages)") == (Atom("messages"), [told]))


@pytest.mark.parametrize("beam_name", ["a", "z"])
def test_both_processes_can_lose_a_name(cluster, python, beam_name):
    beam, node = cluster.beam(beam_name), python("m")
    theirs, ours = spawn(beam), spawn(node)
    assert register(beam, theirs, method="notify_all_name")
    assert register(node, ours, method="notify_all_name")

    assert beam.ping(node.name)
    wait_for_mesh(beam, node)

    wait_for_name(None, beam, node)
    wait_until(lambda: node.eval("boxes[pid]", pid=ours) == [(Atom("global_name_conflict"), X, theirs)])


def test_python_resolves_a_conflict_for_a_beam_process_in_its_partition(cluster, python):
    mine, node, other = cluster.beam("m"), python("a"), cluster.beam("z")
    node.ping(mine.name)
    wait_for_mesh(mine, node)
    ours, theirs = spawn(mine), spawn(other)
    assert register(mine, ours)
    assert register(other, theirs)
    wait_for_name(ours, node)

    assert node.ping(other.name)
    wait_for_mesh(mine, node, other)

    wait_for_name(ours, mine, node, other)
    wait_until(lambda: other.eval("is_process_alive(P__)", P__=theirs) is False)
    all_works(mine, node, other)


def test_a_beam_asks_python_to_resolve_a_conflict_for_its_process(cluster, python):
    near, node, other = cluster.beam("a"), python("m"), cluster.beam("z")
    node.ping(near.name)
    wait_for_mesh(near, node)
    ours, theirs = spawn(node), spawn(other)
    node.eval("def the_other(name, pid, pid2): return max(pid, pid2, key=lambda p: p.node.name)")
    assert node.eval("await node.global_.register(Atom('x'), pid, the_other)", pid=ours)
    assert register(other, theirs)
    wait_for_name(ours, near)

    assert near.ping(other.name)
    wait_for_mesh(near, node, other)

    wait_for_name(theirs, near, node, other)
    assert node.eval("node.internals.is_alive(pid)", pid=ours)


def test_a_lock_excludes_the_other_kind_and_is_released_with_its_holder(cluster, python):
    beam, node = cluster.beam("b"), python("p")
    node.ping(beam.name)
    wait_for_mesh(beam, node)
    wanted = "await node.global_.set_lock((Atom('r'), me.pid), retries=0, me=me)"

    beam.eval("Holder = spawn(fun() -> true = global:set_lock({r, self()}), receive stop -> ok end end)")
    wait_until(lambda: node.eval(wanted) is False)
    beam.eval("exit(Holder, kill)")
    wait_until(lambda: node.eval(wanted) is True)

    assert beam.eval("global:set_lock({r, self()}, [node() | nodes()], 0)") is False
    node.eval("await node.global_.del_lock((Atom('r'), me.pid), me=me)")
    assert beam.eval("global:set_lock({r, self()}, [node() | nodes()], 0)") is True
    assert beam.eval("global:del_lock({r, self()})") is True
    assert node.eval(wanted) is True
    node.kill()
    wait_until(lambda: beam.eval("global:set_lock({r, self()}, [node() | nodes()], 0)"))


def test_transactions_of_both_kinds_never_overlap(cluster, python):
    beam, node = cluster.beam("b"), python("p")
    node.ping(beam.name)
    wait_for_mesh(beam, node)
    beam.eval("ets:new(inside, [named_table, public]), ets:insert(inside, {count, 0}), ets:insert(inside, {most, 0})")
    beam.eval(
        "Enter = fun() -> N = ets:update_counter(inside, count, 1),"
        " ets:insert(inside, {most, max(N, ets:lookup_element(inside, most, 2))}) end,"
        "Leave = fun() -> ets:update_counter(inside, count, -1) end,"
        "register(counter, spawn(fun Loop() ->"
        " receive {in, P} -> Enter(), P ! ok; {out, P} -> Leave(), P ! ok end, Loop() end))"
    )
    node.eval(
        "async def work(me):\n"
        "    for _ in range(8):\n"
        "        async with node.global_.trans((Atom('r'), me.pid), me=me):\n"
        "            for word in ('in', 'out'):\n"
        "                me.send((Atom('counter'), Atom('b@127.0.0.1')), (Atom(word), me.pid))\n"
        "                await me.receive(lambda message: message is Atom('ok'))\n"
        "    done.append(me.pid)\n"
        "done = []\n"
    )
    beam.eval(
        "Self = self(), Tell = fun(Word) -> counter ! {Word, self()}, receive ok -> ok end end,"
        "Work = fun() -> global:trans({r, self()}, fun() -> Tell(in), Tell(out) end) end,"
        "[spawn(fun() -> [Work() || _ <- lists:seq(1, 8)], Self ! finished end) || _ <- [1, 2]]"
    )
    node.eval("for _ in range(2): node.spawn(work)")

    beam.eval("[receive finished -> ok end || _ <- [1, 2]]", timeout=60)
    wait_until(lambda: len(node.eval("done")) == 2, 60)
    assert beam.eval("{ets:lookup_element(inside, most, 2), ets:lookup_element(inside, count, 2)}") == (1, 0)


def until_no_overlap(disconnect, *nodes):
    """No node stays connected to both nodes that have lost each other. Mostly all three are alone afterwards.
    Sometimes one of the two stays with the third; this also happens with three BEAMs.
    """
    disconnect()
    wait_until(lambda: all(len(node.nodes()) < 2 for node in nodes))


@pytest.mark.parametrize("third", ["python", "beam"])
def test_a_disconnect_leaves_no_overlapping_partitions_with_either_kind_as_the_third_node(cluster, python, third):
    a, b = cluster.beam("a"), cluster.beam("b")
    c = python("c", reconnect=False) if third == "python" else cluster.beam("c")
    a.ping(c.name)
    b.ping(c.name)
    wait_for_mesh(a, b, c)
    wait_until(lambda: all(len(known_nodes(one)) == 2 for one in (a, b, c)))

    until_no_overlap(lambda: a.eval("erlang:disconnect_node(N__)", N__=b.atom), a, b, c)
    # The last disconnect message may arrive after a ping and disconnect them again. Three BEAMs do the same.
    wait_until(lambda: a.ping(c.name) and b.ping(c.name) and is_mesh((a, b, c)), what="a mesh again")
    all_works(a, b, c)


def test_a_disconnect_by_python_leaves_no_overlapping_partitions(cluster, python):
    a, b, node = cluster.beam("a"), cluster.beam("b"), python("p", reconnect=False)
    a.ping(node.name)
    b.ping(node.name)
    wait_for_mesh(a, b, node)
    # Only the loss of a known node is reported to others. A node becomes known after it has connected.
    wait_until(lambda: all(len(known_nodes(one)) == 2 for one in (a, b, node)))

    until_no_overlap(lambda: node.eval("node.disconnect(name)", name=b.name), a, b, node)


def test_python_keeps_both_links_without_overlap_prevention(cluster, python):
    off = ["-kernel", "prevent_overlapping_partitions", "false"]
    a, b = cluster.beam("a", arguments=off), cluster.beam("b", arguments=off)
    node = python("p", prevent_overlapping_partitions=False, reconnect=False)
    a.ping(node.name)
    b.ping(node.name)
    wait_for_mesh(a, b, node)

    a.eval("erlang:disconnect_node(N__)", N__=b.atom)

    wait_until(lambda: a.nodes() == {node.name} and b.nodes() == {node.name})
    assert node.nodes() == {a.name, b.name}


@pytest.mark.parametrize("how", ["halt", "kill"])
@pytest.mark.parametrize("who", ["python", "beam"])
def test_a_node_that_leaves_does_not_disconnect_the_other_nodes(cluster, python, how, who):
    nodes = [cluster.beam("a"), cluster.beam("b"), python("p"), python("q")]
    for node in nodes[1:]:
        node.ping(nodes[0].name)
    wait_for_mesh(*nodes)

    gone = nodes.pop(1 if who == "beam" else 2)
    getattr(gone, how)()

    wait_for_mesh(*nodes)
    all_works(*nodes)


def test_a_beam_outside_the_mesh_disturbs_no_other_node(cluster, python):
    loner = cluster.beam("l", arguments=["-connect_all", "false"])
    beam, node = cluster.beam("b"), python("p")
    assert loner.ping(node.name)

    assert node.ping(beam.name)
    wait_until(lambda: known_nodes(node) == {beam.name} and known_nodes(beam) == {node.name})

    pid = spawn(node)
    assert register(node, pid)
    wait_for_name(pid, beam, node)
    assert node.nodes() == {loner.name, beam.name}
