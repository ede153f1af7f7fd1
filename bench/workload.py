"""The workload of the measured Python node, as a user would write it. ``mesh_bench:serve/0`` is the same in Erlang."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.functions import expose_functions, has_threads
from erlmesh import Atom, Pid
from erlmesh.etf import decode, encode

if TYPE_CHECKING:
    from erlmesh import Node, Process
    from erlmesh.terms import Term

__all__ = [
    "decode_time",
    "encode_time",
    "has_threads",
    "join_groups",
    "learn",
    "serve",
    "serve_part",
    "switch_on_metrics",
    "switch_on_traces",
    "wait_for_groups",
    "wait_for_members",
]

PING, PONG, COUNTED, CALLED = Atom("ping"), Atom("pong"), Atom("counted"), Atom("called")
JOINED, LEFT, WATCHING, SEEN, ADD = Atom("joined"), Atom("left"), Atom("watching"), Atom("seen"), Atom("add")
CALL = Atom("call")
ATTEMPTS = 15
MANY, MANY_BYTES = 200, 1 << 20
"""What a process sends before it waits for the connection (``drain``)."""


def switch_on_metrics(node: Node) -> None:
    """Measure what metrics cost while nobody reads them. A reading costs the same for any load."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra

    node.metrics(CollectorRegistry())


def switch_on_traces(node: Node) -> None:
    """Measure what traces cost with a provider that samples nothing. What the spans cost is the SDK's part."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: PLC0415

    node.traces(TracerProvider(sampler=ALWAYS_OFF))


async def serve(node: Node) -> None:
    expose_functions()
    for body in (sink, source, echo, caller, joiner, watcher, server):
        node.spawn(body, name=body.__name__)


async def serve_part(node: Node, name: str) -> bool:
    """Start a part of the workload, ``bench/NAME.py``. False for a version of erlmesh without what it uses.

    It is imported when it is measured, because another row measures the memory of an idle node.
    """
    try:
        part = importlib.import_module(f"bench.{name}")
    except ImportError:
        return False
    await part.serve(node)
    return True


async def sink(me: Process) -> None:
    missing, asker = 0, None
    async for message in me:
        match message:
            case (Atom("ping"), _):
                missing -= 1
                if not missing:
                    me.send(asker, COUNTED)
            case (Atom("expect"), Pid() as asker, missing):
                pass


async def source(me: Process) -> None:
    async for _, to, count, *size in me:
        if size:
            await emit_data(me, to, count, bytes(*size))
        else:
            await emit(me, to, count)


async def emit(me: Process, to: Term, count: int) -> None:
    for number in range(count, 0, -1):
        me.send(to, (PING, number))
        if not number % MANY:
            await me.drain()


async def emit_data(me: Process, to: Term, count: int, data: bytes) -> None:
    between_drains = max(1, min(MANY, MANY_BYTES // len(data)))
    for number in range(count, 0, -1):
        me.send(to, (PING, data))
        if not number % between_drains:
            await me.drain()


async def echo(me: Process) -> None:
    async for message in me:
        match message:
            case (Atom("ping"), Pid() as sender, number):
                me.send(sender, (PONG, number))


async def server(me: Process) -> None:
    async for message in me:
        match message:
            case (Atom("$gen_call"), who, (Atom("add"), number)):
                me.reply(who, number + 1)


async def caller(me: Process) -> None:
    async for kind, asker, to, count, in_flight in me:
        left = [in_flight]
        done = asyncio.get_running_loop().create_future()
        body = one_caller if kind is CALL else one_bare_caller
        for _ in range(in_flight):
            me.spawn(body, to, count // in_flight, left, done)
        await done
        me.send(asker, CALLED)


async def one_caller(me: Process, to: Term, count: int, left: list[int], done: asyncio.Future[None]) -> None:
    for number in range(count):
        await me.call(to, (ADD, number), timeout=None)
    left[0] -= 1
    if not left[0]:
        done.set_result(None)


async def one_bare_caller(me: Process, to: Term, count: int, left: list[int], done: asyncio.Future[None]) -> None:
    for number in range(count):
        me.send(to, (PING, me.pid, number))
        await me.receive()
    left[0] -= 1
    if not left[0]:
        done.set_result(None)


async def joiner(me: Process) -> None:
    async for message in me:
        match message:
            case (Atom("join"), Pid() as asker, group):
                now = time.time_ns()
                me.node.pg.join(group, me.pid)
                me.send(asker, (JOINED, now))
            case (Atom("leave"), Pid() as asker, group):
                me.node.pg.leave(group, me.pid)
                me.send(asker, LEFT)


async def watcher(me: Process) -> None:
    async for _, asker, group in me:
        changes = me.node.pg.watch(group)
        me.send(asker, WATCHING)
        async for _ in changes:
            me.send(asker, (SEEN, time.time_ns()))
            break
        changes.close()


async def idle(me: Process) -> None:
    await me.receive()


def join_groups(node: Node, groups: int, each: int) -> None:
    pids = [node.spawn(idle) for _ in range(each)]
    for number in range(1, groups + 1):
        node.pg.join((Atom("room"), number), pids)


async def learn(node: Node, peer: str, groups: int) -> float:
    """Seconds from the call to a peer until all its groups are known here."""
    start = time.perf_counter()
    if not await node.connect(peer):
        raise ConnectionError(node.last_connect_error(peer))
    await wait_for_groups(node, groups)
    return time.perf_counter() - start


async def wait_for_groups(node: Node, groups: int) -> int:
    """The time when this node knows so many groups."""
    while node.pg.statistics().groups != groups:  # noqa: ASYNC110 - the Erlang workload polls once a millisecond, too
        await asyncio.sleep(0.001)
    return time.time_ns()


async def wait_for_members(node: Node, group: Term, count: int) -> int:
    """The time when this node knows so many members. It polls as rarely as the Erlang workload."""
    while len(node.pg.get_members(group)) != count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return time.time_ns()


def encode_time(data: bytes, count: int) -> float:
    """Nanoseconds of one encoding: the least of fifteen attempts."""
    term = decode(data)
    return least_time(count, lambda: encode(term))


def decode_time(data: bytes, count: int) -> float:
    return least_time(count, lambda: decode(data))


def least_time(count: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(ATTEMPTS):
        start = time.thread_time_ns()  # without the time of other programs on this core
        for _ in range(count):
            work()
        times.append(time.thread_time_ns() - start)
    return min(times) / count
