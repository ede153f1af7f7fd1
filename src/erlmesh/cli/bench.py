"""Measure the connection to a node: round trips, calls per second, and the transfer of large binaries.

Any node can be measured, a BEAM too. Nothing is installed there. Three measurements run, one after the other, each for
--seconds seconds. A round trip and a call go to net_kernel, which answers pings. A transfer sends a 64 KB binary, which
the node sends back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from erlmesh.cli.hidden_client import hidden_client
from erlmesh.cli.settings import add_node_options
from erlmesh.errors import CallTimeout, ErlmeshError, NodeStartError, RemoteError
from erlmesh.node import Node
from erlmesh.records import fields, record
from erlmesh.runtime.option_parsers import parse_seconds
from erlmesh.terms import Atom, Term

__all__ = ["EXAMPLE", "BenchResult", "add_options", "run", "summarize"]

EXAMPLE = """\
example:
  erlmesh bench plato@127.0.0.1
  round trip    67 µs median, 63 µs least, 120 µs p99, 950 µs most; 29,412 calls, one after another
  calls         24,800 per second, 100 at a time
  transfer      310 MB/s in each direction, 64 KB binaries, 16 at a time

A busy machine or network changes the figures from run to run. The measured node works for them: do not measure a node
that must not be disturbed. The exit status is 1 if the node cannot be reached, or stops to answer."""

IN_FLIGHT = 100
"""Calls that wait for an answer at the same time."""
TRANSFERS = 16
"""Transfers at the same time: 1 MiB in each direction, which a node queues for a connection at most."""
TRANSFER_SIZE = 65_536
ANSWER_LIMIT = 5.0
"""Seconds to wait for one answer."""
MAX_SECONDS = 60.0

Request = Callable[[], Awaitable[Term]]


@record(frozen=True)
class BenchResult:
    """What ``--json`` prints. Times are microseconds, rates are per second. A node may not answer transfers."""

    node: str
    round_trips: int
    least_us: float
    median_us: float
    p99_us: float
    most_us: float
    calls_per_second: float
    megabytes_per_second: float | None


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the name of the node; without a host it gets that of --host")
    parser.add_argument(
        "--seconds", metavar="SECONDS", default="2", help="how long each measurement runs, at most 60; else 2"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    try:
        seconds = parse_seconds(options.seconds, "--seconds")
    except NodeStartError as error:
        raise ValueError(str(error)) from None  # An argument that is not valid has the exit code 2.
    if seconds > MAX_SECONDS:
        raise ValueError(f"--seconds is {options.seconds}: a measurement runs for at most {MAX_SECONDS:g} seconds")
    result = asyncio.run(_run(options, seconds))
    figures = {each.name: getattr(result, each.name) for each in fields(BenchResult)}
    print(json.dumps(figures) if options.json else format_result(result))
    return 0


async def _run(options: argparse.Namespace, seconds: float) -> BenchResult:
    async with hidden_client(options, options.node) as (node, peer):
        try:
            return await measure(node, peer, seconds)
        except CallTimeout:
            raise ErlmeshError(f"{peer} is connected, but did not answer within {ANSWER_LIMIT:g} s") from None
        finally:
            _show("")


async def measure(node: Node, peer: str, seconds: float) -> BenchResult:
    """All measurements of a connected node. Raises CallError if it stops to answer."""
    ping = _ping(node, peer)
    _show("round trips …")
    times = await _round_trips(ping, seconds)
    _show("calls …")
    calls = await _rate(ping, IN_FLIGHT, seconds)
    _show("transfers …")
    echo = await _echo(node, peer)
    megabytes = None if echo is None else await _rate(echo, TRANSFERS, seconds) * TRANSFER_SIZE / 1e6
    return summarize(peer, times, calls, megabytes)


def summarize(peer: str, times: list[float], calls: float, megabytes: float | None) -> BenchResult:
    """The figures of a run. ``times`` are seconds, at least one."""
    ordered = sorted(times)
    least, median, p99, most = (
        round(ordered[max(0, round(share * len(ordered)) - 1)] * 1e6, 1) for share in (0.0, 0.5, 0.99, 1.0)
    )
    rate = None if megabytes is None else round(megabytes, 1)
    return BenchResult(peer, len(times), least, median, p99, most, round(calls, 1), rate)


def format_result(result: BenchResult) -> str:
    transfer = (
        f"not measured: {result.node} has no function that sends a binary back"
        if result.megabytes_per_second is None
        else f"{result.megabytes_per_second:,.0f} MB/s in each direction, 64 KB binaries, {TRANSFERS} at a time"
    )
    return (
        f"round trip    {result.median_us:,.0f} µs median, {result.least_us:,.0f} µs least, "
        f"{result.p99_us:,.0f} µs p99, {result.most_us:,.0f} µs most; {result.round_trips:,} calls, one after another\n"
        f"calls         {result.calls_per_second:,.0f} per second, {IN_FLIGHT} at a time\n"
        f"transfer      {transfer}"
    )


def _ping(node: Node, peer: str) -> Request:
    """The call that ``net_adm:ping`` makes."""
    server, request = (Atom("net_kernel"), Atom(peer)), (Atom("is_auth"), Atom(node.name))
    return lambda: node.call(server, request, timeout=ANSWER_LIMIT)


async def _echo(node: Node, peer: str) -> Request | None:
    """A call that sends a binary and gets it back. None if the node has no such function: an older erlmesh."""
    data = bytes(TRANSFER_SIZE)
    for module, function, argument in (("erlang", "hd", [data]), ("erlmesh", "echo", data)):
        try:
            await node.rpc(peer, module, function, [argument], timeout=ANSWER_LIMIT)
        except RemoteError:
            continue  # not a BEAM, or an erlmesh node that does not expose the function
        return lambda: node.rpc(peer, module, function, [argument], timeout=ANSWER_LIMIT)
    return None


async def _round_trips(request: Request, seconds: float) -> list[float]:
    """The times of calls, one after another."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        await request()
        times.append(time.perf_counter() - started)
    return times


async def _rate(request: Request, in_flight: int, seconds: float) -> float:
    """Calls per second, of ``in_flight`` tasks that call one after another."""
    started = time.perf_counter()
    end = started + seconds

    async def caller() -> int:
        count = 0
        while not count or time.perf_counter() < end:
            await request()
            count += 1
        return count

    callers = [asyncio.create_task(caller()) for _ in range(in_flight)]
    try:
        counts = await asyncio.gather(*callers)
        return sum(counts) / (time.perf_counter() - started)
    finally:  # After the first error the other callers end, too.
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


def _show(progress: str) -> None:
    """Show the current measurement on a terminal, in one line that is overwritten."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{progress:14}\r")
        sys.stderr.flush()
