"""``node.shards`` on simulated clusters: events, questions, and the end of a candidate, a process and a node."""

import asyncio
import logging

import pytest

from erlmesh.sharding import Release, Take
from erlmesh.terms import Atom
from simulation.sharding.workers import Worker, holders

SHARDS = 32
CANDIDATES = (b"erlmesh_shards", b"feeds")


async def settled(mesh, workers):
    """Wait until each shard has one holder."""

    def is_settled():
        found = holders(workers)
        return len(found) == SHARDS and all(len(nodes) == 1 for nodes in found.values())

    await mesh.wait_until(is_settled)


async def workers_on(mesh, **options):
    workers = [Worker(mesh, node, shards=SHARDS, **options) for node in mesh]
    await mesh.wait_until(lambda: all(len(node.pg.get_members(CANDIDATES)) == len(workers) for node in mesh))
    await mesh.sleep(0.1)  # Those that came first have released what is not theirs.
    await settled(mesh, workers)
    return workers


async def test_each_shard_has_one_holder_which_all_nodes_name(cluster):
    mesh = await cluster(3)
    workers = await workers_on(mesh)
    await mesh.sleep(0.1)

    for worker in workers:
        assert worker.running == set(worker.shards.held)
        for shard in worker.running:
            assert worker.shards.may_act(shard)
            (name,) = {other.shards.holder_of(shard).node.name for other in workers}
            assert name == worker.node.name
    first = workers[0].shards
    assert {each.shards.of("AAPL") for each in workers} == {first.of(b"AAPL")}
    assert first.holder("AAPL") == first.holder_of(first.of("AAPL"))
    assert (first.name, first.shards) == ("feeds", SHARDS)


async def test_nothing_is_taken_before_the_node_has_listened(cluster):
    mesh = await cluster(1)
    (node,) = mesh
    worker = Worker(mesh, node, shards=SHARDS, settle=2.0)

    await mesh.sleep(1.9)
    assert not worker.running
    assert worker.shards.holder("AAPL") is None
    await mesh.wait_until(lambda: len(worker.running) == SHARDS)
    assert mesh.now() < 2.5


async def test_nothing_is_taken_before_each_connected_node_has_said_what_it_holds(cluster):
    mesh = await cluster(2)
    a, b = mesh
    workers = await workers_on(mesh)
    (c,) = await mesh.start("c", join=[b.name])

    def pause(message):  # At this moment it is connected, and has not yet told its groups.
        if message == (Atom("nodeup"), Atom(a.name)):
            mesh.pause(a)

    c.monitor_nodes(c.spawn_handler(pause).pid)
    workers.append(Worker(mesh, c, shards=SHARDS))
    await mesh.wait_until(lambda: mesh.is_paused(a))

    await mesh.sleep(3.0)
    assert not workers[-1].running & workers[0].running
    mesh.resume(a)
    await mesh.wait_until(lambda: workers[-1].running)

    assert not workers[-1].running & workers[0].running
    await settled(mesh, workers)


@pytest.mark.parametrize("how", ["silent", "lost"])
async def test_a_connected_node_that_does_not_answer_is_waited_for_some_seconds(cluster, caplog, how):
    mesh = await cluster(2)
    a, b = mesh
    mesh.pause(a)
    worker = Worker(mesh, b, shards=SHARDS)

    await mesh.sleep(4.9)
    assert not worker.running
    if how == "lost":
        mesh.kill(a)
    await mesh.wait_until(lambda: len(worker.running) == SHARDS, timeout=1.0)

    said = "a@10.0.0.1 has not answered" in caplog.text
    assert said is (how == "silent")


async def test_the_next_node_takes_as_soon_as_it_hears_of_the_death_of_a_holder(cluster):
    mesh = await cluster(3)
    workers = await workers_on(mesh)
    before = holders(workers)

    mesh.kill(workers[0].node)
    await settled(mesh, workers)

    after = holders(workers)
    assert {shard: nodes for shard, nodes in after.items() if before[shard] != [workers[0].node.name]}.items() <= (
        before.items()
    )


async def test_a_node_that_starts_takes_its_share_when_the_others_have_released(cluster):
    mesh = await cluster(2)
    workers = await workers_on(mesh, release_time=0.3)
    (new,) = await mesh.start("c", join=[workers[0].node.name])
    workers.append(Worker(mesh, new, release_time=0.3, shards=SHARDS))
    await mesh.wait_until(lambda: any(type(each) is Release for each in workers[0].events))

    await mesh.sleep(0.25)
    assert not workers[2].running, "the others have not released yet"
    await mesh.wait_until(lambda: workers[2].running)
    await settled(mesh, workers)
    assert len(workers[2].running) < SHARDS / 2


async def test_a_stop_releases_all_shards_and_ends_the_loop(cluster):
    mesh = await cluster(2)
    workers = await workers_on(mesh)

    await workers[0].stop()

    await mesh.wait_until(lambda: workers[0].ended)
    assert workers[0].running == set()
    await settled(mesh, workers[1:])
    assert workers[1].node.pg.get_members((b"erlmesh_shards", b"feeds")) == [workers[1].shards.holder_of(0)]


async def test_a_node_that_stops_releases_in_order_before_others_take(cluster):
    mesh = await cluster(2)
    workers = await workers_on(mesh, release_time=0.3)
    stopping = asyncio.create_task(mesh.stop(workers[0].node))
    await mesh.wait_until(lambda: any(type(each) is Release for each in workers[0].events))
    held = set(workers[0].running)

    await mesh.sleep(0.25)
    assert workers[0].running == held
    assert not workers[1].running & held
    await stopping
    assert workers[0].running == set()
    await settled(mesh, workers[1:])


async def test_a_node_that_stops_takes_nothing_more(cluster):
    mesh = await cluster(3)
    workers = await workers_on(mesh, release_time=0.4)
    stopping = asyncio.create_task(mesh.stop(workers[0].node))
    await mesh.wait_until(lambda: any(type(each) is Release for each in workers[0].events))
    taken = [each for each in workers[0].events if type(each) is Take]

    mesh.kill(workers[1].node)
    await stopping

    assert [each for each in workers[0].events if type(each) is Take] == taken


async def test_a_release_that_is_not_done_is_waited_for_until_the_time_limit(cluster, caplog):
    mesh = await cluster(1)
    (node,) = mesh
    worker = Worker(mesh, node, release_time=1000, shards=1, release_timeout=3.0)
    await mesh.wait_until(lambda: worker.running)
    began = mesh.now()

    with caplog.at_level(logging.WARNING, "erlmesh.shards"):
        await worker.stop()

    assert 3.0 <= mesh.now() - began < 3.1
    assert "feeds: shard 0 was not released in time" in caplog.text


async def test_done_counts_once_and_only_for_its_own_release(cluster):
    mesh = await cluster(1)
    (node,) = mesh
    worker = Worker(mesh, node, release_time=0, shards=1)
    await mesh.wait_until(lambda: worker.running)
    await worker.stop()

    worker.events[-1].done()

    assert repr(worker.events) == "[Take(shard=0, name='feeds'), Release(shard=0, name='feeds')]"


async def test_a_block_that_is_left_gives_up_its_shards_at_once(cluster):
    mesh = await cluster(2)
    a, b = mesh
    other = Worker(mesh, b, shards=SHARDS)

    async def take_one():
        async with a.shards("feeds", shards=SHARDS) as shards:
            async for event in shards:
                assert type(event) is Take
                break

    await mesh.run_on(a, take_one)

    await mesh.wait_until(lambda: len(other.running) == SHARDS)
    assert len(b.pg.get_members((b"erlmesh_shards", b"feeds"))) == 1


async def test_a_block_that_is_left_before_it_has_listened_leaves_nothing_behind(cluster):
    mesh = await cluster(1)
    (node,) = mesh
    await mesh.sleep(0.1)
    before = node.internals.process_count()

    async def leave():
        async with node.shards("feeds"):
            pass
        shards = node.shards("feeds")
        async with shards:
            await mesh.sleep(0.1)
        with pytest.raises(RuntimeError, match="shards start once"):
            shards.start()

    await mesh.run_on(node, leave)
    await mesh.sleep(1)

    assert node.pg.which_groups() == []
    assert node.internals.process_count() == before


async def test_a_process_gets_the_events_as_messages_and_is_the_holder(cluster):
    mesh = await cluster(1)
    (node,) = mesh
    got = []

    async def holder(me):
        async with me.node.shards("feeds", shards=1, process=me) as shards:
            async for message in me:
                got.append(message)
                match message:
                    case (Atom("shards"), Take(0)):
                        me.send(shards.holder("any"), "a message to the holder")
                    case (Atom("shards"), Release(0) as release):
                        release.done()
                    case Atom("stop"):
                        await shards.stop()

    pid = node.spawn(holder)
    await mesh.wait_until(lambda: len(got) == 2)

    assert got == [(Atom("shards"), Take(0, "feeds")), "a message to the holder"]
    assert node.pg.get_members((b"erlmesh_shards", b"feeds", 0)) == [pid]


async def test_the_shards_of_a_process_that_is_killed_are_taken_by_others(cluster):
    mesh = await cluster(2)
    a, b = mesh

    async def holder(me):
        async with me.node.shards("feeds", shards=SHARDS, process=me):
            async for _ in me:
                pass

    pid = a.spawn(holder)
    worker = Worker(mesh, b, shards=SHARDS)
    await mesh.sleep(2)
    assert 0 < len(worker.running) < SHARDS

    a.exit(pid, Atom("kill"))

    await mesh.wait_until(lambda: len(worker.running) == SHARDS)
    await mesh.sleep(0.1)
    assert not a.pg._server.observers._subscribers, "nothing of it is left on its node"


async def test_a_process_that_stops_with_its_node_releases_in_order(cluster):
    mesh = await cluster(2)
    a, b = mesh
    released, stopping = [], []

    async def holder(me):
        me.trap_exit = True
        async with me.node.shards("feeds", shards=SHARDS, process=me) as shards:
            async for message in me:
                match message:
                    case (Atom("shards"), Release(shard) as release):
                        if stopping:
                            assert other.shards.holder_of(shard) == me.pid
                        await asyncio.sleep(0.01)
                        released.append(shard)
                        release.done()
                        if not shards.held:
                            return

    a.spawn(holder)
    other = Worker(mesh, b, shards=SHARDS)
    await mesh.sleep(2)
    held = SHARDS - len(other.running)
    released.clear()
    stopping.append(True)

    await mesh.stop(a)

    assert len(released) == held > 0
    await mesh.wait_until(lambda: len(other.running) == SHARDS)


async def test_two_candidates_of_one_node_take_over_from_each_other(cluster):
    mesh = await cluster(1)
    (node,) = mesh
    first = Worker(mesh, node, shards=SHARDS)
    second = Worker(mesh, node, shards=SHARDS)
    await mesh.wait_until(lambda: len(first.running) == SHARDS)
    assert not second.running

    await first.stop()

    await mesh.wait_until(lambda: len(second.running) == SHARDS)


async def test_a_warning_says_that_another_node_has_another_number_of_shards(cluster, caplog):
    mesh = await cluster(2)
    a, b = mesh
    Worker(mesh, a, shards=4)
    with caplog.at_level(logging.WARNING, "erlmesh.shards"):
        Worker(mesh, b, shards=64)
        await mesh.sleep(2)

    lines = [record.message for record in caplog.records]
    assert len(lines) == 1
    assert "this one has 4 shards: use the same number on all nodes" in lines[0]


async def test_groups_that_no_candidate_makes_are_ignored(cluster):
    mesh = await cluster(2)
    a, b = mesh
    worker = Worker(mesh, a, shards=4)
    await mesh.wait_until(lambda: len(worker.running) == 4)
    stranger = b.spawn_handler(lambda message: None)
    tag = b"erlmesh_shards"

    for group in [
        (tag,), (tag, b"other", 1), (tag, b"feeds", True), (tag, b"feeds", -1), (tag, b"feeds", 1 << 70),
        (tag, b"feeds", 1.0), (tag, b"feeds", b"1"), (tag, b"feeds", 1, b"copy"), [tag, b"feeds"], (1, 2, 3),
    ]:  # fmt: skip
        b.pg.join(group, stranger.pid)
    await mesh.sleep(1)

    assert worker.running == {0, 1, 2, 3}


async def test_wrong_arguments_are_refused(cluster):
    mesh = await cluster(1)
    (node,) = mesh

    for arguments, text in [
        ({"shards": 0}, "shards is a number"), ({"shards": 2.5}, "shards is a number"), ({"quorum": 0}, "quorum is"),
        ({"settle": -1}, "settle is"), ({"settle": float("nan")}, "settle is"), ({"settle": "0.5"}, "settle is"),
        ({"settle": float("inf")}, "settle is"), ({"settle": None}, "settle is"), ({"settle": True}, "settle is"),
        ({"release_timeout": -1}, "release_timeout is"), ({"release_timeout": "5"}, "release_timeout is"),
        ({"name": ""}, "shards has 1 to 255 bytes, not 0"), ({"name": "x" * 300}, "shards has 1 to 255 bytes, not 300"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=text):
            node.shards(**{"name": "feeds", **arguments})
    with pytest.raises(TypeError, match="the name of shards is a str or bytes, not int"):
        node.shards(7)
    with pytest.raises(TypeError, match="process is a process of this node"):
        node.shards("feeds", process=node.spawn_handler(lambda message: None).pid)
    with pytest.raises(TypeError, match="a key is a str or bytes"):
        node.shards("feeds").of(7)


async def test_a_shard_is_a_number_and_not_a_key(cluster):
    mesh = await cluster(1)
    shards = next(iter(mesh)).shards("feeds", shards=4)

    for wrong in ("AAPL", -1, 4, 1.0, True, None, []):
        with pytest.raises(ValueError, match=r"a shard is a number from 0 to 3, not .*: of\(\) is the one of a key"):
            shards.holder_of(wrong)
        with pytest.raises(ValueError, match="a shard is a number from 0 to 3"):
            shards.may_act(wrong)
    assert shards.holder_of(3) is None
    assert not shards.may_act(3)


async def test_a_hidden_node_and_a_process_of_another_node_are_refused(cluster):
    mesh = await cluster(2)
    a, b = mesh
    (hidden,) = await mesh.start("h", hidden=True)

    with pytest.raises(ValueError, match="a hidden node does not see"):
        hidden.shards("feeds")
    with pytest.raises(ValueError, match="is a process of another node"):
        a.shards("feeds", process=b.spawn_handler(lambda message: None))


async def test_a_process_that_has_joined_a_shard_twice_is_waited_for_until_it_has_left_twice(cluster):
    mesh = await cluster(1)
    (node,) = mesh
    group = (b"erlmesh_shards", b"feeds", 0)
    other = node.spawn_handler(lambda message: None)
    worker = Worker(mesh, node, shards=1)
    await mesh.sleep(0.1)
    node.pg.join(group, [other.pid, other.pid])
    await mesh.sleep(1)

    node.pg.leave(group, other.pid)
    await mesh.sleep(1)
    assert not worker.running
    node.pg.leave(group, other.pid)
    await mesh.wait_until(lambda: worker.running)


# With a quorum


async def test_a_side_without_the_quorum_holds_nothing_and_the_other_takes_over(cluster):
    mesh = await cluster(3)
    workers = await workers_on(mesh, quorum=2)
    a, b, c = workers

    mesh.partition([a.node], [b.node, c.node])
    await mesh.wait_until(lambda: not a.running)
    assert a.node.nodes(), "it has let go before it has lost the others"
    await settled(mesh, [b, c])
    mesh.heal()
    await mesh.wait_until(lambda: a.running)
    await settled(mesh, workers)


async def test_a_node_that_stood_still_too_long_may_not_act_when_it_wakes(cluster):
    mesh = await cluster(3)
    workers = await workers_on(mesh, quorum=2)
    held = set(workers[0].running)

    mesh.pause(workers[0].node)
    await mesh.sleep(5.5)  # more than 0.6 tick times of 8 seconds
    mesh.resume(workers[0].node)

    assert workers[0].running == held
    assert workers[0].allowed == set()
    released = lambda: {each.shard for each in workers[0].events if type(each) is Release}  # noqa: E731
    await mesh.wait_until(lambda: released() == held)
    await settled(mesh, workers)


async def test_of_three_nodes_two_that_start_alone_wait_until_an_earlier_node_has_forgotten(cluster):
    mesh = await cluster(2)

    await workers_on(mesh, quorum=2)

    assert 6 <= mesh.now() < 7.5  # 0.75 tick times of 8 seconds


async def test_with_all_nodes_the_first_take_waits_for_nothing_else(cluster):
    mesh = await cluster(3)

    await workers_on(mesh, quorum=2)

    assert mesh.now() < 1


async def test_a_node_that_starts_again_gets_its_shards_back_at_once(cluster):
    mesh = await cluster(3)
    workers = await workers_on(mesh, quorum=2)
    held = set(workers[0].running)
    mesh.kill(workers[0].node)
    await settled(mesh, workers)
    (again,) = await mesh.start("a", join=[workers[1].node.name])
    workers[0] = Worker(mesh, again, shards=SHARDS, quorum=2)
    began = mesh.now()

    await mesh.wait_until(lambda: workers[0].running == held)

    assert mesh.now() - began < 1


async def test_a_short_pause_changes_nothing(cluster):
    mesh = await cluster(3)
    workers = await workers_on(mesh, quorum=2)
    events = len(workers[0].events)

    mesh.pause(workers[0].node)
    await mesh.sleep(2)
    mesh.resume(workers[0].node)
    await mesh.sleep(10)

    assert len(workers[0].events) == events
    assert len(workers[0].allowed) == len(workers[0].running) > 0
