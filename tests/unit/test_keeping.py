"""``node.shards`` with a keeper on simulated clusters."""

import pytest

from erlmesh.terms import Atom
from simulation.sharding.state_parts import RESULTS, SHARDS, Member, Sink, Source

KEYS = [b"AAPL", b"MSFT", b"NVDA", b"AMZN", b"GOOG", b"META"]


async def members_on(mesh, **options):
    members = [Member(mesh, node, **options) for node in mesh]
    await mesh.wait_until(lambda: acting(members))
    return members


def acting(members):
    """True if each shard has one node that acts for it."""
    return all(sum(member.acts(shard) for member in members) == 1 for shard in range(SHARDS))


def holder_of(members, key):
    (member,) = [member for member in members if member.acts(member.shards.of(key))]
    return member


def states(members, source):
    """What the acting holders have of a source."""
    found = {}
    for key in source.sent:
        state = holder_of(members, key).shards.state(key) or {}
        found[key] = sorted(number for origin, number in state if origin == source.source)
    return found


def put_all(source, count=5):
    for _ in range(count):
        for key in KEYS:
            source.put(key)


async def test_messages_are_applied_replicated_and_acknowledged(cluster):
    mesh = await cluster(3)
    members = await members_on(mesh, results=RESULTS)
    source, sink = Source(mesh, members[0].node, "ticks", members[0].shards), Sink(members[1].node)

    put_all(source)
    await mesh.wait_until(lambda: source.is_flushed)

    assert states(members, source) == {key: [1, 2, 3, 4, 5] for key in KEYS}
    await mesh.wait_until(lambda: len(sink.results) == 5 * len(KEYS))
    for key in KEYS:
        assert len(holder_of(members, key).shards.backups(key)) == 1


async def test_a_killed_holder_loses_nothing_that_was_acknowledged(cluster):
    mesh = await cluster(4)
    members = await members_on(mesh)
    source = Source(mesh, members[3].node, "ticks", members[3].shards)
    put_all(source)
    await mesh.wait_until(lambda: source.is_flushed)

    mesh.kill(members[0].node)
    put_all(source)
    await mesh.wait_until(lambda: acting(members[1:]) and source.is_flushed)

    assert states(members[1:], source) == {key: list(range(1, 11)) for key in KEYS}


async def test_a_node_that_starts_gets_the_states_of_its_shards(cluster):
    mesh = await cluster(2)
    members = await members_on(mesh)
    source = Source(mesh, members[1].node, "ticks", members[1].shards)
    put_all(source)
    await mesh.wait_until(lambda: source.is_flushed)
    (new,) = await mesh.start("c", join=[members[0].node.name])
    members.append(Member(mesh, new))

    await mesh.wait_until(lambda: any(members[2].acts(shard) for shard in range(SHARDS)))
    put_all(source)
    await mesh.wait_until(lambda: acting(members) and source.is_flushed)

    assert states(members, source) == {key: list(range(1, 11)) for key in KEYS}


async def test_a_node_that_stops_hands_over_in_order(cluster):
    mesh = await cluster(3)
    members = await members_on(mesh)
    source = Source(mesh, members[2].node, "ticks", members[2].shards)
    put_all(source)
    await mesh.wait_until(lambda: source.is_flushed)

    await mesh.stop(members[0].node)
    assert acting(members[1:])

    put_all(source)
    await mesh.wait_until(lambda: source.is_flushed)
    assert states(members[1:], source) == {key: list(range(1, 11)) for key in KEYS}


async def test_both_sides_of_a_cut_go_on_and_their_states_merge(cluster):
    mesh = await cluster(4)
    members = await members_on(mesh)
    one = Source(mesh, members[0].node, "one", members[0].shards)
    two = Source(mesh, members[3].node, "two", members[3].shards)
    put_all(one)
    put_all(two)
    await mesh.wait_until(lambda: one.is_flushed and two.is_flushed)

    mesh.partition([member.node for member in members[:2]], [member.node for member in members[2:]])
    await mesh.wait_until(lambda: acting(members[:2]) and acting(members[2:]))
    put_all(one)
    put_all(two)
    await mesh.wait_until(lambda: one.is_flushed and two.is_flushed)
    mesh.heal()
    await mesh.wait_until(lambda: mesh.is_complete() and acting(members))
    await mesh.sleep(0.5)  # The worse holder has left. The better one has its state, and merges it.

    assert states(members, one) == {key: list(range(1, 11)) for key in KEYS}
    assert states(members, two) == {key: list(range(1, 11)) for key in KEYS}


async def test_a_message_that_apply_refuses_is_refused_and_the_shard_lives(cluster):
    mesh = await cluster(2)
    members = await members_on(mesh)
    source = Source(mesh, members[1].node, "ticks", members[1].shards)
    source.put(b"AAPL")
    source.put(b"AAPL", b"bad")
    source.put(b"AAPL")

    await mesh.wait_until(lambda: source.is_flushed)

    ((key, number, reason),) = source.refused
    assert (key, number) == (b"AAPL", 2)
    assert reason == (Atom("ValueError"), b"a bad message")
    assert states(members, source) == {b"AAPL": [1, 3]}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"keeper": object()}, TypeError, "has no new"),
        ({"backups": -1}, ValueError, "backups"),
        ({"keeper": None, "results": "sinks"}, ValueError, "keeper="),
    ],
)
async def test_wrong_arguments_are_refused_at_the_call(cluster, options, error, text):
    mesh = await cluster(1)
    (node,) = mesh

    with pytest.raises(error, match=text):
        Member(mesh, node, **options)
