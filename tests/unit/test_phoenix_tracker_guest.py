"""erlmesh.phoenix.TrackerGuest on simulated clusters, with scripted shards in place of Elixir's."""

import asyncio

import pytest

from erlmesh import Atom, GenServer, Map
from erlmesh.core.phash2 import phash2
from erlmesh.phoenix import TrackerError, TrackerGuest

NAME = "MyApp.Presence"


class Shard(GenServer):
    """Tracks as a shard of Phoenix.Tracker does: it links itself with each process."""

    def init(self, entries):
        self.me.trap_exit = True
        self.entries = entries
        self.refs = 0

    def handle_call(self, request, caller):
        match request:
            case (Atom("track"), pid, topic, key, meta):
                self.me.link(pid)
            case (Atom("update"), pid, topic, key, meta) if (pid, topic, key) in self.entries:
                pass
            case _:
                return (Atom("error"), Atom("nopresence"))
        self.entries[pid, topic, key] = meta
        self.refs += 1
        return (Atom("ok"), b"ref %d" % self.refs)

    def handle_info(self, message):
        match message:
            case (Atom("EXIT"), pid, _):
                for each in [each for each in self.entries if each[0] == pid]:
                    del self.entries[each]


async def shards(mesh, node, size):
    """Start a pool of shards on a node. Return the entries of each."""
    found = [{} for _ in range(size)]
    for number, entries in enumerate(found):
        name = f"Elixir.{NAME}_shard{number}"
        await mesh.run_on(node, lambda entries=entries, name=name: Shard.start(node, entries, name=name))
    node.expose(lambda name: node.whereis(name) or Atom("undefined"), as_="erlang", name="whereis")
    return found


def worker(node):
    return node.spawn_handler(lambda _: None)


def shown(*pools):
    return [sorted(key for entries in pool for _, _, key in entries) for pool in pools]


async def test_process_is_tracked_in_the_shard_of_its_topic_until_it_ends(cluster):
    mesh = await cluster(2)
    here, there = mesh
    pool = await shards(mesh, there, 4)

    async def scene():
        async with TrackerGuest(here, there.name, NAME) as guest:
            processes = [worker(here) for _ in range(8)]
            for number, process in enumerate(processes):
                assert await guest.track(process, f"topic {number}", "k", {"n": number})
            for number in range(8):
                entries = pool[phash2(f"topic {number}", 4)]
                assert [meta for (_, topic, _), meta in entries.items() if topic == b"topic %d" % number] == [
                    Map({b"n": number})
                ]
            processes[0].stop()
            await mesh.wait_until(lambda: sum(map(len, pool)) == 7)
            await guest.untrack(processes[1])
            await guest.untrack(processes[2], "topic 2", "k")
            await guest.untrack(processes[2], "topic 2", "k")
            await mesh.wait_until(lambda: sum(map(len, pool)) == 5)
            assert processes[1].alive

    await mesh.run_on(here, scene)
    await mesh.wait_until(lambda: not any(pool))


async def test_update_and_wrong_arguments(cluster):
    mesh = await cluster(2)
    here, there = mesh
    (entries,) = await shards(mesh, there, 1)

    async def scene():
        async with TrackerGuest(here, there.name, NAME) as guest:
            process = worker(here)
            assert await guest.track(process, "t", "k", {"n": 1}) == b"ref 1"
            assert await guest.update(process, "t", "k", {"n": 2}) == b"ref 2"
            assert [*entries.values()] == [Map({b"n": 2})]
            with pytest.raises(ValueError, match="use update"):
                await guest.track(process, "t", "k", {})
            with pytest.raises(KeyError, match="use track"):
                await guest.update(process, "t", "other", {})
            with pytest.raises(ValueError, match="any_key"):
                await guest.track(process, "t", (1, 2), {})
            with pytest.raises(TypeError):
                await guest.untrack(process, "t")

    await mesh.run_on(here, scene)


async def test_lost_node_or_shard_costs_no_process_and_another_node_takes_over(cluster):
    mesh = await cluster(3)
    here, first, second = mesh
    one, two = await shards(mesh, first, 1), await shards(mesh, second, 2)

    async def scene():
        async with TrackerGuest(here, [first.name, second.name], NAME) as guest:
            processes = [worker(here) for _ in range(3)]
            for number, process in enumerate(processes):
                await guest.track(process, "t", number, {})
            assert shown(one, two) == [[0, 1, 2], []]

            first.exit(first.whereis(f"Elixir.{NAME}_shard0"), Atom("kill"))
            await mesh.wait_until(lambda: shown(two) == [[0, 1, 2]])
            assert guest.peer == second.name

            one[:] = await shards(mesh, first, 1)
            mesh.kill(second)
            await mesh.wait_until(lambda: shown(one) == [[0, 1, 2]])
            assert all(process.alive for process in processes)

    await mesh.run_on(here, scene)


@pytest.mark.parametrize("reason", ["kill", "boom"])
async def test_no_exit_signal_costs_a_process_its_presence(cluster, reason):
    mesh = await cluster(2)
    here, there = mesh
    (entries,) = await shards(mesh, there, 1)

    async def scene():
        async with TrackerGuest(here, there.name, NAME) as guest:
            process = worker(here)
            await guest.track(process, "t", "k", {"n": 1})
            (tracked,) = guest._tracked.values()
            for _ in range(2):
                before = tracked.stand_in.pid
                there.exit(before, Atom(reason))
                await asyncio.sleep(2)
                assert [pid for pid, _, _ in entries] == [tracked.stand_in.pid]
                mover = guest._mover
                there.exit(mover, Atom(reason))
                await asyncio.sleep(2)
                assert guest._mover != mover
            await guest.update(process, "t", "k", {"n": 2})
        await asyncio.sleep(2)
        assert not entries
        assert not here.internals.is_monitored(process.pid)

    await mesh.run_on(here, scene)


async def test_process_that_is_tracked_while_others_move_is_tracked_once(cluster):
    mesh = await cluster(2)
    here, there = mesh
    (entries,) = await shards(mesh, there, 1)

    async def scene():
        async with TrackerGuest(here, there.name, NAME) as guest:
            first, second = worker(here), worker(here)
            await guest.track(first, "t", "k", {})
            (tracked,) = guest._tracked.values()
            there.exit(tracked.stand_in.pid, Atom("kill"))
            await guest.track(second, "t", "l", {})
            await asyncio.sleep(2)
            assert shown([entries]) == [[b"k", b"l"]]

    await mesh.run_on(here, scene)


async def test_no_node_with_the_tracker_is_said(cluster):
    mesh = await cluster(2)
    here, there = mesh
    there.expose(lambda _: Atom("undefined"), as_="erlang", name="whereis")

    async def scene():
        guest = TrackerGuest(here, [there.name, "absent@10.0.0.9"], NAME)
        with pytest.raises(TrackerError, match="not started"):
            await guest.track(worker(here), "t", "k", {})
        async with guest:
            with pytest.raises(TrackerError, match="no such Tracker"):
                await guest.track(worker(here), "t", "k", {})
            with pytest.raises(TrackerError, match=r"no node has the Tracker MyApp\.Presence"):
                await guest.list("t")
            assert guest._tracked == {}

    await mesh.run_on(here, scene)
