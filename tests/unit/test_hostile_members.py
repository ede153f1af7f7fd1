"""A member sends malformed messages of GenStage, of servings and of Nx. They go on serving the others."""

from random import Random

import pytest

from erlmesh import Atom, ServingClient, serving
from erlmesh.gen_stage import Consumer, Producer
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

MESSAGES = 2_000
WORDS = [
    *("ok", "run", "stream", "cancel", "statistics", "subscribe", "ask", "nil", "undefined", "f", "u", "process"),
    *("max_demand", "min_demand", "partition", "get_state", "Elixir.Nx.Tensor", "Elixir.MyApp.Sizes", "normal"),
]
PRODUCER, CONSUMER, CALL, CAST, SYSTEM, DOWN = map(
    Atom, ("$gen_producer", "$gen_consumer", "$gen_call", "$gen_cast", "system", "DOWN")
)


class Hostile:
    """Makes messages: the shape of a protocol, with any terms in it."""

    def __init__(self, seed, me, pids):
        self.random, self.me, self.pids = Random(seed), me, pids

    def term(self, depth=0):
        choose = self.random.choice
        kind = self.random.randrange(9 if depth < 4 else 5)
        if kind == 0:
            return Atom(choose(WORDS))
        if kind == 1:
            return choose([0, 1, -1, 32, 10**9, 2**70, 1.5])
        if kind == 2:
            return self.random.randbytes(self.random.randrange(12))
        if kind == 3:
            return choose([self.me.pid, *self.pids])
        if kind == 4:
            return self.me.node.internals.make_ref()
        parts = [self.term(depth + 1) for _ in range(self.random.randrange(6))]
        return self.tensor(depth + 2) if kind == 8 else parts if kind == 7 else tuple(parts)

    def tensor(self, depth):
        backend = {Atom("__struct__"): Atom("Elixir.Nx.BinaryBackend"), Atom("state"): self.term(depth)}
        return {
            Atom("__struct__"): Atom("Elixir.Nx.Tensor"),
            Atom("data"): backend,
            **{Atom(name): self.term(depth) for name in ("type", "shape", "names", "vectorized_axes")},
        }

    def message(self):
        term, me = self.term, self.me
        request = self.random.choice(["subscribe", "ask", "cancel", "run", "stream"])
        operation = (Atom(request), *(term() for _ in range(2 if request == "subscribe" else 1)))
        return self.random.choice([
            (PRODUCER, (me.pid, term()), operation),
            (PRODUCER, term(), operation),
            (CONSUMER, (term(), term()), term()),
            (CALL, (me.pid, term()), operation),
            (CAST, operation),
            (SYSTEM, (me.pid, term()), Atom("get_state")),
            (DOWN, term(), Atom("process"), term(), term()),
            term(),
        ])  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_malformed_messages_of_a_member_end_no_stage_and_no_serving(seed):
    @serving(name="MyApp.Sizes", nx=True, wait=0)
    def sizes(inputs):
        return [len(each) if isinstance(each, bytes) else 0 for each in inputs]

    async def main():
        async with Cluster(seed) as cluster:
            here, there = await cluster.mesh(2)
            pid = await sizes.start(here)
            async with (
                Producer(here, range(1_000), name="numbers") as producer,
                Producer(there, range(100), name="theirs"),
                Consumer(here) as consumer,
                Consumer(there) as reader,
            ):
                consumer.subscribe(("theirs", there.name), max_demand=10, cancel="temporary")
                pids = here.internals.processes()
                before = set(here.internals.registered())

                async def attack(me):
                    hostile = Hostile(seed, me, pids)
                    for number in range(MESSAGES):
                        me.send(hostile.random.choice(pids), hostile.message())
                        if number % 100 == 0:
                            arguments = [hostile.term() for _ in range(2)] + [
                                Atom("Elixir.MyApp.Sizes"),
                                hostile.term(),
                            ]
                            await me.spawn_remote(
                                here.name, "Elixir.Nx.Serving", "__distributed_batched_run__", arguments
                            )

                await there.run(attack)
                await cluster.sleep(1)

                assert there.name in here.nodes()
                assert set(here.internals.registered()) >= before
                assert here.internals.is_alive(pid)
                assert await ServingClient(there, "MyApp.Sizes").run(b"abc") == 3
                reader.subscribe(("numbers", here.name), max_demand=10, cancel="transient")
                assert await anext(reader)
                assert producer.discarded == 0

    run(main)
