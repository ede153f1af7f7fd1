"""Test your own code on a simulated cluster. Time is virtual, so half a minute passes in milliseconds.

Run ``pytest examples/test_my_service.py``. The fixture ``cluster`` comes with erlmesh.
"""

from erlmesh import Atom, Node, Process


async def counter(me: Process) -> None:
    """The service under test: it counts, and is a member of a group."""
    me.node.pg.join("counters", me.pid)
    count = 0
    async for message in me:
        match message:
            case (Atom("$gen_call"), caller, _):
                count += 1
                me.reply(caller, count)


async def count_on(node: Node) -> object:
    pid = node.pg.pick("counters")
    assert pid is not None
    return await node.call(pid, Atom("count"))


async def test_every_node_reaches_the_counter(cluster):
    mesh = await cluster(3, seed=1)
    first, *others = mesh
    first.spawn(counter)
    await mesh.wait_until(lambda: all(node.pg.get_members("counters") for node in mesh))

    assert [await count_on(node) for node in others] == [1, 2]


async def test_a_partition_hides_the_counter_until_it_heals(cluster):
    mesh = await cluster(2, seed=1)
    first, second = mesh
    first.spawn(counter)
    await mesh.wait_until(lambda: second.pg.get_members("counters") != [])

    mesh.partition([first], [second])
    await mesh.wait_until(lambda: second.pg.get_members("counters") == [])
    mesh.heal()
    await mesh.wait_until(lambda: second.pg.get_members("counters") != [])

    assert await count_on(second) == 1
