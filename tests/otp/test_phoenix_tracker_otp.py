"""erlmesh.phoenix.Tracker beside Elixir nodes, with a stand-in of Phoenix.Tracker that ends at malformed messages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from erlmesh import Atom, Node, a
from erlmesh.phoenix import PubSub, Tracker, TrackerGuest, TrackerSettings
from polling import run, wait_until_async
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(120), pytest.mark.otps(25, 27, 29)]
STAND_IN = (Path(__file__).parent / "phoenix_tracker.ex").read_bytes()
FAST = TrackerSettings(broadcast_period=0.1, max_silent_periods=2, down_period=2.0, permdown_period=4.0)
PRELUDE = """
    S = 'Elixir.MyTracker_shard0', G = 'Elixir.GenServer', K = fun(N) -> integer_to_binary(N) end,
    Sleeper = fun() -> spawn(fun() -> receive forever -> ok end end) end,
    Track = fun(N) -> P = Sleeper(), {ok, _} = G:call(S, {track, P, <<"lobby">>, K(N), #{n => N}}), P end, ok
"""


def elixir_node(cluster, name, otp):
    beam = cluster.beam(name, otp=otp, arguments=elixir_path(otp))
    beam.eval(COMPILE, Source=STAND_IN)
    beam.eval("'Elixir.StandIn.Tracker':start('Elixir.MyTracker', 100)")
    beam.eval(PRELUDE)
    return beam


def theirs(beam):
    return sorted((key, meta[a.phx_ref], pid) for _topic, key, pid, meta in beam.eval("G:call(S, list)"))


def ours(tracker):
    return sorted((each.key, each.ref, each.pid) for each in tracker.list("lobby"))


def equal(tracker, *beams, count):
    seen = ours(tracker)
    return len(seen) == count and all(theirs(beam) == seen for beam in beams)


def test_lists_are_equal_with_elixir_through_kills_restarts_and_stops(cluster, otp):
    first, second = (elixir_node(cluster, name, otp) for name in ("plato", "zeno"))
    assert first.ping(second.name)
    shards = [beam.eval("whereis(S)") for beam in (first, second)]
    first.eval("put(tracked, [Track(N) || N <- lists:seq(1, 100)]), ok")

    async def main():
        async with (
            Node("socrates@127.0.0.1", cookie="monster") as node,
            PubSub(node, "MyApp.PubSub") as pubsub,
        ):
            assert await node.connect(first.name)
            assert await pubsub.ready(10)
            async with Tracker(pubsub, "MyTracker", mode="read", settings=FAST) as reader:
                assert await reader.ready(10)
                assert len(ours(reader)) == 100
            async with Tracker(pubsub, "MyTracker", settings=FAST) as tracker:
                assert await tracker.ready(10)
                processes = [node.spawn_handler(lambda _: None) for _ in range(100)]
                for number, process in enumerate(processes):
                    tracker.track(process, "lobby", f"py{number}", {a.n: number})
                await wait_until_async(lambda: equal(tracker, first, second, count=200))

                first.eval("[exit(P, kill) || P <- lists:sublist(get(tracked), 50)], ok")
                for process in processes[:50]:
                    process.stop()
                tracker.update(processes[60], "lobby", "py60", {a.n: -1})
                await wait_until_async(lambda: equal(tracker, first, second, count=100))

                late = await asyncio.to_thread(elixir_node, cluster, "late", otp)
                assert await node.connect(late.name)
                await wait_until_async(lambda: equal(tracker, first, second, late, count=100))
                assert [beam.eval("whereis(S)") for beam in (first, second)] == shards  # none has ended

                second.eval("G:call(S, permdown)")
                first.kill()
                # The stand-in does not look for silent replicas; the Tracker does.
                await wait_until_async(lambda: len(ours(tracker)) == 50)
            await wait_until_async(lambda: not [key for key, *_ in theirs(late) if key.startswith(b"py")])

    run(main(), 100)


def test_guest_tracks_through_a_shard_and_moves_when_its_node_is_lost(cluster, otp):
    first, second = (elixir_node(cluster, name, otp) for name in ("plato", "zeno"))
    assert first.ping(second.name)

    async def main():
        async with (
            Node("socrates@127.0.0.1", cookie="monster") as node,
            TrackerGuest(node, [first.name, second.name], "MyTracker") as guest,
        ):
            process, other = (node.spawn_handler(lambda _: None) for _ in range(2))
            await guest.track(process, "lobby", "one", {a.n: 1})
            await guest.track(other, "lobby", "two", {a.n: 1})
            ref = await guest.update(process, "lobby", "one", {a.n: 2})

            assert {key: meta[a.n] for key, meta in await guest.list("lobby")} == {b"one": 2, b"two": 1}
            assert (await guest.grouped("lobby"))["one"]["metas"][0][a.phx_ref] == ref
            other.stop()
            await wait_until_async(lambda: [key for key, *_ in theirs(first)] == [b"one"])

            await wait_until_async(lambda: [key for key, *_ in theirs(second)] == [b"one"])

            first.kill()
            await wait_until_async(lambda: [key for key, *_ in theirs(second)] == [b"one", b"one"])  # one of `first`
            assert guest.peer == second.name
            assert process.alive
            process.stop()
            await wait_until_async(lambda: len(theirs(second)) == 1)

    run(main(), 60)


def test_malformed_message_ends_the_stand_in(cluster, otp):
    """So the tests above would notice one."""
    beam = elixir_node(cluster, "plato", otp)
    ends = """(fun() -> R = monitor(process, S), S ! Bad__, receive {'DOWN', R, _, _, {W, _}} -> W;
               {'DOWN', R, _, _, W} -> W after 9000 -> lives end end)()"""

    bad = (Atom("pub"), Atom("heartbeat"), (Atom("x@h"), 1), Atom("none"), ((Atom("x@h"), 1), {}))

    assert beam.eval(ends, Bad__=bad) is not Atom("lives")
