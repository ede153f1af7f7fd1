"""erlmesh.phoenix.PubSubGuest on simulated clusters. A Python node plays the Elixir node and its forwarders."""

import asyncio
from collections import Counter

import pytest

from erlmesh import Atom, Map
from erlmesh.core.log_rate import LogRate
from erlmesh.phoenix import Gap, PubSubError, PubSubGuest, SubscriptionOverflow
from erlmesh.phoenix.forwarder import SOURCE
from erlmesh.phoenix.inbox import peer_log

OK, ERROR, DOWN, UNSUBSCRIBE = (Atom(word) for word in ("ok", "error", "DOWN", "unsubscribe"))
SUBSCRIBED, FAILED, MESSAGE, DROPPED = (Atom(word) for word in ("subscribed", "failed", "message", "dropped"))
PLAIN = "Elixir.Phoenix.PubSub"


@pytest.fixture(autouse=True)
def _all_lines_are_logged(monkeypatch):
    """Earlier tests of this process have used up lines of the log."""
    monkeypatch.setattr(peer_log, "_rate", LogRate())


class ElixirNode:
    """Answers what a guest asks of an Elixir node with the PubSub ``MyApp.PubSub``."""

    def __init__(self, node):
        self.node = node
        self.topics = {}
        """The forwarders of each topic, each with its owner and its reference."""
        self.calls = []
        self.answers = True
        """False: a forwarder does not say that it has subscribed."""
        node.expose(self.scan, as_="erl_scan", name="string")
        node.expose(lambda tokens: (OK, [tokens]), as_="erl_parse", name="parse_exprs")
        node.expose(self.broadcast, as_=PLAIN, name="broadcast")
        node.internals.serve_spawn_request("erl_eval", "exprs", 2, self.forward)

    def scan(self, source):
        assert bytes(source).decode() == SOURCE
        return (OK, [Atom("tokens")], 1)

    def broadcast(self, name, topic, message, dispatcher):
        if name is not Atom("Elixir.MyApp.PubSub"):
            return (ERROR, Atom("no_such_group"))
        self.calls.append((topic, message, dispatcher))
        self.say(topic.decode(), message)
        return OK

    async def forward(self, me, forms, bindings):
        await asyncio.sleep(0)
        assert forms == [[Atom("tokens")]]
        assert [name.name for name, _ in bindings] == ["Limit", "Name", "Owner", "PubSub", "Ref", "Topic"]
        _, name, owner, _, ref, topic = (value for _, value in bindings)
        if name is not Atom("Elixir.MyApp.PubSub"):
            me.send(owner, (ref, FAILED, Atom("badarg")))
            return
        me.monitor(owner)
        forwarders = self.topics.setdefault(topic.decode(), {})
        forwarders[me.pid] = (owner, ref)
        while not self.answers:
            await asyncio.sleep(0.1)
        me.send(owner, (ref, SUBSCRIBED, me.pid))
        try:
            await me.receive(lambda message: message[0] is DOWN or message == (ref, UNSUBSCRIBE))
        finally:
            forwarders.pop(me.pid, None)

    def say(self, topic, *messages, kind=MESSAGE):
        for owner, ref in self.topics.get(topic, {}).values():
            for message in messages:
                self.node.send(owner, (ref, kind, message))

    def count(self):
        return sum(map(len, self.topics.values()))


async def guest_and(cluster, size, **options):
    """A started guest, and the Elixir nodes that it may use."""
    simulated = await cluster(size + 1)
    own, *others = simulated
    elixirs = [ElixirNode(node) for node in others]
    guest = PubSubGuest(own, [each.node.name for each in elixirs], "MyApp.PubSub", **options)
    await guest.start()
    return simulated, guest, elixirs


async def test_a_guest_gets_the_messages_of_its_topics_from_one_node(cluster):
    _, guest, (first, second) = await guest_and(cluster, 2)
    orders, numbers = await guest.subscribe("orders"), await guest.subscribe(b"numbers", type=int)

    first.say("orders", 1, Map({b"a": 1}))
    first.say("numbers", 2, b"not a number", 3)

    assert [await orders.get(5), await orders.get(5)] == [1, Map({b"a": 1})]
    assert [await numbers.get(5), await numbers.get(5)] == [2, 3]
    assert numbers.unconverted == 1
    assert (first.count(), second.count(), guest.peer) == (2, 0, first.node.name)
    orders.close()
    del numbers
    await asyncio.sleep(1)
    assert first.topics == {"orders": {}, "numbers": {}}
    assert not guest._subscriptions._places


async def test_a_guest_whose_node_is_lost_moves_and_tells_of_the_gap(cluster):
    simulated, guest, (first, second) = await guest_and(cluster, 2)
    orders = await guest.subscribe("orders", type=int)
    first.say("orders", 1)
    assert await orders.get(5) == 1

    simulated.kill(first.node)

    assert await orders.get(60) == Gap(first.node.name, second.node.name)
    second.say("orders", 2)
    assert await orders.get(5) == 2
    assert guest.peer == second.node.name


async def test_a_guest_waits_for_its_only_node(cluster):
    simulated, guest, (only,) = await guest_and(cluster, 1)
    orders = await guest.subscribe("orders")
    name = only.node.name

    simulated.kill(only.node)
    await asyncio.sleep(30)
    assert orders.waiting == 0
    (node,) = await simulated.start("b")
    only = ElixirNode(node)

    assert await orders.get(60) == Gap(name, name)
    only.say("orders", 1)
    assert await orders.get(5) == 1


async def test_a_forwarder_that_is_killed_is_replaced(cluster):
    _, guest, (first, second) = await guest_and(cluster, 2)
    orders = await guest.subscribe("orders")
    (forwarder,) = first.topics["orders"]

    first.node.exit(forwarder, Atom("kill"))

    assert await orders.get(5) == Gap(first.node.name, second.node.name)


async def test_a_node_without_the_pubsub_is_left_out(cluster):
    simulated = await cluster(3)
    own, plain, other = simulated
    elixir = ElixirNode(other)
    async with PubSubGuest(own, [plain.name, elixir.node.name], "MyApp.PubSub") as guest:
        orders = await guest.subscribe("orders")
        assert guest.peer == elixir.node.name
        elixir.say("orders", 1)
        assert await orders.get(5) == 1


async def test_a_guest_without_a_usable_node_says_why(cluster):
    simulated, _, (elixir,) = await guest_and(cluster, 1)
    own = next(iter(simulated))
    for peers, name, words in (
        ("nobody@10.0.0.77", "MyApp.PubSub", r"nobody@10\.0\.0\.77 cannot be used for the PubSub MyApp\.PubSub"),
        (elixir.node.name, "Other", r"has no PubSub Other, or it does not run: badarg"),
    ):
        async with PubSubGuest(own, peers, name) as guest:
            with pytest.raises(PubSubError, match=words):
                await guest.subscribe("orders")
            assert not guest._subscriptions._places
            with pytest.raises(PubSubError, match=r"can be reached|has no PubSub"):
                await guest.broadcast("orders", 1)
    with pytest.raises(RuntimeError, match="the guest is not started"):
        await PubSubGuest(own, elixir.node.name, "MyApp.PubSub").subscribe("orders")


async def test_a_forwarder_that_answers_too_late_ends(cluster):
    simulated, guest, (elixir,) = await guest_and(cluster, 1)
    elixir.answers = False

    with pytest.raises(PubSubError, match="did not answer in time"):
        await guest.subscribe("orders", timeout=2)
    assert elixir.count() == 1
    elixir.answers = True

    await simulated.wait_until(lambda: elixir.count() == 0)


async def test_a_move_that_takes_too_long_leaves_no_second_forwarder(cluster):
    simulated, guest, (first, second) = await guest_and(cluster, 2)
    orders = await guest.subscribe("t")
    second.answers = False
    simulated.kill(first.node)

    await asyncio.sleep(30)
    assert second.count() > 1
    second.answers = True

    assert await orders.get(60) == Gap(first.node.name, second.node.name)
    await simulated.wait_until(lambda: second.count() == 1)
    second.say("t", 1)
    assert await orders.get(5) == 1
    await asyncio.sleep(5)
    assert orders.waiting == 0


async def test_a_guest_that_stops_ends_its_forwarders_and_its_iterations(cluster):
    simulated, guest, (elixir,) = await guest_and(cluster, 1)
    ended = [await guest.subscribe("t"), await guest.subscribe("t")]
    tasks = [asyncio.ensure_future(anext(each, "the end")) for each in ended]
    await asyncio.sleep(0)

    await guest.stop()

    assert await asyncio.wait_for(asyncio.gather(*tasks), 5) == ["the end"] * 2
    await simulated.wait_until(lambda: elixir.count() == 0)


async def test_iterations_end_when_the_node_of_the_guest_stops(cluster, caplog):
    simulated, guest, (elixir,) = await guest_and(cluster, 1)
    ended = asyncio.ensure_future(anext(await guest.subscribe("t"), "the end"))
    await asyncio.sleep(0)

    await simulated.run_on(guest.node, guest.node.stop)

    assert await asyncio.wait_for(ended, 5) == "the end"
    await simulated.wait_until(lambda: elixir.count() == 0)
    assert caplog.text == ""


@pytest.mark.parametrize("delay", [0, 0.001, 0.01, 0.1, 1])
async def test_a_guest_that_stops_while_it_moves_says_nothing(cluster, caplog, delay):
    simulated, guest, (first, second) = await guest_and(cluster, 2)
    orders = await guest.subscribe("orders")
    second.answers = False
    simulated.kill(first.node)
    await asyncio.sleep(delay)
    await guest.stop()
    await asyncio.sleep(20)

    with pytest.raises(PubSubError, match="has ended"):
        await orders.get(5)
    assert "Traceback" not in caplog.text
    second.answers = True
    await asyncio.sleep(1)
    assert second.count() == 0
    await guest.start()
    assert (await guest.subscribe("orders")).topic == "orders"


async def test_messages_that_the_elixir_node_has_dropped_are_counted(cluster, caplog):
    _, guest, (elixir,) = await guest_and(cluster, 1)
    orders = await guest.subscribe("t", limit=2, overflow="fail")

    elixir.say("t", 40, kind=DROPPED)
    elixir.say("t", 1, 2, 3)
    await asyncio.sleep(1)

    assert [await orders.get(1), await orders.get(1), orders.dropped] == [1, 2, 41]
    with pytest.raises(SubscriptionOverflow):
        await orders.get(1)
    assert (guest.statistics.received, guest.statistics.dropped) == (3, 41)
    assert "40 dropped" in caplog.text


async def test_broadcasts_are_made_on_the_elixir_node(cluster):
    simulated, guest, (first, second) = await guest_and(cluster, 2)

    await guest.broadcast("t", {"a": None})
    await guest.broadcast_event("t", "progress", {"done": 1}, keys="atoms")
    simulated.kill(first.node)
    await simulated.wait_until(lambda: first.node.name not in guest.node.nodes())
    await guest.broadcast("t", 2)

    plain, event = (message for _, message, _ in first.calls)
    dispatchers = [dispatcher for _, _, dispatcher in first.calls]
    assert plain == Map({b"a": Atom("nil")})
    assert event[Atom("payload")] == Map({Atom("done"): 1})
    assert dispatchers == [Atom(PLAIN), Atom("Elixir.Phoenix.Channel.Server")]
    assert second.calls == [(b"t", 2, Atom(PLAIN))]
    with pytest.raises(ValueError, match="allow_dispatcher=True"):
        await guest.broadcast("t", 1, dispatcher="My.Dispatcher")


async def test_forged_and_malformed_messages_change_nothing(cluster, caplog):
    _, guest, (first, second) = await guest_and(cluster, 2)
    orders = await guest.subscribe("t")
    ((owner, ref),) = first.topics["t"].values()
    strange = guest.node.internals.make_ref()

    second.node.send(owner, (ref, MESSAGE, b"forged"))
    for message in (7, (), (ref,), (ref, MESSAGE), (ref, DROPPED, -1), (ref, DROPPED, b"x"), (ref, Atom("x"), 1)):
        first.node.send(owner, message)
    first.node.send(owner, (strange, MESSAGE, b"late"))
    first.say("t", b"right")

    assert await orders.get(5) == b"right"
    assert (orders.waiting, orders.dropped) == (0, 0)
    assert guest.statistics.malformed == 7
    assert Counter(caplog.text.split())["ignored"] == 1
