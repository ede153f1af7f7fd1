"""An Elixir source and an Elixir sink, with Python nodes between them. One of those is killed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from polling import wait_until
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(180), pytest.mark.otps(25, 29)]

ELIXIR = Path(__file__).parents[2] / "examples/cep/elixir"
COUNT = 3_000
STORY = """
defmodule Story do
  def start() do
    {:ok, _} = :pg.start(:pg)
    spawn(fn ->
      :ets.new(:results, [:public, :named_table, :duplicate_bag])
      {:ok, _} = Sink.start_link("sinks", fn key, result -> :ets.insert(:results, {key, result}) end)
      {:ok, source} = Source.start_link("ticks", {:group, "workers", "ticks"})
      {:ok, sharded} = Source.start_link("ticks", {:shards, "sums", 16})
      Process.register(source, :source)
      Process.register(sharded, :sharded)
      Process.sleep(:infinity)
    end)
  end

  def put(source, first, last) do
    spawn(fn -> for n <- first..last, do: Source.put(source, "key #{rem(n, 10)}", n) end)
  end
end
"""
WORKER = '''
from erlmesh.sharding import Delivery

async def work(me):
    """Send a result to the sinks, and acknowledge the message when they have got it."""
    waiting: dict[object, Delivery] = {}

    async def take(inbox):
        async for delivery in inbox:
            waiting[delivery.source, delivery.key, delivery.number] = delivery
            out = (Atom("shard_out"), "ticks", delivery.key, delivery.source, delivery.number, delivery.message)
            for sink in node.pg.get_members("sinks"):
                me.send(sink, (*out, me.pid))

    async with node.inbox("ticks", group="workers") as inbox:
        globals()["taking"] = asyncio.create_task(take(inbox))
        async for _, _, key, source, number in me:
            if (delivery := waiting.pop((source, key, number), None)) is not None:
                delivery.done()

node.spawn(work)
'''


@pytest.fixture
def beam(cluster, otp):
    beam = cluster.beam("plato", otp=otp, arguments=elixir_path(otp))
    for source in ((ELIXIR / "source.exs").read_text(), (ELIXIR / "sink.exs").read_text(), STORY):
        beam.eval(COMPILE, Source=source.encode())
    beam.eval("'Elixir.Story':start()")
    return beam


def test_each_result_is_counted_once_although_a_holder_is_killed(cluster, beam):
    holders = [cluster.pynode(name) for name in ("socrates", "aristotle")]
    for holder in holders:
        holder.eval(WORKER)
        assert holder.ping(beam.name)
    wait_until(lambda: beam.eval('length(pg:get_members(<<"workers">>))') == 2)

    beam.eval("'Elixir.Story':put(source, 1, Count)", Count=COUNT)
    wait_until(lambda: beam.eval("ets:info(results, size)") > COUNT // 4)
    holders[0].kill()
    wait_until(lambda: beam.eval("'Elixir.Source':kept(source)") == 0 and counted(beam) >= COUNT, 60)

    results = beam.eval("[Result || {_, Result} <- ets:tab2list(results)]")
    assert sorted(results) == list(range(1, COUNT + 1))


def counted(beam):
    return beam.eval("ets:info(results, size)")


KEEPER = """
class Sums:
    all_or_nothing = True

    def new(self, key):
        return [0, 0]

    def apply(self, state, message, at):
        state[:] = state[0] + 1, state[1] + message
        return [tuple(state)]

    def merge(self, ours, theirs):
        return max(ours, theirs)

    def dump(self, state):
        return [tuple(state)]

    def load(self, pieces):
        return list(next(iter(pieces)))

async def keep():
    async with node.shards("sums", shards=16, settle=0.3, keeper=Sums(), results="sinks"):
        await asyncio.Event().wait()

globals()["keeping"] = asyncio.create_task(keep())
"""


def test_the_state_of_an_elixir_source_counts_each_message_once_although_a_holder_is_killed(cluster, beam):
    keepers = [cluster.pynode(name) for name in ("socrates", "aristotle", "zeno")]
    for keeper in keepers:
        assert keeper.ping(beam.name)
    for keeper in keepers:
        wait_until(lambda keeper=keeper: len(keeper.nodes()) == 3)
        keeper.eval(KEEPER)
    wait_until(lambda: beam.eval('length(pg:get_members({<<"erlmesh_shards">>, <<"sums">>}))') == 3)

    beam.eval("'Elixir.Story':put(sharded, 1, Count)", Count=COUNT)
    wait_until(lambda: counted(beam) > COUNT // 4, 60)
    keepers[0].kill()
    wait_until(lambda: beam.eval("'Elixir.Source':kept(sharded)") == 0 and counted(beam) >= COUNT, 60)

    results = beam.eval("ets:tab2list(results)")
    expected = []
    for key in range(10):
        numbers = range(key or 10, COUNT + 1, 10)
        sums = [(count, sum(numbers[:count])) for count in range(1, len(numbers) + 1)]
        expected += [(f"key {key}".encode(), [each]) for each in sums]
    assert sorted(results) == sorted(expected)


def test_an_elixir_source_goes_on_when_its_holder_misses_numbers_or_refuses(cluster, beam):
    holder = cluster.pynode("socrates")
    holder.eval(
        """
async def work():
    global inbox, got
    got = []
    async with node.inbox("ticks", group="workers") as inbox:
        async for delivery in inbox:
            got.append((delivery.key, delivery.number))
            if delivery.message % 7 == 0:
                delivery.refuse("seven")
            else:
                delivery.done()

globals()["working"] = asyncio.create_task(work())
"""
    )
    assert holder.ping(beam.name)
    beam.eval("'Elixir.Story':put(source, 1, 100)")
    wait_until(lambda: len(holder.eval("got")) == 100)
    wait_until(lambda: beam.eval("'Elixir.Source':kept(source)") == 0)

    # It forgets some numbers, so that the next ones do not follow.
    holder.eval("[setattr(each, 'last', 3) for peer in inbox._book._nodes.values() for each in peer.entries.values()]")
    beam.eval("'Elixir.Story':put(source, 101, 200)")
    wait_until(lambda: beam.eval("'Elixir.Source':kept(source)") == 0)

    got = holder.eval("got")
    assert sorted(set(got)) == sorted((f"key {key}".encode(), number) for key in range(10) for number in range(1, 21))


def test_a_python_outbox_sends_to_an_elixir_process(cluster, beam):
    """The receiver is ten lines: it has no duplicates to drop here."""
    python = cluster.pynode("socrates")
    assert python.ping(beam.name)
    beam.eval(COMPILE, Source=RECEIVER.encode())
    beam.eval("'Elixir.Receiver':start()")
    wait_until(lambda: python.eval("len(node.pg.get_members('receivers'))") == 1)

    python.eval("globals().update(outbox=node.outbox('ticks', group='receivers'))")
    python.eval("[await outbox.put('x', n) for n in range(500)]", timeout=60)
    python.eval("await outbox.flushed(50)", timeout=60)

    assert beam.eval("ets:lookup_element(received, sum, 2)") == sum(range(500))
    assert python.eval("outbox.replays") == 0


RECEIVER = """
defmodule Receiver do
  def start() do
    spawn(fn ->
      :ets.new(:received, [:public, :named_table])
      :pg.join("receivers", self())
      loop(0)
    end)
  end

  defp loop(sum) do
    receive do
      {:shard_put, name, key, source, number, message, from} ->
        :ets.insert(:received, {:sum, sum + message})
        send(from, {:shard_ack, name, key, source, number})
        loop(sum + message)
    end
  end
end
"""
