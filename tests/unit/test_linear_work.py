"""The work for a message of another node grows like its length, for every kind of message that the services take.

Each kind is sent at two sizes, and the processor time of the whole simulated cluster is compared. Four times the size
takes about four times as long; a product of two lists takes sixteen times as long.
"""

import time

import pytest

from erlmesh.services.io_format import _to_base
from erlmesh.terms import Atom, Map, Pid
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run as run_loop

SIZE, FACTOR = 1000, 4
LIMIT = 9.0
"""Of the two times. It is between 4 and 16."""
TOO_SHORT = 0.02
"""Seconds: a message that is so cheap at the greater size need not be compared."""

SENDER = Atom("node1@127.0.0.1")
CAST, CALL, SYNC, JOIN, LEAVE = (Atom(word) for word in ("$gen_cast", "$gen_call", "sync", "join", "leave"))
GROUP, NOBODY = Atom("g"), Atom("nobody")
KINDS = {}


def kind(name):
    """Register a function that makes the messages of one kind: ``(registered name, message)`` for a size."""

    def add(make):
        KINDS[name] = make
        return make

    return add


class Maker:
    """Makes identifiers of the sending node."""

    def __init__(self, node, server):
        self.node, self.server = node, server

    def pids(self, count, start=0):
        return [Pid(self.node, 1000 + start + number, 0, 1) for number in range(count)]

    def nodes(self, count):
        return [Atom(f"n{number}@127.0.0.1") for number in range(count)]

    def call(self, request):
        return (CALL, (self.pids(1)[0], 7), request)


@kind("pg: sync of many groups")
def _(make, size):
    yield "pg", (CAST, (SYNC, make.server, [((GROUP, number), [pid]) for number, pid in enumerate(make.pids(size))]))


@kind("pg: sync of one group, named again and again")
def _(make, size):
    groups = [(GROUP, make.pids(size)), *((GROUP, [pid]) for pid in make.pids(size, 10_000))]
    yield "pg", (CAST, (SYNC, make.server, groups))


@kind("pg: another sync of one large group")
def _(make, size):
    yield "pg", (CAST, (SYNC, make.server, [(GROUP, make.pids(size))]))
    yield "pg", (CAST, (SYNC, make.server, [(GROUP, make.pids(size, size // 2))]))


@kind("pg: join of many pids")
def _(make, size):
    yield "pg", (CAST, (SYNC, make.server, []))
    yield "pg", (JOIN, make.server, GROUP, make.pids(size))


@kind("pg: many pids leave many groups")
def _(make, size):
    pids, groups = make.pids(size), [(GROUP, number) for number in range(size)]
    yield "pg", (CAST, (SYNC, make.server, [(group, [pid]) for group, pid in zip(groups, pids, strict=True)]))
    yield "pg", (LEAVE, make.server, pids, groups)


@kind("pg: many strangers leave one group again and again")
def _(make, size):
    yield "pg", (CAST, (SYNC, make.server, [(GROUP, make.pids(size))]))
    yield "pg", (LEAVE, make.server, make.pids(size, size), [GROUP] * size)


@kind("pg: one pid leaves one group again and again")
def _(make, size):
    yield "pg", (CAST, (SYNC, make.server, [(GROUP, make.pids(size))]))
    yield "pg", (LEAVE, make.server, make.pids(1, size), [GROUP] * size)


@kind("pg2: exchange of many groups")
def _(make, size):
    groups = [[(GROUP, number), [pid]] for number, pid in enumerate(make.pids(size))]
    yield "pg2", (CAST, (Atom("exchange"), make.node, groups))


@kind("pg2: exchange of one group, named again and again")
def _(make, size):
    yield "pg2", (CAST, (Atom("exchange"), make.node, [[GROUP, make.pids(size)], *([[GROUP, []]] * size)]))


@kind("pg2: many calls")
def _(make, size):
    yield "pg2", make.call((Atom("create"), GROUP))
    for pid in make.pids(size):
        yield "pg2", make.call((JOIN, GROUP, pid))
    for pid in make.pids(size):
        yield "pg2", make.call((LEAVE, GROUP, pid))


@kind("global: reports of many lost nodes")
def _(make, size):
    for number, node in enumerate(make.nodes(size)):
        yield "global_name_server", (Atom("lost_connection"), make.node, 1, number, node)


@kind("global: many new nodes")
def _(make, size):
    nodes = [(node, 8) for node in make.nodes(size // 8)]  # each is dialled
    yield "global_name_server", (CAST, (Atom("new_nodes"), make.node, [], [], nodes, []))


@kind("global: many names")
def _(make, size):
    method = (Atom("global"), Atom("random_exit_name"))
    operations = [(Atom("insert"), ((GROUP, number), pid, method)) for number, pid in enumerate(make.pids(size))]
    yield "global_name_server", (CAST, (Atom("new_nodes"), make.node, operations, [], [], []))


@kind("global: sync with many nodes")
def _(make, size):
    yield "global_name_server", make.call((SYNC, make.nodes(size)))


@kind("global: many locks")
def _(make, size):
    for number in range(size):
        yield "global_name_server", make.call((Atom("set_lock"), ((GROUP, number), make.server)))


@kind("net_kernel: many pings")
def _(make, size):
    for _ in range(size):
        yield "net_kernel", make.call((Atom("is_auth"), make.node))


@kind("rex: a call with many arguments")
def _(make, size):
    yield "rex", make.call((Atom("call"), Atom("erlmesh"), Atom("echo"), [[*range(size)]], make.server))


def put_chars(make, *characters):
    request = (Atom("put_chars"), Atom("unicode"), *characters)
    return "user", (Atom("io_request"), make.pids(1)[0], Atom("tag"), request)


@kind("io: much text")
def _(make, size):
    yield put_chars(make, ["é", [b"text" * 3, 10]] * size)


@kind("io: deep text")
def _(make, size):
    text = [97]
    for _ in range(size):
        text = [text]
    yield put_chars(make, text)


@kind("io: many fields")
def _(make, size):
    yield put_chars(make, Atom("io_lib"), Atom("format"), ["~w~p~s~b" * size, [1, [2], b"3", 4] * size])


@pytest.mark.parametrize("base", [2, 3, 10, 16, 36])
def test_a_long_integer_is_printed_in_linear_time(base):
    times = []
    for count in (1, FACTOR):
        number = (1 << 4096 * 8 * count) - 12345
        start = time.process_time()
        for _ in range(50):
            _to_base(number, base)
        times.append(time.process_time() - start)

    assert times[1] < max(LIMIT * times[0], TOO_SHORT)


@kind("io: a long integer in many bases")
def _(make, size):
    arguments = [(1 << size * 8) - number for number in range(20)]
    yield put_chars(make, Atom("io_lib"), Atom("format"), ["~.2b~.3b~.36b~b~.16b" * 4, arguments])


@kind("any process: a map with many keys")
def _(make, size):
    yield NOBODY, Map(((number << 40, (number, number)), number) for number in range(size))


@kind("any process: a deep term")
def _(make, size):
    term = ()
    for _ in range(size * 4):
        term = (term, [term])[:1]
    yield NOBODY, term


async def cost(name, size):
    """Return the processor time in seconds for the messages of one kind, at both ends."""
    async with Cluster(seed=1) as cluster:
        sender, receiver = await cluster.mesh(2)
        make = Maker(Atom(sender.name), sender.whereis("pg"))
        messages = list(KINDS[name](make, size))
        times = []

        async def send(me):
            start = time.process_time()
            for to, message in messages:
                me.send((to, receiver.name), message)
            await me.drain()
            await cluster.sleep(20)  # virtual time, in which attempts to connect fail
            times.append(time.process_time() - start)

        sender.spawn(send)
        await cluster.wait_until(lambda: bool(times), timeout=100, description="the messages are handled")
        return times[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_work_for_a_message_is_linear(name):
    ratio = 0.0
    for _ in range(3):  # other programs on this machine disturb the measurement
        few, many = (run_loop(lambda count=count: cost(name, SIZE * count)) for count in (1, FACTOR))
        ratio = many / few
        if many < TOO_SHORT or ratio < LIMIT:
            return
    pytest.fail(f"{FACTOR} times the size takes {ratio:.1f} times as long")
