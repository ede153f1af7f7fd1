"""Automatic reconnection in simulated clusters."""

import pytest


async def test_healed_partition_becomes_a_full_mesh(cluster):
    mesh = await cluster(4)
    a, b, c, d = mesh
    mesh.partition([a, b], [c, d])
    await mesh.wait_until(lambda: set(a.nodes()) | set(c.nodes()) <= {b.name, d.name})

    mesh.heal()

    assert await mesh.wait_until(mesh.is_complete) < 40


async def test_paused_node_returns_to_its_groups(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    member = b.spawn_handler(lambda _: None).pid
    b.pg.join("red", member)
    mesh.pause(b)
    await mesh.wait_until(lambda: not a.pg.get_members("red") and not c.pg.get_members("red"))

    mesh.resume(b)

    assert await mesh.wait_until(lambda: a.pg.get_members("red") == c.pg.get_members("red") == [member]) < 20


async def test_pause_shorter_than_the_tick_time_loses_no_connection(cluster):
    mesh = await cluster(3)
    _, b, _c = mesh
    mesh.pause(b)
    await mesh.sleep(5.9)
    mesh.resume(b)
    await mesh.sleep(60)

    assert mesh.is_complete()
    assert not [line for line in mesh.history if "nodedown" in line]


async def test_crashed_node_is_reconnected_after_its_restart(cluster):
    mesh = await cluster(3)
    mesh.kill("b")
    await mesh.sleep(100)

    await mesh.start("b")

    assert await mesh.wait_until(mesh.is_complete) < 30


@pytest.mark.parametrize("seed", range(10))
async def test_rolling_restart_of_five_nodes_ends_in_a_full_mesh(cluster, seed):
    mesh = await cluster(5, seed=seed)
    for name in mesh.names():
        if seed % 2:
            mesh.kill(name)
        else:
            await mesh.stop(name)
        await mesh.sleep(mesh.random.choice([0.1, 1, 10]))
        await mesh.start(name)
        await mesh.sleep(mesh.random.choice([3, 10]))  # a restarted node knows no peers, so the others must find it

    assert await mesh.wait_until(mesh.is_complete) < 60


async def test_pair_that_disconnects_on_purpose_stays_disconnected(cluster):
    mesh = await cluster(2)
    a, b = mesh
    a.disconnect(b.name)
    await mesh.sleep(3600)

    assert a.nodes() == b.nodes() == []
    assert a.reconnecting() == b.reconnecting() == []


async def test_disconnected_pair_reconnects_after_a_new_request(cluster):
    mesh = await cluster(2)
    a, b = mesh
    a.disconnect(b.name)
    await mesh.sleep(60)
    assert await b.ping(a.name)
    mesh.reset(a, b)
    await mesh.wait_until(lambda: not a.nodes())

    assert await mesh.wait_until(mesh.is_complete) < 10


async def test_nodes_do_not_reconnect_without_reconnection(cluster):
    mesh = await cluster(2, reconnect=False)
    a, b = mesh
    mesh.reset(a, b)
    await mesh.sleep(3600)

    assert a.nodes() == b.nodes() == []


async def test_node_that_starts_late_is_connected(cluster):
    mesh = await cluster()
    await mesh.start("a", join=["b@10.0.0.2"])
    await mesh.sleep(300)

    await mesh.start("b")

    assert await mesh.wait_until(mesh.is_complete) < 30


async def test_cut_pair_seldom_disturbs_the_other_nodes(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    ups = []
    watcher = c.spawn_handler(ups.append)
    c.monitor_nodes(watcher.pid)
    mesh.cut(a, b)
    await mesh.sleep(3600)

    changes = len(ups)
    assert changes < 100  # without the deferral the cluster would change every few seconds

    mesh.heal()
    assert await mesh.wait_until(mesh.is_complete, timeout=600) < 400


async def disconnected_by_report(mesh):
    """``c`` has crashed. ``a``, which never reconnects, reported this to ``b`` before ``b`` noticed it itself."""
    await mesh.start("a", reconnect=False)
    await mesh.start("b", "c", join=[mesh.name("a")])
    _, b, c = mesh
    await mesh.wait_until(lambda: mesh.is_complete() and all(len(node.global_.known()) == 2 for node in mesh))
    mesh.cut(b, c)
    mesh.kill(c)
    await mesh.wait_until(lambda: b.global_.is_overlap_disconnect(c.name), description="b got the report")
    mesh.heal()
    await mesh.wait_until(lambda: c.name not in b.nodes())
    return b, mesh.name("c")


async def test_node_that_restarts_after_an_overlap_disconnect_is_reconnected_soon(cluster):
    mesh = await cluster()
    b, lost = await disconnected_by_report(mesh)
    assert b.reconnecting() == [lost]

    await mesh.start("c")

    assert await mesh.wait_until(mesh.is_complete) < 10


async def test_node_that_restarts_long_after_an_overlap_disconnect_is_reconnected_soon(cluster):
    mesh = await cluster()
    await disconnected_by_report(mesh)
    await mesh.sleep(600)

    await mesh.start("c")

    assert await mesh.wait_until(mesh.is_complete) < 20


async def test_node_that_restarts_while_a_pair_is_cut_is_reconnected(cluster):
    mesh = await cluster(3)
    a, b, _ = mesh
    mesh.cut(a, b)
    await mesh.wait_until(
        lambda: {len(node.nodes()) for node in mesh} == {0, 1}, description="c disconnects one of the two"
    )
    left = next(node for node in mesh if not node.nodes())
    await mesh.sleep(300)  # after several failed attempts the next one is deferred for minutes
    await mesh.wait_until(lambda: not left.nodes())
    mesh.heal()
    mesh.kill(left)

    await mesh.start(left.name)

    assert await mesh.wait_until(mesh.is_complete) < 20


async def test_common_neighbour_reconnects_when_a_cut_pair_is_healed(cluster):
    mesh = await cluster()
    await mesh.start("a", "b", reconnect=False)
    a, b = mesh
    await mesh.start("c", join=[a.name, b.name])
    c = mesh.node("c")
    await mesh.wait_until(mesh.is_complete)
    await mesh.wait_until(lambda: mesh.is_complete() and all(len(node.global_.known()) == 2 for node in mesh))
    mesh.cut(a, b)
    await mesh.wait_until(lambda: len(c.nodes()) < 2, description="c disconnects one of the two, or both")
    await mesh.sleep(1)
    remaining = c.nodes()
    await mesh.sleep(10)
    assert c.nodes() == remaining

    mesh.heal()

    assert await mesh.wait_until(mesh.is_complete) < 20


@pytest.mark.parametrize("seed", range(3))
async def test_node_disconnected_during_a_global_session_stays_disconnected(cluster, seed):
    mesh = await cluster(seed=seed)
    await mesh.start("a", "b", reconnect=False)
    a, b = mesh
    for step in range(40):
        assert await a.connect(b.name)
        await mesh.wait_until(b.nodes)
        await mesh.sleep(step * 0.01)
        leaver = mesh.random.choice([a, b])

        leaver.disconnect(a.name if leaver is b else b.name)

        await mesh.sleep(10)
        assert a.nodes() == b.nodes() == [], step


async def test_reconnect_attempts_respect_the_maximum_backoff(cluster):
    mesh = await cluster(2)
    _, b = mesh
    mesh.kill(b)
    dials = []
    host = mesh.network.host("10.0.0.1")
    reach = host.reach
    host.reach = lambda address: dials.append(mesh.now()) or reach(address)
    await mesh.sleep(3600)

    assert 3600 / 15 <= len(dials) <= 3600 / 7.5 + 10
