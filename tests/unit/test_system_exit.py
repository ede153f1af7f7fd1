"""``sys.exit()`` in a function that another node calls ends the call, not the node. Ctrl-C is the user's."""

import asyncio
import sys

import pytest
from test_exposed_functions import with_node
from test_server_restarts import with_nodes

from erlmesh.errors import CallError, RemoteError
from erlmesh.node import Process
from erlmesh.services.rpc import erpc
from erlmesh.terms import Atom

REX, SYSTEM_EXIT = Atom("rex"), Atom("SystemExit")


class Unprintable(Exception):
    """An exception whose text cannot be made: the attempt ends the program."""

    def __str__(self):
        raise SystemExit("from __str__")


def plain():
    sys.exit(3)


def with_process(me: Process):
    sys.exit(3)


async def at_once():
    sys.exit(3)


async def later():
    await asyncio.sleep(1)
    sys.exit(3)


def awaitable():
    return later()


def unprintable():
    raise Unprintable


async def unprintable_later():
    await asyncio.sleep(1)
    raise Unprintable


FUNCTIONS = [plain, with_process, at_once, later, awaitable, unprintable, unprintable_later]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)


async def assert_works(a, b):
    """``a`` answers calls and pings, and no process of a call is left."""
    assert await b.ping("a@h")
    assert await b.rpc("a@h", "m", "fine") == 1
    assert not [pid for pid in a.internals.processes() if "for #PID" in a.internals.local_process(pid).label]


def in_cluster(function, test):
    @with_nodes("a@h", "b@h")
    async def run_test(a, b):
        a.expose(function, as_="m", name="leave")
        a.expose(lambda: 1, as_="m", name="fine")
        await test(a, b)
        await assert_works(a, b)

    run_test()


@every_function
def test_it_ends_a_call(function):
    async def test(_, b):
        with pytest.raises(RemoteError) as raised:
            await b.rpc("a@h", "m", "leave")
        assert raised.value.reason[0] in (SYSTEM_EXIT, Atom("Unprintable"))

    in_cluster(function, test)


@every_function
def test_it_ends_a_call_of_the_own_node(function):
    async def test(a, _):
        with pytest.raises(RemoteError):
            await a.rpc("a@h", "m", "leave")

    in_cluster(function, test)


@every_function
def test_it_ends_a_call_of_rex_and_a_cast(function):
    async def test(_, b):
        call = (Atom("call"), Atom("m"), Atom("leave"), [], Atom("user"))
        answer = await b.call((REX, "a@h"), call)
        assert answer[0] is Atom("badrpc")
        b.rpc.cast("a@h", "m", "leave")
        b.send((REX, "a@h"), (Atom("$gen_cast"), (Atom("cast"), *call[1:])))
        await asyncio.sleep(2)

    in_cluster(function, test)


@every_function
def test_it_ends_a_process_that_another_node_started(function):
    async def test(_, b):
        reasons = []
        watcher = b.internals.spawn_handler(lambda message: reasons.append(message[4]))
        watcher.monitor(await b.spawn_remote("a@h", "m", "leave"))
        await asyncio.sleep(2)
        assert len(reasons) == 1

    in_cluster(function, test)


def test_a_resolve_method_that_exits_is_a_failed_method():
    async def test(a, b):
        method = a.global_._server.methods
        assert method is not None
        a.global_._server.methods.run = lambda *_: sys.exit(3)
        answer = a.global_._server.resolve_it(Atom("m"), Atom("name"), a.spawn(idle), b.spawn(idle))
        assert answer[0] is Atom("EXIT")

    in_cluster(plain, test)


async def idle(me):
    await me.receive()


@pytest.mark.parametrize("function", [plain, unprintable], ids=lambda function: function.__name__)
def test_it_ends_a_call_in_a_thread(function):
    @with_node(expose_threads=1)
    async def test(node, _block):
        node.expose(function, as_="m", name="leave")
        with pytest.raises(CallError):
            await node.rpc(node.name, "m", "leave")
        assert await node.ping(node.name)

    test()


def test_ctrl_c_in_a_function_passes_on():
    class Interrupted:
        def start(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erpc._Call(None, (Atom("m"), Atom("leave"), [])).start(Interrupted())
