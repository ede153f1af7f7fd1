"""erlmesh.phoenix.PubSub beside Elixir nodes with a stand-in of Phoenix.PubSub, in the naming of each release."""

from pathlib import Path

import pytest

from erlmesh import Atom, Map, Node
from erlmesh.phoenix import Gap, PubSub, PubSubError, PubSubGuest
from polling import run, wait_until, wait_until_async
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(180), pytest.mark.otps(25, 27, 29)]
HERE = Path(__file__).parent
RELEASES = [("P20", 1, "2.0"), ("P210", 4, "2.1.0"), ("P22", 1, "2.1.1"), ("Pool", 4, "2.1.1")]
LOAD = COMPILE + ", M = 'Elixir.Phoenix.PubSub'"


def elixir_node(cluster, name, otp, *pubsubs, channels=True):
    """A BEAM with a PubSub for each of (name, pool size, naming)."""
    beam = cluster.beam(name, otp=otp, arguments=elixir_path(otp))
    beam.eval(LOAD, Source=(HERE / "phoenix_pubsub.ex").read_bytes())
    if channels:
        beam.eval(COMPILE, Source=(HERE / "phoenix_channels.ex").read_bytes())
    for pubsub, size, naming in pubsubs:
        beam.eval("M:start(Name__, Size__, Naming__)", Name__=module(pubsub), Size__=size, Naming__=naming.encode())
    return beam


def module(name):
    return Atom(f"Elixir.{name}")


def collector(beam, pubsub, topic):
    return beam.eval("M:collector(Name__, Topic__)", Name__=module(pubsub), Topic__=topic.encode())


def collected(beam, pid):
    return beam.eval("M:collected(Pid__)", Pid__=pid, timeout=60)


async def received(subscription, count):
    return [await subscription.get(15) for _ in range(count)]


def test_each_release_and_pool_size_exchanges_all_messages_in_order(cluster, otp):
    beam = elixir_node(cluster, "plato", otp, *RELEASES)

    async def main():
        async with Node("socrates@127.0.0.1", cookie="monster") as node:
            assert await node.connect(beam.name)
            for name, size, _ in RELEASES:
                async with PubSub(node, name) as pubsub:
                    assert await pubsub.ready(10), name
                    there = collector(beam, name, "t")
                    here = pubsub.subscribe("t", limit=20_000)
                    count = 10_000 if name in ("P22", "Pool") else 500
                    order = [*range(1, count + 1)]

                    for number in order:
                        await pubsub.broadcast("t", number)
                    await wait_until_async(lambda: len(collected(beam, there)) >= count)  # noqa: B023
                    assert collected(beam, there) == order, name
                    assert await received(here, count) == order, name  # its own broadcasts

                    await beam.eval_async('M:count(Name__, <<"t">>, N__, one_sender)', Name__=module(name), N__=count)
                    assert await received(here, count) == order, name

                    await beam.eval_async('M:count(Name__, <<"t">>, 200, many_senders)', Name__=module(name))
                    assert sorted(await received(here, 200)) == [*range(1, 201)], (name, size)
                    assert here.waiting == 0
                    assert pubsub.statistics.malformed == 0

    run(main(), 120)


def test_channels_live_views_and_processes_get_what_they_expect(cluster, otp):
    web = elixir_node(cluster, "plato", otp, ("MyApp.PubSub", 2, "2.1.1"))
    plain = elixir_node(cluster, "zeno", otp, ("MyApp.PubSub", 1, "2.1.1"), channels=False)
    assert web.ping(plain.name)

    async def main():
        async with Node("socrates@127.0.0.1", cookie="monster") as node, PubSub(node, "MyApp.PubSub") as pubsub:
            assert await node.connect(web.name)
            await wait_until_async(lambda: len(pubsub.nodes()) == 2)
            assert await pubsub.ready()
            view = web.eval("'Elixir.DashboardLive':mount('Elixir.MyApp.PubSub')")
            socket = web.eval(
                "Self = self(), S = spawn(fun Loop() -> receive {push, _, _, E, P} -> Self ! {pushed, E, P}, Loop() end"
                " end), M:collector('Elixir.MyApp.PubSub', <<\"jobs\">>, [{metadata, {fastlane, S, json, []}}]), S"
            )

            await pubsub.broadcast_event("jobs", "progress", {"done": 3, "job": "a"}, keys="atoms")
            await pubsub.broadcast_event("jobs", "progress", {"done": 5, "job": "b"}, keys="atoms")
            assigns, shown = "'Elixir.DashboardLive':assigns(View__)", Map({Atom("done"): 5, Atom("last"): b"b"})
            await wait_until_async(lambda: web.eval(assigns, View__=view) == shown)
            pushed = "receive {pushed, E__, P__} -> {E__, P__} after 9000 -> none end"
            assert web.eval(pushed) == (b"progress", Map({Atom("done"): 3, Atom("job"): b"a"})), socket

            # From Elixir, with the dispatcher of channels, to a subscription of this node.
            jobs = pubsub.subscribe("jobs")
            web.eval(
                "M:broadcast('Elixir.MyApp.PubSub', <<\"jobs\">>, #{'__struct__' => 'Elixir.Phoenix.Socket.Broadcast',"
                ' topic => <<"jobs">>, event => <<"cancel">>, payload => #{}}, \'Elixir.Phoenix.Channel.Server\')'
            )
            assert (await jobs.get(9))[Atom("event")] == b"cancel"

            # A dispatcher that is not loaded ends the worker of a node with a subscriber. So it is refused.
            there = collector(plain, "MyApp.PubSub", "orders")
            worker = "whereis('Elixir.MyApp.PubSub.Adapter')"
            before = plain.eval(worker)
            with pytest.raises(ValueError, match="allow_dispatcher=True"):
                await pubsub.broadcast("orders", 1, dispatcher="MyApp.Dispatcher")
            await pubsub.broadcast("orders", 2)
            await wait_until_async(lambda: collected(plain, there) == [2])
            assert plain.eval(worker) == before
            await pubsub.broadcast("orders", 3, dispatcher="MyApp.Dispatcher", allow_dispatcher=True)
            await wait_until_async(lambda: plain.eval(worker) not in (before, Atom("undefined")))
            members = f"lists:member({worker}, pg:get_members('Elixir.Phoenix.PubSub', 'Elixir.MyApp.PubSub.Adapter'))"
            await wait_until_async(lambda: plain.eval(members))
            await wait_until_async(lambda: before not in pubsub.adapter._book._groups)
            assert await pubsub.ready()
            await pubsub.direct_broadcast(plain.name, "orders", 4)
            await wait_until_async(lambda: collected(plain, there) == [2, 4])

            # A direct broadcast from Elixir, and one that leaves out its sender.
            orders = pubsub.subscribe("orders")
            plain.eval("M:direct_broadcast('socrates@127.0.0.1', 'Elixir.MyApp.PubSub', <<\"orders\">>, 5)")
            assert await orders.get(9) == 5
            await pubsub.broadcast_from(orders, "orders", 6)
            await wait_until_async(lambda: collected(plain, there) == [2, 4, 6])
            assert orders.waiting == 0

    run(main())


NAMES = ("plato", "zeno")


def python_member(cluster):
    python = cluster.pynode("socrates", join=[f"{name}@127.0.0.1" for name in NAMES])
    python.eval("import erlmesh.phoenix")
    python.eval("P = erlmesh.phoenix.PubSub(node, 'MyApp.PubSub'); await P.start(); S = P.subscribe('t')")
    return python


def pubsub_node(cluster, name, pool_size=4):
    return elixir_node(cluster, name, None, ("MyApp.PubSub", pool_size, "2.1.1"))


@pytest.mark.parametrize("restarted", ["rolling", "python", "all of Elixir", "all", "other pool size"])
def test_after_a_restart_of_either_side_messages_arrive_again(cluster, restarted):
    beams = [pubsub_node(cluster, name) for name in NAMES]
    assert beams[0].ping(beams[1].name)
    python = python_member(cluster)
    wait_until(lambda: len(python.eval("P.nodes()")) == 2)

    if restarted in ("rolling", "other pool size"):  # one after the other, as a deployment does
        for number, name in enumerate(NAMES):
            beams[number].kill()
            wait_until(lambda: python.eval("len(P.nodes())") == 1)
            beams[number] = pubsub_node(cluster, name, 4 if restarted == "rolling" else 2 - number)
            wait_until(lambda: python.eval("len(P.nodes())") == 2)
    if restarted in ("all of Elixir", "all"):
        for beam in beams:
            beam.kill()
        wait_until(lambda: python.eval("P.nodes()") == [])
    if restarted in ("python", "all"):
        python.kill()
    if restarted == "python":
        wait_until(lambda: [beam.nodes() & {"socrates@127.0.0.1"} for beam in beams] == [set(), set()])
        python = python_member(cluster)
    if restarted == "all":
        python = python_member(cluster)  # the first one again; it finds nobody yet
    if restarted in ("all of Elixir", "all"):
        beams = [pubsub_node(cluster, name) for name in NAMES]
    wait_until(lambda: len(python.eval("P.nodes()")) == 2)
    wait_until(lambda: len(beams[0].nodes()) == 2)  # Python introduces the new ones to each other
    assert python.eval("await P.ready()")
    there = [collector(beam, "MyApp.PubSub", "t") for beam in beams]

    python.eval("for number in range(100): await P.broadcast('t', number)")
    for beam, pid in zip(beams, there, strict=True):
        wait_until(lambda: collected(beam, pid) == [*range(100)])  # noqa: B023
    assert python.eval("[await S.get(9) for _ in range(100)]") == [*range(100)]
    for beam in beams:
        beam.eval("M:count('Elixir.MyApp.PubSub', <<\"t\">>, 40, many_senders)")
        assert sorted(python.eval("[await S.get(9) for _ in range(40)]")) == [*range(1, 41)]


def test_a_guest_subscribes_on_an_elixir_node_and_delays_nobody(cluster, otp):
    beams = [elixir_node(cluster, name, otp, ("MyApp.PubSub", 4, "2.1.1")) for name in ("plato", "zeno")]
    plato, zeno = beams
    subscribers = "'Elixir.Registry':count('Elixir.MyApp.PubSub')"

    async def main():
        peers = [beam.name for beam in beams]
        async with Node("socrates@127.0.0.1", cookie="monster", hidden=True) as node:
            async with PubSubGuest(node, peers, "MyApp.PubSub") as guest:
                orders = await guest.subscribe("orders")
                assert plato.eval(subscribers) == 1
                there = collector(plato, "MyApp.PubSub", "orders")
                await plato.eval_async("M:count('Elixir.MyApp.PubSub', <<\"orders\">>, 10000, one_sender)")
                assert await received(orders, 10_000) == [*range(1, 10_001)]
                await guest.broadcast("orders", b"from the guest")
                await guest.broadcast_from(orders, "orders", b"not to itself")
                assert await orders.get(9) == b"from the guest"
                assert collected(plato, there)[-2:] == [b"from the guest", b"not to itself"]

                # This blocks the event loop of the guest until plato has sent everything.
                few = await guest.subscribe("few", limit=50)
                plato.eval("Big = binary:copy(<<7>>, 32768)")
                for topic in (b"orders", b"few", b"nobody"):
                    plato.eval("[M:broadcast('Elixir.MyApp.PubSub', T__, Big) || _ <- lists:seq(1, 300)]", T__=topic)
                assert [len(each) for each in await received(orders, 300)] == [32768] * 300
                await wait_until_async(lambda: few.waiting + few.dropped == 300)
                few.close()
                await wait_until_async(lambda: plato.eval(subscribers) == 2)

                plato.kill()
                assert await orders.get(15) == Gap(plato.name, zeno.name)
                assert guest.peer == zeno.name
                zeno.eval("M:broadcast('Elixir.MyApp.PubSub', <<\"orders\">>, again)")
                assert await orders.get(9) is Atom("again")
                with pytest.raises(PubSubError, match=r"zeno@127\.0\.0\.1 has no PubSub Other"):
                    await PubSubGuest(node, zeno.name, "Other").broadcast("t", 1)
            await wait_until_async(lambda: zeno.eval(subscribers) == 0)

    run(main())


def test_a_killed_guest_leaves_nothing_on_the_elixir_node(cluster):
    plato = elixir_node(cluster, "plato", None, ("MyApp.PubSub", 1, "2.1.1"))
    python = cluster.pynode("socrates")
    python.eval("from erlmesh.phoenix import PubSubGuest")
    python.eval("G = PubSubGuest(node, PEER, 'MyApp.PubSub'); await G.start()", PEER=plato.name)
    python.eval("S = [await G.subscribe(f't{number}') for number in range(5)]")
    assert plato.eval("'Elixir.Registry':count('Elixir.MyApp.PubSub')") == 5
    processes = plato.eval("erlang:system_info(process_count)")

    python.kill()

    wait_until(lambda: plato.eval("'Elixir.Registry':count('Elixir.MyApp.PubSub')") == 0)
    assert plato.eval("erlang:system_info(process_count)") <= processes - 5
