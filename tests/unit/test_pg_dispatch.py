"""Addressing a group instead of a process: publish, pick, multi_call, watch."""

import asyncio
import random

import pytest

from erlmesh import Atom, Exit, Node
from erlmesh.core import gen
from erlmesh.services.pg.dispatch import Membership, Picker
from erlmesh.services.pg.server import Joined, Left
from erlmesh.terms import Pid

HERE = Atom("a@h")
ONE, TWO, THREE = (Pid(HERE, number, 0, 1) for number in (1, 2, 3))


def test_pick_prefers_local_members():
    picker = Picker(random.Random(1))

    assert {picker.pick("g", "local", [ONE, TWO], [TWO]) for _ in range(20)} == {TWO}
    assert {picker.pick("g", "local", [ONE, TWO], []) for _ in range(50)} == {ONE, TWO}
    assert {picker.pick("g", "random", [ONE, TWO], [TWO]) for _ in range(50)} == {ONE, TWO}


def test_round_robin_cycles_through_the_members_of_each_group():
    picker = Picker(random.Random(1))

    turns = [picker.pick("g", "round_robin", [THREE, TWO, ONE], []) for _ in range(6)]

    assert turns == [ONE, TWO, THREE] * 2
    assert picker.pick("other", "round_robin", [TWO, ONE], []) == ONE
    assert picker.pick("g", "round_robin", [], []) is None


def test_pick_returns_none_for_an_empty_group_and_refuses_unknown_strategies():
    picker = Picker(random.Random(1))

    assert picker.pick("g", "local", [], []) is None
    assert picker.pick("g", "random", [], []) is None
    with pytest.raises(ValueError, match="round_robin"):
        picker.pick("g", "best", [ONE], [])


def pair(free_port, body):
    """Run ``body(a, b)`` with two real nodes that are connected."""

    async def main():
        from erlmesh import Epmd

        async with (
            Node("a@127.0.0.1", cookie="c", epmd=Epmd(free_port), seed=1) as a,
            Node("b@127.0.0.1", cookie="c", epmd=Epmd(free_port), seed=2) as b,
        ):
            assert await a.ping(b.name)
            async with asyncio.timeout(20):
                await body(a, b)

    asyncio.run(main())


async def wait_until(condition):
    while not condition():
        await asyncio.sleep(0)


async def member(me, answer="pong"):
    me.node.pg.join("g", me.pid)
    async for message in me:
        match message:
            case (gen.GEN_CALL, caller, Atom("die")):
                raise Exit((Atom("requested"), 1))
            case (gen.GEN_CALL, caller, Atom("mute")):
                pass
            case (gen.GEN_CALL, caller, _):
                me.reply(caller, answer)
            case (Atom("end"), reason):
                raise Exit(reason)
            case _:
                me.node.last_seen.append((me.pid, message))


def test_publish_sends_once_to_each_process(free_port):
    async def body(a, b):
        a.last_seen, b.last_seen = [], []
        one, two = a.spawn(member), b.spawn(member)
        b.pg.join("g", two)
        await wait_until(lambda: len(a.pg.get_members("g")) == 3)

        assert a.pg.publish("g", (Atom("tick"), 7)) == 2

        await wait_until(lambda: a.last_seen and b.last_seen)
        assert (a.last_seen, b.last_seen) == ([(one, (Atom("tick"), 7))], [(two, (Atom("tick"), 7))])

    pair(free_port, body)


def test_multi_call_returns_replies_and_reasons_of_missing_members(free_port):
    async def body(a, b):
        one, two = a.spawn(member, "one"), b.spawn(member, "two")
        await wait_until(lambda: len(a.pg.get_members("g")) == 2)

        answers = await a.pg.multi_call("g", Atom("hello"))
        assert (answers.replies, answers.missing) == ({one: b"one", two: b"two"}, {})
        answers = await a.pg.multi_call("g", Atom("mute"), timeout=0.02)
        assert (answers.replies, answers.missing) == ({}, {one: Atom("timeout"), two: Atom("timeout")})
        answers = await a.pg.multi_call("g", Atom("die"))
        assert (answers.replies, answers.missing) == ({}, dict.fromkeys((one, two), (Atom("requested"), 1)))
        assert (await a.pg.multi_call("g", Atom("hello"))).replies == {}

    pair(free_port, body)


def test_snapshot_does_not_change(free_port):
    async def body(a, b):
        two = b.spawn(member)
        await wait_until(lambda: a.pg.get_members("g"))
        view = a.pg.snapshot("g")

        b.exit(two, Atom("kill"))

        await wait_until(lambda: not a.pg.get_members("g"))
        assert view == Membership("g", (two,), ())
        assert a.pg.snapshot("g") == Membership("g", (), ())

    pair(free_port, body)


def test_watch_reports_the_exit_reason_of_a_remote_member(free_port):
    async def body(a, b):
        changes = a.pg.watch("g")
        early = b.spawn(member)
        assert await anext(changes) == Joined((early,), b"g")
        late = a.pg.watch("g")
        assert await a.ping(b.name)  # after the monitors on the same connection

        b.send(early, (Atom("end"), (Atom("tired"), 3)))

        assert await anext(changes) == await anext(late) == Left((early,), (Atom("tired"), 3), b"g")
        leaver = b.spawn(member)
        assert await anext(changes) == Joined((leaver,), b"g")
        b.pg.leave("g", leaver)
        assert await anext(changes) == Left((leaver,), Atom("leave"), b"g")
        b.pg.join("g", leaver)
        assert await anext(changes) == Joined((leaver,), b"g")
        a.disconnect(b.name)
        assert await anext(changes) == Left((leaver,), Atom("disconnect"), b"g")

    pair(free_port, body)


def test_watch_reports_the_disconnect_reason_of_a_lost_node(free_port):
    async def body(a, b):
        changes = a.pg.watch("g")
        pid = b.spawn(member)
        assert await anext(changes) == Joined((pid,), b"g")

        b.disconnect(a.name)

        assert await anext(changes) == Left((pid,), Atom("connection_closed"), b"g")

    pair(free_port, body)
