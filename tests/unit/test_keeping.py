"""``node.shards`` with a keeper on simulated clusters."""

import pytest

from erlmesh.core.sharding import replica_messages as tags
from erlmesh.terms import Atom
from simulation.sharding.state_parts import KEYS, NAME, SHARDS, Member, Numbers, numbers_of
from simulation.sharding.state_world import make_world as start_world


async def make_world(cluster, seed, *names, **options):
    """A world that is killed at the end of the test."""
    world = await start_world(seed, *names, **options)
    cluster.clusters.append(world.mesh)
    return world


def everything(source):
    """What a state has if nothing is lost."""
    return {key: list(range(1, source.sent[key] + 1)) for key in KEYS}


async def test_messages_are_applied_replicated_and_acknowledged(cluster):
    world = await make_world(cluster, 0, "abc")

    world.put(3)
    await world.rest()

    for source in world.sources:
        assert numbers_of(world.members, source) == everything(source)
        assert all(source.acknowledged(key) == source.sent[key] for key in KEYS)
    assert len(world.sink.results) == sum(sum(source.sent.values()) for source in world.sources)
    for key in KEYS:
        assert len(world.holder(key).shards.backups(key)) == 1


async def test_a_killed_holder_loses_nothing_that_was_acknowledged(cluster):
    world = await make_world(cluster, 0)
    killed = world.holder(KEYS[0])
    acknowledged = {source: source.acknowledged(KEYS[0]) for source in world.sources}

    world.mesh.kill(killed.node)
    world.put()
    await world.rest()

    for source in world.sources:
        assert len(numbers_of(world.members, source)[KEYS[0]]) >= acknowledged[source]
        if source.is_up:
            assert numbers_of(world.members, source) == everything(source)


async def test_a_node_that_starts_gets_the_states_of_its_shards(cluster):
    world = await make_world(cluster, 0, "ab")
    (old, *_) = world.members

    new = await world.start("c")
    await world.mesh.wait_until(lambda: any(new.acts(shard) for shard in range(SHARDS)))
    world.put()
    await world.rest_and_check()

    moved = [key for key in KEYS if new.shards.state(key) is not None]
    assert all(old.shards.state(key) is None for key in moved)


async def test_a_node_that_stops_hands_over_in_order(cluster):
    world = await make_world(cluster, 0, "abc")
    stopping = world.holder(KEYS[0])

    await world.mesh.stop(stopping.node)

    world.put()
    await world.rest_and_check()
    assert sum(source.outbox.replays for source in world.sources if source.is_up) == 0


async def test_leaving_the_block_moves_the_states(cluster):
    world = await make_world(cluster, 0, "abc")
    leaving = world.holder(KEYS[0])

    await world.mesh.run_on(leaving.node, leaving.shards.stop)
    await world.mesh.wait_until(lambda: leaving.ended)

    await world.rest_and_check()
    assert leaving.shards.state(KEYS[0]) is None


async def test_a_message_that_apply_refuses_is_refused_and_the_shard_lives(cluster):
    world = await make_world(cluster, 0, "ab")
    source = world.sources[0]
    before = source.sent[KEYS[0]]
    source.put(KEYS[0])
    source.put(KEYS[0], b"bad")
    source.put(KEYS[0])

    await world.mesh.wait_until(lambda: source.is_flushed)

    assert source.refused == [(KEYS[0], (Atom("ValueError"), b"a bad message"))]
    assert numbers_of(world.members, source)[KEYS[0]] == [*range(1, before + 2), before + 3]


class Careless(Numbers):
    """A keeper that changes the state and then raises."""

    all_or_nothing = False

    def apply(self, state, message, at):
        results = super().apply(state, b"" if message == b"bad" else message, at)
        if message == b"bad":
            raise ValueError("too late")
        return results


async def test_the_state_is_as_before_if_apply_raises_after_a_change(cluster):
    world = await make_world(cluster, 0, "ab", make_keeper=Careless)
    source = world.sources[0]
    before = source.sent[KEYS[0]]
    source.put(KEYS[0], b"bad")

    await world.mesh.wait_until(lambda: source.is_flushed)

    assert numbers_of(world.members, source)[KEYS[0]] == list(range(1, before + 1))
    world.sources[1].put(KEYS[0])
    await world.rest()


PIDLESS = [b"x", 1, -1, Atom("a"), [], (), (1,), {Atom("a"): 1}, 1.5, b"y" * 70_000, [(1, 2)], 1 << 70]


async def test_malformed_messages_do_not_harm_a_holder(cluster):
    world = await make_world(cluster, 1, "abc")
    holder, other = world.holder(KEYS[0]), world.backup(KEYS[0])
    pid = holder.shards.holder(KEYS[0])
    sender = other.shards._member
    shard = holder.shards.of(KEYS[0])
    sizes = {
        tags.GIVE: 7,
        tags.TOOK: 5,
        tags.COPY: 10,
        tags.COPIED: 5,
        tags.ADOPT: 6,
        tags.ADOPTED: 6,
        tags.COPIES: 5,
        tags.FORGET: 5,
        tags.FORGOT: 5,
        tags.DONE: 7,
    }
    for tag, size in sizes.items():
        for value in PIDLESS:
            fields = [world.mesh.random.choice([value, *PIDLESS]) for _ in range(size - 4)]
            sender.send(pid, (tag, NAME.encode(), shard, *fields, sender.pid))
            sender.send(pid, (tag, NAME.encode(), value, *fields, sender.pid))
            sender.send(pid, (tag, value, shard, *fields, sender.pid))
            sender.send(pid, (tag, NAME.encode(), shard, *fields, value))
            sender.send(pid, (tag, value))
        sender.send(pid, (tag, NAME.encode(), shard, *[1] * (size - 4), pid))

    world.put()
    await world.rest_and_check()
    assert world.holder(KEYS[0]) is holder


class Odd(Numbers):
    """A keeper whose results are not always terms."""

    def apply(self, state, message, at):
        results = super().apply(state, b"" if isinstance(message, bytes) else message, at)
        match message:
            case b"object":
                return [object()]
            case b"text":
                return "text"
            case b"number":
                return 5
            case b"dict":
                return {"a": 1}
            case b"generator":
                return (each for each in results)
        return tuple(results)


class OddOnACopy(Odd):
    all_or_nothing = False


ODD = [b"object", b"text", b"number", b"dict"]


async def test_results_that_are_not_terms_refuse_the_message(cluster):
    world = await make_world(cluster, 0, "ab", make_keeper=OddOnACopy)
    source = world.sources[0]
    before = source.sent[KEYS[0]]
    for message in (*ODD, b"generator"):
        source.put(KEYS[0], message)

    await world.mesh.wait_until(lambda: source.is_flushed)

    assert [reason[0] for _, reason in source.refused] == [Atom("EncodeError"), *[Atom("TypeError")] * 3]
    assert numbers_of(world.members, source)[KEYS[0]] == [*range(1, before + 1), before + 5]


async def test_a_keeper_that_changes_the_state_in_place_has_no_results_that_are_not_terms(cluster, caplog):
    world = await make_world(cluster, 0, "ab", make_keeper=Odd)
    source = world.sources[0]
    await world.rest()
    results = len(world.sink.results)
    for message in (*ODD, b"generator"):
        source.put(KEYS[0], message)

    await world.rest()

    assert source.refused == []
    assert len(world.sink.results) == results + 1
    assert caplog.text.count("has returned something else than terms") == len(ODD)
    assert "refuses here" not in caplog.text  # The backup has applied them, too.
    acting = world.holder(KEYS[0])
    assert numbers_of(world.members, source)[KEYS[0]] == [*range(1, source.sent[KEYS[0]] + 1)]
    world.mesh.kill(acting.node)  # The backup has the same state.
    await world.rest()
    assert numbers_of(world.members, source)[KEYS[0]] == [*range(1, source.sent[KEYS[0]] + 1)]


class Asynchronous(Numbers):
    async def apply(self, state, message, at):
        return super().apply(state, message, at)


class AsynchronousGenerator(Numbers):
    async def dump(self, state):
        yield state


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"keeper": object()}, TypeError, "has no new"),
        ({"keeper": Numbers}, TypeError, r"Numbers is a class: pass Numbers\(\)"),
        ({"keeper": Asynchronous()}, TypeError, "apply of .* must not be async"),
        ({"keeper": AsynchronousGenerator()}, TypeError, "dump of .* must not be async"),
        ({"merge": 5}, TypeError, "merge is a function of two states, or newest, not 5"),
        ({"backups": -1}, ValueError, "backups"),
        ({"keeper": None, "results": "sinks"}, ValueError, "keeper="),
    ],
)
async def test_wrong_arguments_are_refused_at_the_call(cluster, options, error, text):
    mesh = await cluster(1)
    (node,) = mesh

    with pytest.raises(error, match=text):
        Member(mesh, node, **options)


class Functions:
    """A keeper that needs no object."""

    new, merge = staticmethod(lambda key: []), staticmethod(lambda ours, theirs: ours + theirs)
    dump = load = staticmethod(list)

    @classmethod
    def apply(cls, state, message, at):
        state.append(message)


async def test_a_class_of_static_methods_is_a_keeper(cluster):
    mesh = await cluster(1)
    (node,) = mesh

    assert node.shards("numbers", keeper=Functions).lost == 0


async def test_questions_about_state_need_a_keeper(cluster):
    mesh = await cluster(1)
    (node,) = mesh
    shards = node.shards("feeds")

    with pytest.raises(TypeError, match="keeper="):
        shards.state("AAPL")
    with pytest.raises(TypeError, match="keeper="):
        shards.backups("AAPL")
    assert shards.lost == 0
