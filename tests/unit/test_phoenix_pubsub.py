"""erlmesh.phoenix.PubSub on simulated clusters: Python nodes as members, and scripted workers of other releases."""

from erlmesh import Atom, Map
from erlmesh.phoenix import PubSub

NAME = "MyApp.PubSub"
ADAPTER = Atom("Elixir.MyApp.PubSub.Adapter")
SCOPE = Atom("Elixir.Phoenix.PubSub")
FORWARD, PLAIN = Atom("forward_to_local"), Atom("Elixir.Phoenix.PubSub")


async def members(mesh, *nodes, **options):
    """A started PubSub on each node, all ready."""
    found = [PubSub(node, NAME, **options) for node in nodes or mesh]
    for each in found:
        await each.start()
    for each in found:
        assert await each.ready()
    return found


async def taken(subscription, count, seconds=5.0):
    """The next messages of a subscription."""
    return [await subscription.get(seconds) for _ in range(count)]


def nothing_waits(*subscriptions):
    return [each.waiting for each in subscriptions] == [0] * len(subscriptions)


# Broadcasts


async def test_a_broadcast_reaches_the_subscribers_of_all_nodes(cluster):
    mesh = await cluster(3)
    a, b, c = await members(mesh)
    everywhere = [each.subscribe("orders") for each in (a, b, c)]
    other = b.subscribe("other")

    await a.broadcast("orders", {"id": 7})

    assert [await taken(each, 1) for each in everywhere] == [[Map({"id": 7})]] * 3
    assert nothing_waits(other)
    assert sorted(a.nodes()) == sorted([b.node.name, c.node.name])


async def test_the_first_broadcast_waits_for_the_other_nodes(cluster):
    mesh = await cluster(2)
    one, two = mesh
    async with PubSub(two, NAME) as b:
        orders = b.subscribe("orders")
        async with PubSub(one, NAME) as a:
            await a.broadcast("orders", b"first")
        assert await orders.get(5) == b"first"
