"""The keeper of examples/cep on simulated clusters: owners are killed, paused, cut off and stopped."""

import asyncio
from collections import defaultdict

import pytest
from cep import oracle
from cep.pattern import Pattern, down, up
from cep.processor import Averages, source_name
from cep.symbol import END, FINAL, MATCH, Settings
from cep.window import Tick, Timed

SETTINGS = Settings(Timed(500), Pattern("peak").next(up).times(3).next(down), lateness=100, idle=1_000_000)
SYMBOLS = [f"S{number}" for number in range(6)]
SHARDS = 8


class Trade:
    """Owners on a, b and c; a source and a sink on d."""

    def __init__(self, mesh):
        self.mesh = mesh
        self.shards = {}
        self.outboxes = {}
        self.ticks = defaultdict(list)
        self.finals = defaultdict(dict)
        self.matches = defaultdict(set)
        for name in "abc":
            mesh.node(name).spawn(self.own)
        mesh.node("d").spawn(self.collect)

    async def own(self, me):
        shards = me.node.shards("cep", shards=SHARDS, keeper=Averages(SETTINGS), results="results")
        self.shards[me.node.name[0]] = shards
        async with shards:
            async for _ in shards:
                pass

    async def collect(self, me):
        async with me.node.inbox("cep", group="results") as inbox:
            async for delivery in inbox:
                for result in delivery.message:
                    if result[0] is FINAL:
                        _, source, number, _, *mean = result
                        finals = self.finals[delivery.key.decode()]
                        finals[source, number] = max(
                            tuple(mean), finals.get((source, number), (0, 0)), key=lambda m: m[1]
                        )
                    elif result[0] is MATCH:
                        self.matches[delivery.key.decode()].add(tuple(Tick._make(row) for row in result[2]))
                delivery.done()

    def owners(self, of="d"):
        """The node that holds each symbol, as a node sees it."""
        shards = self.mesh.node(of).shards("cep", shards=SHARDS)
        holders = {symbol: shards.holder(symbol) for symbol in SYMBOLS}
        return {symbol: pid and pid.node.name[0] for symbol, pid in holders.items()}

    async def settle(self):
        """Wait until all owners know each other, and each symbol has one."""
        await self.mesh.wait_until(lambda: all(self.owners().values()))
        await self.mesh.sleep(2)

    async def send(self, count, start, of="d", symbols=SYMBOLS):
        """Send ticks from a node, one each 10 ms. Some are late."""
        node = self.mesh.node(of)
        if of not in self.outboxes:
            self.outboxes[of] = node.outbox("ticks", shards=node.shards("cep", shards=SHARDS))
        outbox = self.outboxes[of]

        async def body(_me):
            for position in range(count):
                for index, symbol in enumerate(symbols):
                    time = start + position * 10 - (position * 37 % 60 if position % 5 == 0 else 0)
                    price = 1_000 + (position * 7919 + index * 31) % 97
                    number = await outbox.put(symbol, (time, price))
                    self.ticks[symbol].append(Tick(time, source_name(outbox.source), number, price))
                await asyncio.sleep(0.01)

        node.spawn(body)
        goal = {symbol: len(self.ticks[symbol]) + count for symbol in symbols}
        return lambda: all(len(self.ticks[symbol]) >= goal[symbol] for symbol in symbols)

    async def finish(self):
        async def body(_me, outbox):
            for symbol, ticks in self.ticks.items():
                if any(tick.source == source_name(outbox.source) for tick in ticks):
                    await outbox.put(symbol, END)

        for name, outbox in self.outboxes.items():
            self.mesh.node(name).spawn(body, outbox)
        await self.mesh.wait_until(lambda: not any(outbox.kept for outbox in self.outboxes.values()))
        await self.mesh.sleep(1)

    def check(self):
        for symbol in SYMBOLS:
            assert self.finals[symbol] == oracle.final_means(self.ticks[symbol], SETTINGS.span)
            assert self.matches[symbol] == set(oracle.matches(self.ticks[symbol], SETTINGS.span, SETTINGS.pattern))


@pytest.fixture
def trade(cluster):
    async def start(seed):
        trade = Trade(await cluster(4, seed=seed, wire=True))
        await trade.settle()
        return trade

    return start


@pytest.mark.parametrize("act", ["kill", "pause", "long pause", "stop"])
async def test_no_result_is_lost_and_each_is_that_of_the_oracle(trade, act):
    trade = await trade(seed=3)
    mesh = trade.mesh
    victim = trade.owners()["S0"]
    sent = await trade.send(200, 1_000)
    await mesh.sleep(0.8)
    if act == "kill":
        mesh.kill(victim)
    elif act == "stop":
        await mesh.stop(victim)
    else:
        mesh.pause(victim)
        await mesh.sleep(3 if act == "pause" else 20)
        mesh.resume(victim)

    await mesh.wait_until(sent)
    if "pause" in act:
        await mesh.wait_until(mesh.is_complete)
    await trade.finish()

    trade.check()
    assert (trade.owners()["S0"] == victim) == ("pause" in act)


async def test_a_node_that_returns_gets_its_symbols_back_with_their_windows(trade):
    trade = await trade(seed=5)
    mesh = trade.mesh
    before = trade.owners()
    sent = await trade.send(300, 1_000)
    mesh.kill("b")
    await mesh.sleep(1)
    await mesh.start("b", join=["a@10.0.0.1"])
    mesh.node("b").spawn(trade.own)

    await mesh.wait_until(sent)
    await mesh.wait_until(lambda: trade.owners() == before)
    await trade.finish()

    trade.check()


async def test_after_a_cut_the_window_has_the_ticks_of_both_sides(trade):
    trade = await trade(seed=7)
    mesh = trade.mesh
    sent = [await trade.send(50, 1_000)]
    await mesh.wait_until(sent[0])
    mesh.partition(["a", "d"], ["b", "c"])
    await mesh.wait_until(lambda: set(trade.owners("d").values()) == {"a"})
    await mesh.wait_until(lambda: set(trade.owners("c").values()) <= {"b", "c"})
    sent = [await trade.send(20, 1_600), await trade.send(20, 1_605, of="c")]
    await mesh.wait_until(lambda: all(done() for done in sent))

    mesh.heal()
    await mesh.wait_until(mesh.is_complete)
    await mesh.sleep(5)
    await trade.finish()

    for symbol in SYMBOLS:
        (state,) = [found for shards in trade.shards.values() if (found := shards.state(symbol)) is not None]
        last = len(state.window) - 1
        window = [Tick._make(row) for row in state.window.rows(state.window.start(last))]
        assert window == oracle.window_at_end(trade.ticks[symbol], SETTINGS.span)
        assert set(trade.finals[symbol]) == {(tick.source, tick.number) for tick in trade.ticks[symbol]}


@pytest.mark.parametrize("seed", range(3))
async def test_ticks_on_their_way_at_a_cut_get_their_final_means(trade, seed):
    """Sources on both sides send all the time, so some ticks are not final when the cut comes."""
    trade = await trade(seed)
    mesh = trade.mesh
    sent = [
        await trade.send(900, 1_000, symbols=SYMBOLS[:3]),
        await trade.send(900, 1_000, of="c", symbols=SYMBOLS[3:]),
    ]
    await mesh.sleep(2)
    mesh.partition(["a", "b", "d"], ["c"])
    await mesh.sleep(14)

    mesh.heal()
    await mesh.wait_until(mesh.is_complete)
    await mesh.wait_until(lambda: all(done() for done in sent))
    await mesh.sleep(5)
    await trade.finish()

    for symbol in SYMBOLS:
        assert set(trade.finals[symbol]) == {(tick.source, tick.number) for tick in trade.ticks[symbol]}
