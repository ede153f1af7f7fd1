"""Shards on two Python nodes and a BEAM: each has one holder, also after a kill of either kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from erlmesh.core.sharding.names import shard_key
from erlmesh.core.sharding.rendezvous import Rendezvous
from erlmesh.terms import Atom
from polling import wait_until
from test_gen_server_otp import COMPILE
from test_phoenix_pubsub_otp import elixir_node

pytestmark = [pytest.mark.timeout(180), pytest.mark.otps(25, 29)]

OWNER = Path(__file__).parents[2] / "examples/cep/elixir/shard_owner.exs"
SHARDS = 64
WORKER = """
import asyncio
from erlmesh.sharding import Release, Take

acting, log = set(), []

async def work(release_time):
    async with node.shards("feeds", shards=64) as shards:
        globals()["shards"] = shards
        async for event in shards:
            match event:
                case Take(shard):
                    acting.add(shard)
                case Release(shard):
                    await asyncio.sleep(release_time)
                    acting.discard(shard)
                    event.done()

worker = asyncio.create_task(work(0.01))
"""
ELIXIR_WORKER = """
    Acting__ = ets:new(acting, [public, set]),
    {ok, Owner__} = 'Elixir.GenServer':start('Elixir.ShardOwner', #{
        name => <<"feeds">>, shards => 64,
        take => fun(S) -> ets:insert(Acting__, {S}) end,
        release => fun(S) -> timer:sleep(1), ets:delete(Acting__, S) end
    })
"""


def start_python(cluster, name, *peers, options=""):
    node = cluster.pynode(name)
    for peer in peers:
        assert node.ping(peer.name)
    node.eval(WORKER.replace("shards=64", f"shards=64{options}"))
    return node


def start_elixir(cluster, name, otp, *peers):
    node = elixir_node(cluster, name, otp, channels=False)
    node.eval("{ok, _} = pg:start(pg)")
    node.eval(COMPILE, Source=OWNER.read_bytes())
    for peer in peers:
        assert node.ping(peer.name)
    node.eval(ELIXIR_WORKER)
    return node


def acting(node):
    """The shards that a node acts for."""
    if hasattr(node, "otp"):
        return {shard for (shard,) in node.eval("ets:tab2list(Acting__)")}
    return set(node.eval("acting"))


def wait_for_holders(*nodes):
    """Wait until each node acts for the shards that it is the first for. Return the shards of each node."""

    def settled():
        members = nodes[0].eval("node.pg.get_members((b'erlmesh_shards', b'feeds'))")
        if {pid.node.name for pid in members} != {node.name for node in nodes} or len(members) != len(nodes):
            return None
        owners = [Rendezvous(members).owner(shard_key(b"feeds", shard)).node.name for shard in range(SHARDS)]
        held = [{shard for shard in range(SHARDS) if owners[shard] == node.name} for node in nodes]
        return held if [acting(node) for node in nodes] == held else None

    return wait_until(settled, 60)


def seen(node):
    """For each shard, the node of its holder as ``node`` sees it."""
    groups = [(b"erlmesh_shards", b"feeds", shard) for shard in range(SHARDS)]
    if hasattr(node, "otp"):
        return [each.name for each in node.eval("[node(hd(pg:get_members(G))) || G <- Gs__]", Gs__=groups)]
    return node.eval("[shards.holder_of(shard).node.name for shard in range(64)]")


def test_each_shard_has_one_holder_in_python_and_elixir_through_kills_of_either_kind(cluster, otp):
    one = start_python(cluster, "one")
    beam = start_elixir(cluster, "beam", otp, one)
    two = start_python(cluster, "two", one, beam)
    nodes = [one, two, beam]

    held = wait_for_holders(*nodes)
    expected = [next(node.name for node, each in zip(nodes, held, strict=True) if s in each) for s in range(SHARDS)]
    for node in nodes:
        wait_until(lambda node=node: seen(node) == expected)

    one.kill()
    after = wait_for_holders(two, beam)
    assert after[0] >= held[1], "no shard moves that has a holder"
    assert after[1] >= held[2]

    again = start_python(cluster, "one", two, beam)
    assert wait_for_holders(again, two, beam) == held, "the node gets its shards back"

    beam.kill()
    wait_for_holders(again, two)
    wait_for_holders(again, two, start_elixir(cluster, "beam", otp, again, two))


def test_an_elixir_owner_that_stops_in_order_releases_before_others_take(cluster, otp):
    one = start_python(cluster, "one")
    beam = start_elixir(cluster, "beam", otp, one)
    held = wait_for_holders(one, beam)

    assert beam.eval("'Elixir.GenServer':stop(Owner__)") == Atom("ok")

    assert acting(beam) == set()
    (all_shards,) = wait_for_holders(one)
    assert all_shards == held[0] | held[1]


def test_with_a_quorum_two_of_three_nodes_act_and_one_of_them_does_not(cluster):
    nodes = []
    for name in ("one", "two", "three"):
        nodes.append(start_python(cluster, name, *nodes, options=", quorum=2"))
    wait_for_holders(*nodes)

    nodes[0].kill()
    wait_for_holders(*nodes[1:])
    nodes[1].kill()

    wait_until(lambda: not acting(nodes[2]), 60)
