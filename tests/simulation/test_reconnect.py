"""Lost peers come back by themselves, in simulated clusters."""

import pytest


async def test_a_healed_partition_becomes_one_mesh_again(cluster):
    mesh = await cluster(4)
    a, b, c, d = mesh
    mesh.partition([a, b], [c, d])
    await mesh.wait_until(lambda: set(a.nodes()) | set(c.nodes()) <= {b.name, d.name})

    mesh.heal()

    assert await mesh.wait_until(mesh.is_complete) < 40


async def test_a_node_that_was_paused_is_back_in_its_groups(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    member = b.spawn_handler(lambda _: None).pid
    b.pg.join("red", member)
    mesh.pause(b)
    await mesh.wait_until(lambda: not a.pg.get_members("red") and not c.pg.get_members("red"))

    mesh.resume(b)

    assert await mesh.wait_until(lambda: a.pg.get_members("red") == c.pg.get_members("red") == [member]) < 20


async def test_a_pause_shorter_than_the_tick_time_loses_nobody(cluster):
    mesh = await cluster(3)
    _, b, _c = mesh
    mesh.pause(b)
    await mesh.sleep(5.9)
    mesh.resume(b)
    await mesh.sleep(60)

    assert mesh.is_complete()
    assert not [line for line in mesh.history if "nodedown" in line]


async def test_a_crashed_node_is_dialled_until_its_next_life_answers(cluster):
    mesh = await cluster(3)
    mesh.kill("b")
    await mesh.sleep(100)

    await mesh.start("b")

    assert await mesh.wait_until(mesh.is_complete) < 30


@pytest.mark.parametrize("seed", range(10))
async def test_a_rolling_restart_of_five_ends_in_a_full_mesh(cluster, seed):
    mesh = await cluster(5, seed=seed)
    for name in mesh.names():
        if seed % 2:
            mesh.kill(name)
        else:
            await mesh.stop(name)
        await mesh.sleep(mesh.random.choice([0.1, 1, 10]))
        await mesh.start(name)
        await mesh.sleep(mesh.random.choice([3, 10]))  # who forgets all must be found by those who have not yet

    assert await mesh.wait_until(mesh.is_complete) < 60


async def test_a_pair_that_disconnects_on_purpose_stays_apart(cluster):
    mesh = await cluster(2)
    a, b = mesh
    a.disconnect_nowait(b.name)
    await mesh.sleep(3600)

    assert a.nodes() == b.nodes() == []
    assert a.reconnecting() == b.reconnecting() == []


async def test_until_one_of_them_wants_the_other_again(cluster):
    mesh = await cluster(2)
    a, b = mesh
    a.disconnect_nowait(b.name)
    await mesh.sleep(60)
    assert await b.ping(a.name)
    mesh.reset(a, b)
    await mesh.wait_until(lambda: not a.nodes())

    assert await mesh.wait_until(mesh.is_complete) < 10


async def test_without_reconnection_nobody_dials(cluster):
    mesh = await cluster(2, reconnect=False)
    a, b = mesh
    mesh.reset(a, b)
    await mesh.sleep(3600)

    assert a.nodes() == b.nodes() == []


async def test_a_node_that_is_not_there_at_the_start_is_met_when_it_comes(cluster):
    mesh = await cluster()
    await mesh.start("a", join=["b@10.0.0.2"])
    await mesh.sleep(300)

    await mesh.start("b")

    assert await mesh.wait_until(mesh.is_complete) < 30


async def test_while_one_pair_is_cut_the_others_are_seldom_disturbed(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    ups = []
    watcher = c.spawn_handler(ups.append)
    c.monitor_nodes(watcher.pid)
    mesh.cut(a, b)
    await mesh.sleep(3600)

    changes = len(ups)
    assert changes < 100  # a cluster that dialled as it does otherwise would change every few seconds

    mesh.heal()
    assert await mesh.wait_until(mesh.is_complete, timeout=600) < 400


async def disconnected_by_report(mesh):
    """``c`` has gone, and ``b`` has heard of it by ``a``, which dials nobody, before ``c``'s own last word came."""
    await mesh.start("a", reconnect=False)
    await mesh.start("b", "c", join=[mesh.name("a")])
    _, b, c = mesh
    await mesh.wait_until(lambda: mesh.is_complete() and all(len(node.global_.known()) == 2 for node in mesh))
    mesh.cut(b, c)
    mesh.kill(c)
    await mesh.wait_until(lambda: b.global_.is_overlap_disconnect(c.name), description="heard by hearsay")
    mesh.heal()
    await mesh.wait_until(lambda: c.name not in b.nodes())
    return b, mesh.name("c")


async def test_who_ended_and_was_left_for_the_sake_of_others_before_is_met_again_soon(cluster):
    mesh = await cluster()
    b, lost = await disconnected_by_report(mesh)
    assert b.reconnecting() == [lost]

    await mesh.start("c")

    assert await mesh.wait_until(mesh.is_complete) < 10


async def test_and_no_later_than_any_other_when_it_was_gone_for_long(cluster):
    mesh = await cluster()
    await disconnected_by_report(mesh)
    await mesh.sleep(600)

    await mesh.start("c")

    assert await mesh.wait_until(mesh.is_complete) < 20


async def test_a_node_that_restarts_while_a_pair_is_cut_is_met_in_its_new_life(cluster):
    mesh = await cluster(3)
    a, b, _ = mesh
    mesh.cut(a, b)
    await mesh.wait_until(lambda: {len(node.nodes()) for node in mesh} == {0, 1}, description="one of the two is left")
    left = next(node for node in mesh if not node.nodes())
    await mesh.sleep(300)  # after several attempts in vain it is spared for minutes
    await mesh.wait_until(lambda: not left.nodes())
    mesh.heal()
    mesh.kill(left)

    await mesh.start(left.name)

    assert await mesh.wait_until(mesh.is_complete) < 20


async def test_for_whom_the_others_are_left_meets_them_when_the_pair_is_whole(cluster):
    mesh = await cluster()
    await mesh.start("a", "b", reconnect=False)
    a, b = mesh
    await mesh.start("c", join=[a.name, b.name])
    c = mesh.node("c")
    await mesh.wait_until(mesh.is_complete)
    await mesh.wait_until(lambda: mesh.is_complete() and all(len(node.global_.known()) == 2 for node in mesh))
    mesh.cut(a, b)
    await mesh.wait_until(lambda: len(c.nodes()) < 2, description="one of the two is left, or both")
    await mesh.sleep(1)
    parted = c.nodes()
    await mesh.sleep(10)
    assert c.nodes() == parted

    mesh.heal()

    assert await mesh.wait_until(mesh.is_complete) < 20


@pytest.mark.parametrize("seed", range(3))
async def test_whom_somebody_disconnects_while_global_still_introduces_it_stays_away(cluster, seed):
    mesh = await cluster(seed=seed)
    await mesh.start("a", "b", reconnect=False)
    a, b = mesh
    for step in range(40):
        assert await a.connect(b.name)
        await mesh.wait_until(b.nodes)
        await mesh.sleep(step * 0.01)
        leaver = mesh.random.choice([a, b])

        leaver.disconnect_nowait(a.name if leaver is b else b.name)

        await mesh.sleep(10)
        assert a.nodes() == b.nodes() == [], step


async def test_who_is_gone_is_dialled_no_oftener_than_the_cap_allows(cluster):
    mesh = await cluster(2)
    _, b = mesh
    mesh.kill(b)
    dials = []
    host = mesh.network.host("10.0.0.1")
    reach = host.reach
    host.reach = lambda address: dials.append(mesh.now()) or reach(address)
    await mesh.sleep(3600)

    assert 3600 / 15 <= len(dials) <= 3600 / 7.5 + 10
