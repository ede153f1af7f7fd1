"""Outboxes and inboxes on simulated clusters."""

import asyncio
import logging

import pytest

from erlmesh import Atom, Map
from erlmesh.core.log_rate import LogRate
from erlmesh.core.sharding.inbox_book import InboxBook
from erlmesh.core.sharding.messages import ACK, GOT, OUT, PUT
from erlmesh.core.sharding.names import holders_group
from erlmesh.errors import EncodeError, Full, OutboxClosed
from erlmesh.services.sharding import inbox as inbox_module
from erlmesh.services.sharding import outbox as outbox_module
from erlmesh.sharding import Release


@pytest.fixture(autouse=True)
def _all_lines_are_logged(monkeypatch):
    """Earlier tests of this process have used up lines of the log."""
    for module in (outbox_module, inbox_module):
        monkeypatch.setattr(module.peer_log, "_rate", LogRate())


class Worker:
    """An inbox on a node. It does what it gets while ``works`` is true."""

    def __init__(self, mesh, node, name="ticks", *, works=True):
        self.got = []
        self.open = []
        self.works = works
        with mesh.machine(node):
            self.inbox = node.inbox(name, group="workers")
            self.inbox.start()
            self.task = asyncio.get_running_loop().create_task(self.run())

    async def run(self):
        async for delivery in self.inbox:
            self.got.append((delivery.key, delivery.number, delivery.message))
            if self.works:
                delivery.done()
            else:
                self.open.append(delivery)


def opened(mesh, node, **options):
    with mesh.machine(node):
        return node.outbox("ticks", group="workers", **options)


async def test_a_message_arrives_and_is_forgotten_when_it_is_done(cluster):
    mesh = await cluster(2)
    a, b = mesh
    worker, outbox = Worker(mesh, b), opened(mesh, a)
    await mesh.wait_until(lambda: a.pg.get_members("workers"))

    assert [await outbox.put("x", 1), await outbox.put(b"x", 2), await outbox.put("y", 1)] == [1, 2, 1]
    assert outbox.waiting() == {worker.inbox.pid: 3}
    await outbox.flushed()

    assert sorted(worker.got) == [(b"x", 1, 1), (b"x", 2, 2), (b"y", 1, 1)]
    assert outbox.waiting() == {}
    assert outbox.replays == 0


async def test_a_message_has_the_same_form_on_this_node_and_on_another(cluster):
    mesh = await cluster(2)
    for node in mesh:
        worker = Worker(mesh, node)
        outbox = opened(mesh, next(iter(mesh)))
        await mesh.wait_until(lambda: next(iter(mesh)).pg.get_members("workers"))

        await outbox.put("x", ("AAPL", {"a": 1}, True))
        await outbox.flushed()

        assert worker.got == [(b"x", 1, (b"AAPL", Map({b"a": 1}), True))]
        worker.inbox.close()
        await mesh.wait_until(lambda: not next(iter(mesh)).pg.get_members("workers"))


async def test_a_message_that_is_changed_after_put_arrives_as_it_was(cluster):
    mesh = await cluster(1)
    worker, outbox, message = Worker(mesh, *mesh), opened(mesh, *mesh), [1]
    worker.works = False

    await outbox.put("x", message)
    message.append(2)
    await mesh.wait_until(lambda: worker.got)

    assert worker.got == [(b"x", 1, [1])]


async def test_messages_wait_for_a_holder(cluster):
    mesh = await cluster(2)
    a, b = mesh
    outbox = opened(mesh, a)
    await outbox.put("x", 1)
    assert outbox.waiting() == {None: 1}

    worker = Worker(mesh, b)
    await outbox.flushed()

    assert worker.got == [(b"x", 1, 1)]


async def test_put_waits_when_the_credit_is_used_up(cluster):
    mesh = await cluster(2)
    a, b = mesh
    worker, outbox = Worker(mesh, b, works=False), opened(mesh, a, credit=2)
    await mesh.wait_until(lambda: a.pg.get_members("workers"))
    for number in range(2):
        await outbox.put("x", number)

    with pytest.raises(Full, match="2 messages are kept for <"):
        await outbox.put("y", 2, wait=False)
    waiting = [asyncio.ensure_future(outbox.put("y", number)) for number in range(3)]
    await mesh.sleep(1)
    assert not any(task.done() for task in waiting)
    waiting[0].cancel()
    worker.open[0].done()
    await mesh.wait_until(waiting[1].done)
    assert not waiting[2].done()
    worker.works = True
    for delivery in worker.open:
        delivery.done()
    await outbox.flushed()

    assert [await task for task in waiting[1:]] == [1, 2]
    assert worker.got == [(b"x", 1, 0), (b"x", 2, 1), (b"y", 1, 1), (b"y", 2, 2)]


async def test_a_put_that_is_cancelled_when_it_is_woken_lets_another_go_on(cluster):
    mesh = await cluster(1)
    (a,) = mesh
    worker, outbox = Worker(mesh, a, works=False), opened(mesh, a, credit=1)
    await outbox.put("x", 0)
    await mesh.wait_until(lambda: worker.open)
    waiting = [asyncio.ensure_future(outbox.put("x", number)) for number in range(2)]
    await asyncio.sleep(0)
    wake = outbox._wake_puts

    def wake_and_cancel(holder):
        wake(holder)
        waiting[0].cancel()

    outbox._wake_puts = wake_and_cancel
    worker.open.pop().done()
    await mesh.wait_until(waiting[1].done)

    assert waiting[0].cancelled()
    assert await waiting[1] == 2


@pytest.mark.parametrize("ends", ["close", "stop"])
async def test_what_waits_for_an_outbox_ends_with_it(cluster, caplog, ends):
    mesh = await cluster(1)
    (a,) = mesh
    outbox = opened(mesh, a, credit=1)
    await outbox.put("x", 1)
    waiting = [asyncio.ensure_future(work) for work in (outbox.put("x", 2), outbox.flushed())]
    await asyncio.sleep(0)

    if ends == "close":
        outbox.close()
    else:
        await mesh.run_on(a, a.stop)

    for task in waiting:
        with pytest.raises(OutboxClosed, match="the outbox ticks has ended"):
            await task
    with pytest.raises(OutboxClosed):
        await outbox.put("z", 1)
    assert "the outbox ticks ends with 1 messages that are not acknowledged" in caplog.text


async def test_an_inbox_ends_with_its_node(cluster):
    mesh = await cluster(1)
    (a,) = mesh
    worker = Worker(mesh, a)

    await mesh.run_on(a, a.stop)
    await worker.task

    assert worker.got == []


async def test_flushed_has_a_time_limit(cluster):
    mesh = await cluster(1)
    outbox = opened(mesh, *mesh)
    await outbox.flushed(0)  # Nothing is kept.
    await outbox.put("x", 1)

    with pytest.raises(TimeoutError):
        await outbox.flushed(1.0)


async def test_malformed_arguments_are_refused(cluster):
    mesh = await cluster(1)
    (a,) = mesh
    outbox = opened(mesh, a)

    with pytest.raises(ValueError, match=r"at most 65,536 bytes .* this one has 70,005"):
        await outbox.put("x", b"x" * 70_000)
    with pytest.raises(ValueError, match="a key has at most 1,024 bytes, not 2,000"):
        await outbox.put("x" * 2_000, 1)
    with pytest.raises(TypeError, match="a key is a str or bytes"):
        await outbox.put(7, 1)
    with pytest.raises(EncodeError):
        await outbox.put("x", object())
    assert outbox.kept == 0
    for credit in (0, 1.5, True, 100_000):
        with pytest.raises(ValueError, match="credit is a whole number from 1 to 65,536"):
            a.outbox("ticks", group="workers", credit=credit)
    for make in (a.outbox, a.inbox):
        with pytest.raises(TypeError, match="is a str or bytes, not Atom"):
            make(Atom("ticks"), group="workers")
        with pytest.raises(ValueError, match="has 1 to 255 bytes, not 0"):
            make("", group="workers")
    for wrong in (0, -1, "1", None, True, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="forget_after is a positive number of seconds"):
            a.inbox("ticks", group="workers", forget_after=wrong)
    with pytest.raises(TypeError, match="on_refused is a function of a refusal, not 5"):
        a.outbox("ticks", group="workers", on_refused=5)


async def test_an_inbox_starts_once(cluster):
    mesh = await cluster(1)
    (a,) = mesh
    inbox = a.inbox("ticks", group="workers")
    inbox.close()

    with pytest.raises(RuntimeError, match="is not started"):
        await anext(inbox)
    async with inbox:
        with pytest.raises(RuntimeError, match="starts once"):
            inbox.start()


async def test_a_refusal_reaches_the_source(cluster, caplog):
    mesh = await cluster(2)
    a, b = mesh
    refusals = []
    worker = Worker(mesh, b, works=False)
    outbox, quiet = opened(mesh, a, on_refused=refusals.append), opened(mesh, a)
    await mesh.wait_until(lambda: a.pg.get_members("workers"))
    await outbox.put("x", ("bad", 1))
    await quiet.put("x", 2)
    await mesh.wait_until(lambda: len(worker.open) == 2)

    with pytest.raises(EncodeError):
        worker.open[0].refuse(object())
    for delivery in worker.open:
        delivery.refuse("no")
        delivery.refuse("twice")
        delivery.done()
    await outbox.flushed()
    await quiet.flushed()

    (refusal,) = refusals
    assert (refusal.key, refusal.message, refusal.reason) == (b"x", (b"bad", 1), b"no")
    assert caplog.text.count("was refused") == 1


async def test_another_name_is_refused(cluster, caplog):
    mesh = await cluster(2)
    a, b = mesh
    Worker(mesh, b, "other")
    refusals = []
    outbox = opened(mesh, a, on_refused=refusals.append)

    await outbox.put("x", 1)
    await outbox.flushed()

    assert [each.reason for each in refusals] == [Atom("unknown_name")]
    assert "an inbox with the name" in caplog.text


async def test_a_lost_holder_is_replaced_and_each_message_arrives(cluster):
    mesh = await cluster(3, seed=3)
    a, b, c = mesh
    workers = {node.name: Worker(mesh, node) for node in (b, c)}
    outbox = opened(mesh, a, credit=8)
    await mesh.wait_until(lambda: len(a.pg.get_members("workers")) == 2)
    for number in range(100):
        await outbox.put(f"key {number % 5}", number)
        if number == 50:
            mesh.kill(b)
    await outbox.flushed()

    keys = {message: (key, number) for worker in workers.values() for key, number, message in worker.got}
    assert len(keys) == 100
    assert 0 < outbox.replays <= 8


async def test_a_member_that_closes_gives_away_what_is_not_done(cluster):
    mesh = await cluster(2)
    a, b = mesh
    first = Worker(mesh, b, works=False)
    outbox = opened(mesh, a)
    await outbox.put("x", 1)
    await mesh.wait_until(lambda: first.open)

    first.inbox.close()
    await mesh.wait_until(lambda: outbox.waiting() == {None: 1})
    second = Worker(mesh, a)
    await outbox.flushed()
    first.open[0].done()  # Too late: it has no effect.

    assert second.got == [(b"x", 1, 1)]


async def test_a_full_connection_holds_messages_back(cluster):
    mesh = await cluster(2, send_queue_limit=4_000_000)
    a, b = mesh
    worker, outbox = Worker(mesh, b), opened(mesh, a, credit=1_000)
    await mesh.wait_until(lambda: a.pg.get_members("workers"))
    mesh.pause(b)

    for _ in range(100):
        await outbox.put("x", b"x" * 60_000)
    await mesh.sleep(1)
    mesh.resume(b)
    await outbox.flushed()

    assert len(worker.got) == 100
    assert outbox.replays == 0


@pytest.mark.parametrize("receiver", [0, 1])
async def test_many_messages_are_sent_in_turns_of_the_event_loop(cluster, receiver):
    mesh = await cluster(2)
    a, _ = mesh
    outbox = opened(mesh, a, credit=10_000)
    for number in range(10_000):
        await outbox.put("x", number)
    counts, send_ready = [], outbox._sender.send_ready

    def sent():
        return sum(outbox._book.sent_to().values())

    def counted(holder):
        before = sent()
        send_ready(holder)
        counts.append(sent() - before)

    outbox._sender.send_ready = counted
    worker = Worker(mesh, list(mesh)[receiver], works=False)
    await mesh.wait_until(lambda: len(worker.got) == 10_000)

    assert max(counts) == 1_000
    for delivery in worker.open:
        delivery.done()
    await outbox.flushed()
    assert [message for _, _, message in worker.got] == list(range(10_000))


async def test_a_function_for_refusals_that_raises_holds_nothing_up(cluster, caplog):
    mesh = await cluster(1)
    (a,) = mesh
    worker = Worker(mesh, a, works=False)

    def fail(_):
        raise RuntimeError("a bug of the user")

    outbox = opened(mesh, a, credit=1, on_refused=fail)
    await outbox.put("x", 1)
    waiting = asyncio.ensure_future(outbox.put("x", 2))
    await mesh.wait_until(lambda: worker.open)
    worker.open[0].refuse("no")

    assert await waiting == 2
    assert "a bug of the user" in caplog.text


async def test_a_lost_answer_is_made_good_by_a_slow_probe(cluster):
    mesh = await cluster(2)
    a, b = mesh
    worker, outbox = Worker(mesh, b), opened(mesh, a)
    await mesh.wait_until(lambda: a.pg.get_members("workers"))
    send = worker.inbox._process.send
    worker.inbox._send_answers_really = worker.inbox._send_answers
    lost = []

    def lose_one():
        worker.inbox._answers_due = False
        lost.append(worker.inbox._book.take_answers())
        worker.inbox._send_answers = worker.inbox._send_answers_really

    worker.inbox._send_answers = lose_one
    before = asyncio.get_running_loop().time()

    await outbox.put("x", 1)
    await outbox.flushed()

    assert lost
    assert send is not None
    assert 10 <= asyncio.get_running_loop().time() - before <= 21
    assert len(worker.got) == 1
    assert outbox.replays == 1


async def test_results_are_counted_once_and_got_is_said_when_they_are_done(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    sink = Worker(mesh, a, works=False)
    source = (Atom("s@h"), 7, b"in")
    heard = {b: [], c: []}
    holders = {node: node.spawn_handler(heard[node].append) for node in (b, c)}
    for shard, node in enumerate(holders):
        node.pg.join(holders_group(b"ticks", shard), holders[node].pid)
    await mesh.wait_until(lambda: all(a.pg.get_members(holders_group(b"ticks", shard)) for shard in (0, 1)))
    out = lambda node, number: (OUT, "ticks", "x", source, number, ("r", number), holders[node].pid)  # noqa: E731
    got = lambda number: (GOT, b"ticks", b"x", source, number)  # noqa: E731

    holders[b].send(sink.inbox.pid, out(b, 5))
    holders[b].send(sink.inbox.pid, out(b, 3))
    await mesh.wait_until(lambda: len(sink.open) == 2)
    assert heard[b] == []
    sink.open[0].done()
    await mesh.wait_until(lambda: heard[b] == [got(5)])
    for number in (3, 5):  # The heir sends again: one is not done yet, the other one is.
        holders[c].send(sink.inbox.pid, out(c, number))
    await mesh.wait_until(lambda: heard[c] == [got(5)])
    sink.open[1].refuse("a result cannot be refused")
    await mesh.wait_until(lambda: heard[c] == [got(5), got(3)])

    assert [number for _, number, _ in sink.got] == [5, 3]
    assert sink.inbox.duplicates == 2


async def test_only_nodes_that_hold_shards_of_its_name_send_results_to_an_inbox(cluster, caplog):
    caplog.set_level(logging.WARNING)
    mesh = await cluster(3)
    a, b, c = mesh
    source = (Atom("s@h"), 7, b"in")
    heard = []
    holder, enemy = b.spawn_handler(heard.append), c.spawn_handler(lambda _: None)
    b.pg.join(holders_group(b"ticks", 3), holder.pid)
    for group in (holders_group(b"other", 3), (b"erlmesh_shards", b"ticks", True), (b"erlmesh_shards", b"ticks")):
        c.pg.join(group, enemy.pid)
    await mesh.wait_until(lambda: a.pg.get_members((b"erlmesh_shards", b"ticks")))
    sink = Worker(mesh, a)
    out = lambda process, number: (OUT, "ticks", "x", source, number, "r", process.pid)  # noqa: E731

    for number in (1, 1 << 62):  # The numbers before the second one would count as known.
        enemy.send(sink.inbox.pid, out(enemy, number))
    await mesh.sleep(0.1)
    assert "an inbox ignored a result: its node holds no shard" in caplog.text
    holder.send(sink.inbox.pid, out(holder, 1))
    await mesh.wait_until(lambda: heard == [(GOT, b"ticks", b"x", source, 1)])
    assert sink.got == [(b"x", 1, b"r")]


@pytest.mark.parametrize("is_local", [True, False])
async def test_the_last_results_of_a_holder_count_also_if_it_has_left(cluster, is_local):
    mesh = await cluster(2)
    a, b = mesh
    group, source, heard = holders_group(b"ticks", 3), (Atom("s@h"), 7, b"in"), []
    node = a if is_local else b
    holder = node.spawn_handler(heard.append)
    sink = Worker(mesh, a)
    out = lambda number: (OUT, b"ticks", b"x", source, number, "r", holder.pid)  # noqa: E731
    node.pg.join(group, holder.pid)
    await mesh.wait_until(lambda: a.pg.get_members(group))

    holder.send(sink.inbox.pid, out(1))
    node.pg.leave(group, holder.pid)
    holder.send(sink.inbox.pid, out(2))
    await mesh.wait_until(lambda: len(heard) == 2)

    assert [number for _, number, _ in sink.got] == [1, 2]


async def test_results_count_while_pg_starts_again_on_the_node_of_the_holder(cluster):
    mesh = await cluster(2)
    a, b = mesh
    group, source, heard = holders_group(b"ticks", 3), (Atom("s@h"), 7, b"in"), []
    holder = b.spawn_handler(heard.append)
    sink = Worker(mesh, a)
    b.pg.join(group, holder.pid)
    await mesh.wait_until(lambda: a.pg.get_members(group))

    b.exit(b.whereis("pg"), Atom("kill"))
    holder.send(sink.inbox.pid, (OUT, b"ticks", b"x", source, 1, "r", holder.pid))
    await mesh.wait_until(lambda: heard)

    assert heard == [(GOT, b"ticks", b"x", source, 1)]


async def test_a_node_that_comes_back_without_a_shard_sends_no_results(cluster, caplog):
    caplog.set_level(logging.WARNING)
    mesh = await cluster(2)
    a, b = mesh
    group, source, heard = holders_group(b"ticks", 3), (Atom("s@h"), 7, b"in"), []
    holder = b.spawn_handler(heard.append)
    sink = Worker(mesh, a)
    b.pg.join(group, holder.pid)
    await mesh.wait_until(lambda: a.pg.get_members(group))
    b.pg.leave(group, holder.pid)

    a.disconnect(b.name)
    await mesh.wait_until(lambda: not a.nodes())
    await a.ping(b.name)
    holder.send(sink.inbox.pid, (OUT, "ticks", "x", source, 1, "r", holder.pid))
    await mesh.wait_until(lambda: "its node holds no shard" in caplog.text)

    assert heard == []
    assert sink.got == []


async def test_forged_and_malformed_messages_are_ignored(cluster, caplog):
    caplog.set_level(logging.WARNING)
    mesh = await cluster(3)
    a, b, c = mesh
    worker, outbox = Worker(mesh, b), opened(mesh, a)
    await mesh.wait_until(lambda: a.pg.get_members("workers"))
    enemy, mine = c.spawn_handler(lambda _: None), (Atom(c.name), 1, b"o")
    await outbox.put("x", 1)
    await outbox.flushed()
    worker.works = False
    await outbox.put("x", 2)
    await mesh.wait_until(lambda: worker.open)

    put = (PUT, b"ticks", b"x", mine, 1, b"m", enemy.pid)
    forged = [
        (*put[:3], outbox.source, 3, b"m", enemy.pid),
        (*put[:6], outbox.pid),
        *[(*put[:at], bad, *put[at + 1 :]) for at in range(1, 7) if at != 5 for bad in (1.5, [], -1, "x" * 3_000)],
        (*put[:4], 1 << 63, b"m", enemy.pid),
        put[:6],
        (PUT,),
        (),
        b"junk",
        (Atom("nodedown"), Atom(a.name)),
    ]
    for message in forged:
        enemy.send(worker.inbox.pid, message)
    answers = [
        (ACK, b"ticks", b"x", outbox.source, 2),
        (ACK, b"ticks", b"x", mine, 2),
        (Atom("shard_refused"), b"ticks", b"x", outbox.source, 2),
        (ACK, b"ticks", b"x", outbox.source, -1),
        (ACK, b"ticks"),
        [],
    ]
    for message in answers:
        enemy.send(outbox.pid, message)
    await mesh.sleep(1)

    assert len(worker.got) == 2
    assert outbox.kept == 1
    assert 0 < len(caplog.records) < 20
    worker.open[0].done()
    await outbox.flushed()


async def test_the_numbers_of_a_lost_node_are_forgotten_after_some_time(cluster):
    mesh = await cluster(2)
    a, b = mesh
    with mesh.machine(b):
        inbox = b.inbox("ticks", group="workers", forget_after=60)
        inbox.start()
    outbox = opened(mesh, a)
    await outbox.put("x", 1)
    (await anext(inbox)).done()
    await outbox.flushed()

    mesh.kill(a)
    await mesh.sleep(50)
    assert len(inbox._book) == 1
    await mesh.sleep(30)

    assert len(inbox._book) == 0


class Holder:
    """A process that holds shards, and acknowledges what it gets for those."""

    def __init__(self, mesh, node):
        self.got = []
        self.book = InboxBook()
        self.node = node
        with mesh.machine(node):
            self.process = node.spawn(self.run)

    async def run(self, me):
        async with me.node.shards("cep", shards=8, settle=0.1, process=me) as self.shards:
            async for message in me:
                match message:
                    case (Atom("shards"), Release() as release):
                        release.done()
                    case (Atom("shard_put"), name, key, source, number, _, sender):
                        assert name == b"cep"
                        entry = self.book.put(source, key, number, sender)
                        if entry is not None:
                            self.got.append((key, number))
                            self.book.settle(entry, number)
                for to, *answer in self.book.take_answers():
                    tag, source, key, number, _ = answer
                    me.send(to, (tag, b"cep", key, source, number))


async def test_an_outbox_sends_to_the_holders_of_shards(cluster):
    mesh = await cluster(3)
    a, b, c = mesh
    holders = [Holder(mesh, node) for node in (b, c)]
    await mesh.wait_until(lambda: len(a.pg.get_members((b"erlmesh_shards", b"cep"))) == 2)
    await mesh.sleep(0.1)  # The one that came first has released what is not its own.
    with mesh.machine(a):
        outbox = a.outbox("ticks", shards=a.shards("cep", shards=8), credit=16)
    for number in range(100):
        await outbox.put(f"key {number % 20}", number)
        if number == 60:
            mesh.kill(b)
    await outbox.flushed()

    numbers = {f"key {key}".encode(): 5 for key in range(20)}
    got = [each for holder in holders for each in holder.got]
    assert {key: max(number for at, number in got if at == key) for key, _ in got} == numbers
    assert len(set(got)) == 100
    assert outbox.replays <= 16


async def test_an_outbox_has_a_group_or_shards(cluster):
    mesh = await cluster(1)
    (a,) = mesh

    for options in ({}, {"group": "workers", "shards": a.shards("cep")}):
        with pytest.raises(TypeError, match="pass group= or shards=, not both"):
            a.outbox("ticks", **options)
    for wrong in ("cep", 64, [a.shards("cep")]):
        with pytest.raises(TypeError, match=r"shards is what node.shards\(\) returns, not "):
            a.outbox("ticks", shards=wrong)


@pytest.mark.parametrize("how", ["stop", "node"])
async def test_an_inbox_that_stops_in_order_finishes_what_it_has_taken(cluster, how):
    mesh = await cluster(3)
    a, b, c = mesh
    first = Worker(mesh, b, works=False)
    outbox = opened(mesh, a, credit=8)
    for number in range(5):
        await outbox.put("x", number)
    await mesh.wait_until(lambda: len(first.open) == 5)

    stopping = asyncio.ensure_future(mesh.run_on(b, first.inbox.stop if how == "stop" else b.stop))
    await mesh.sleep(0.5)
    await outbox.put("x", 5)  # It is told to wait.
    assert outbox.waiting() == {first.inbox.pid: 6}
    for delivery in first.open:
        delivery.done()
    await mesh.wait_until(lambda: outbox.waiting() == {None: 1})
    second = Worker(mesh, c)
    await outbox.flushed()
    await mesh.wait_until(stopping.done)

    assert [message for _, _, message in first.got] == [0, 1, 2, 3, 4]
    assert [message for _, _, message in second.got] == [5]
    await first.task  # The iteration has ended.


async def test_an_inbox_whose_messages_are_never_done_costs_the_grace_of_its_node(cluster, caplog):
    mesh = await cluster(2)
    a, b = mesh
    worker = Worker(mesh, b, works=False)
    outbox = opened(mesh, a)
    await outbox.put("x", 1)
    await mesh.wait_until(lambda: worker.open)
    before = mesh.now()

    await mesh.run_on(b, lambda: b.stop(grace=3.0))

    assert 3.0 <= mesh.now() - before <= 4.0
    assert caplog.text.count("did not end in time") == 1
    assert outbox.waiting() == {None: 1}


async def test_a_result_that_is_not_done_is_waited_for(cluster):
    mesh = await cluster(2)
    a, b = mesh
    sink = Worker(mesh, a, works=False)
    heard, source = [], (Atom("s@h"), 7, b"in")
    holder = b.spawn_handler(heard.append)
    b.pg.join(holders_group(b"ticks", 0), holder.pid)
    await mesh.wait_until(lambda: a.pg.get_members(holders_group(b"ticks", 0)))
    for number in (1, 2):
        holder.send(sink.inbox.pid, (OUT, "ticks", "x", source, number, "r", holder.pid))
        await mesh.wait_until(lambda: sink.open)
        stopping = asyncio.ensure_future(mesh.run_on(a, sink.inbox.stop))
        await mesh.sleep(0.1)

    assert len(sink.open) == 1  # It takes no more.
    assert a.pg.get_members("workers") == [sink.inbox.pid]
    sink.open[0].done()
    await stopping

    assert a.pg.get_members("workers") == []
    await mesh.wait_until(lambda: heard == [(GOT, b"ticks", b"x", source, 1)])


async def test_an_inbox_without_a_start_stops_at_once(cluster):
    mesh = await cluster(1)
    (a,) = mesh

    await a.inbox("ticks", group="workers").stop()


ODD = [1.5, -1, 0, 1 << 64, True, b"", b"x" * 2_000, "x", Atom("x"), (), (1, 2, 3), [], [1], {}, {"a": 1}]


async def test_no_message_of_another_node_raises_in_an_outbox_or_an_inbox(cluster, caplog):
    caplog.set_level(logging.ERROR)
    mesh = await cluster(3)
    a, b, c = mesh
    worker, outbox = Worker(mesh, b), opened(mesh, a)
    enemy, enemy_source = c.spawn_handler(lambda _: None), (Atom(c.name), 1, b"o")
    c.pg.join(holders_group(b"ticks", 0), enemy.pid)
    await outbox.put("x", 1)
    await outbox.flushed()
    await outbox.put("x", 2)
    puts = [(tag, b"ticks", b"x", enemy_source, 1, b"m", enemy.pid) for tag in (PUT, OUT)]
    answers = [
        (Atom(tag), b"ticks", b"x", outbox.source, 1)
        for tag in ("shard_ack", "shard_wait", "shard_go", "shard_got", "shard_refused")
    ]
    answers.append((*answers[-1], b"why"))

    for receiver, messages in ((worker.inbox.pid, puts), (outbox.pid, answers)):
        for message in messages:
            enemy.send(receiver, message)
            enemy.send(receiver, message[:-1])
            enemy.send(receiver, (*message, 1))
            for at in range(len(message)):
                for odd in ODD:
                    enemy.send(receiver, (*message[:at], odd, *message[at + 1 :]))
            for at in range(3):
                for odd in ODD:
                    source = (*message[3][:at], odd, *message[3][at + 1 :])
                    enemy.send(receiver, (*message[:3], source, *message[4:]))
    await mesh.sleep(1)
    await outbox.flushed()

    assert caplog.records == []
    assert [number for key, number, _ in worker.got if key == b"x"].count(2) == 1
    assert len(worker.inbox._book) < 100
