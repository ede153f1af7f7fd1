"""Lost peers come back by themselves, in simulated clusters."""

import pytest


async def test_a_healed_partition_becomes_one_mesh_again(cluster):
    mesh = await cluster(4)
    a, b, c, d = mesh
    mesh.partition([a, b], [c, d])
    await mesh.until(lambda: set(a.nodes()) | set(c.nodes()) <= {b.name, d.name})

    mesh.heal()

    assert await mesh.until(mesh.is_complete) < 40


async def test_a_node_that_was_paused_is_back_in_its_groups(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    member = b.spawn_server(lambda _: None).pid
    b.pg.join("red", member)
    mesh.pause(b)
    await mesh.until(lambda: not a.pg.get_members("red") and not c.pg.get_members("red"))

    mesh.resume(b)

    assert await mesh.until(lambda: a.pg.get_members("red") == c.pg.get_members("red") == [member]) < 20


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
    mesh.crash("b")
    await mesh.sleep(100)

    await mesh.start("b")

    assert await mesh.until(mesh.is_complete) < 30


@pytest.mark.parametrize("seed", range(10))
async def test_a_rolling_restart_of_five_ends_in_a_full_mesh(cluster, seed):
    mesh = await cluster(5, seed=seed)
    for name in mesh.names():
        if seed % 2:
            mesh.crash(name)
        else:
            await mesh.stop(name)
        await mesh.sleep(mesh.random.choice([0.1, 1, 10]))
        await mesh.start(name)
        await mesh.sleep(mesh.random.choice([3, 10]))  # who forgets all must be found by those who have not yet

    assert await mesh.until(mesh.is_complete) < 60


async def test_a_pair_that_disconnects_on_purpose_stays_apart(cluster):
    mesh = await cluster(2)
    a, b = mesh
    a.disconnect_nowait(b.name)
    await mesh.sleep(3600)

    assert a.nodes() == b.nodes() == []
    assert a.missed() == b.missed() == []


async def test_until_one_of_them_wants_the_other_again(cluster):
    mesh = await cluster(2)
    a, b = mesh
    a.disconnect_nowait(b.name)
    await mesh.sleep(60)
    assert await b.ping(a.name)
    mesh.reset(a, b)
    await mesh.until(lambda: not a.nodes())

    assert await mesh.until(mesh.is_complete) < 10


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

    assert await mesh.until(mesh.is_complete) < 30


async def test_while_one_pair_is_cut_the_others_are_seldom_disturbed(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    ups = []
    watcher = c.spawn_server(ups.append)
    c.monitor_nodes(watcher.pid)
    mesh.cut(a, b)
    await mesh.sleep(3600)

    changes = len(ups)
    assert changes < 100  # a cluster that dialled as it does otherwise would change every few seconds

    mesh.heal()
    assert await mesh.until(mesh.is_complete, timeout=600) < 400


async def test_who_is_gone_is_dialled_no_oftener_than_the_cap_allows(cluster):
    mesh = await cluster(2)
    _, b = mesh
    mesh.crash(b)
    dials = []
    host = mesh.internet.host("10.0.0.1")
    reach = host.reach
    host.reach = lambda address: dials.append(mesh.now()) or reach(address)
    await mesh.sleep(3600)

    assert 3600 / 15 <= len(dials) <= 3600 / 7.5 + 10
