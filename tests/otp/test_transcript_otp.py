"""Two nodes of any kind, in any order. They connect, share a group, lose a member, and get it back."""

import time

import pytest

from erlmesh.terms import Atom
from polling import wait_until

GROUP = Atom("group")
PAIRS = [("beam", "python"), ("python", "beam"), ("python", "python"), ("beam", "beam")]  # in order of start


def start(cluster, kind, name, otp):
    return cluster.beam(name, otp=otp) if kind == "beam" else cluster.pynode(name)


@pytest.fixture(params=PAIRS, ids="-then-".join)
def pair(request, cluster, otp):
    """Socrates, then plato."""
    first, second = request.param
    return start(cluster, first, "socrates", otp), start(cluster, second, "plato", otp)


def same_members(*nodes):
    """The members if all ``nodes`` have the same ones, else nothing."""
    first, *others = [node.members(GROUP) for node in nodes]
    return first if all(view == first for view in others) else []


def test_a_ping_from_either_node_connects_both(pair):
    for caller, answerer in (pair, pair[::-1]):
        assert caller.ping(answerer.name)
        assert caller.nodes() == {answerer.name}
        wait_until(lambda node=answerer, other=caller: node.nodes() == {other.name})


@pytest.mark.parametrize("caller", [0, 1])
def test_members_that_join_before_or_after_the_connection_are_the_same_on_both_nodes(pair, caller):
    socrates, plato = pair
    before = {socrates.join(GROUP), plato.join(GROUP)}
    assert socrates.members(GROUP) != plato.members(GROUP)

    assert pair[caller].ping(pair[1 - caller].name)
    wait_until(lambda: set(same_members(*pair)) == before, what="both members on both")
    socrates.join(GROUP)
    wait_until(lambda: len(same_members(*pair)) == 3, what="a pid that joined twice twice on both")
    plato.join(GROUP)
    wait_until(lambda: len(same_members(*pair)) == 4, what="both twice on both")

    assert set(same_members(*pair)) == before


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_node_leaves_the_group_and_returns_without_its_old_pids(pair, victim, cluster, otp, record_property):
    dead, alive = pair[victim], pair[1 - victim]
    old, other = dead.join(GROUP), alive.join(GROUP)
    assert alive.ping(dead.name)
    wait_until(lambda: set(same_members(*pair)) == {old, other})

    killed = time.perf_counter()
    dead.kill()
    wait_until(lambda: alive.members(GROUP) == [other], what="a group without the dead")
    gone_after = (time.perf_counter() - killed) * 1000
    record_property("member gone after ms", round(gone_after, 1))
    print(f"{type(dead).__name__} killed, gone from {type(alive).__name__} after {gone_after:.1f} ms")
    wait_until(lambda: alive.nodes() == set())

    again = start(cluster, "beam" if hasattr(dead, "otp") else "python", "socrates" if victim == 0 else "plato", otp)
    new = again.join(GROUP)
    assert again.ping(alive.name)
    views = []

    def both_see_both():
        views.append(alive.members(GROUP))
        return set(views[-1]) == set(again.members(GROUP)) == {new, other}

    wait_until(both_see_both, what="the member back on both")

    assert new != old
    assert all(old not in view for view in views), "a pid of the former life was in the group"


def test_members_send_messages_in_both_directions(pair):
    socrates, plato = pair
    members = {socrates: socrates.join(GROUP), plato: plato.join(GROUP)}
    assert socrates.ping(plato.name)

    for sender, receiver in (pair, pair[::-1]):
        greeting = (Atom("hello"), members[sender], [1, 2.5, b"three"])
        if hasattr(sender, "otp"):
            sender.eval("To ! Greeting", To=members[receiver], Greeting=greeting)
        else:
            sender.eval("me.send(to, greeting)", to=members[receiver], greeting=greeting)
        if hasattr(receiver, "otp"):
            assert receiver.eval("receive {hello, _, _} = Got -> Got after 5000 -> nothing end") == greeting
        else:
            assert receiver.eval("await me.receive(timeout=15)") == greeting


def test_a_dead_member_leaves_the_group_while_its_node_is_up(pair):
    socrates, plato = pair
    mine = plato.join(GROUP)
    assert plato.ping(socrates.name)
    if hasattr(socrates, "otp"):
        short_lived = socrates.eval(
            "S = spawn(fun() -> receive stop -> ok end end), pg:start(pg), pg:join(group, S), S"
        )
    else:
        socrates.eval("async def until_told(me): await me.receive()")
        short_lived = socrates.eval("node.spawn(until_told)")
        socrates.eval("node.pg.join(Atom('group'), pid)", pid=short_lived)
    wait_until(lambda: set(plato.members(GROUP)) == {mine, short_lived})

    if hasattr(plato, "otp"):
        plato.eval("S ! stop", S=short_lived)
    else:
        plato.eval("me.send(pid, Atom('stop'))", pid=short_lived)

    wait_until(lambda: same_members(*pair) == [mine])


def test_a_third_node_is_connected_to_all_by_one_ping(cluster, otp):
    socrates, plato = cluster.pynode("socrates"), cluster.beam("plato", otp=otp)
    assert socrates.ping(plato.name)

    for name, kind in (("aristotle", "python"), ("zeno", "beam")):
        guest = start(cluster, kind, name, otp)
        assert guest.ping(socrates.name)

    everybody = {f"{name}@127.0.0.1" for name in ("socrates", "plato", "aristotle", "zeno")}
    nodes = [member for member in cluster.processes if hasattr(member, "nodes")]
    wait_until(lambda: [node.nodes() | {node.name} for node in nodes] == [everybody] * 4, what="a full mesh")
    pids = {node.join(GROUP) for node in nodes}
    wait_until(lambda: set(same_members(*nodes)) == pids, what="the same members on all")
