"""Show the nodes, connections, processes and groups of a cluster as tables, which are renewed all the time.

The command connects to NODE as a hidden node with a random name, and then to all nodes that it learns of. The cluster
does not count it as a member. A node that does not answer keeps its last row, and the column "told" says how old it is.
With --once, the tables are printed once, as text or as JSON, and no terminal is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from erlmesh.cli.hidden_client import connect_failure
from erlmesh.cli.map import connect_to_all, node_that_looks
from erlmesh.cli.output import shown
from erlmesh.cli.settings import add_node_options
from erlmesh.cli.shutdown import EXIT_SIGINT, run_until_signal
from erlmesh.cli.top_view import TopView
from erlmesh.core.cluster_view.tables import TABLES, make_table
from erlmesh.errors import ConnectError
from erlmesh.node import Node
from erlmesh.services.viewing.collector import Collector
from erlmesh.services.viewing.process_watch import ProcessWatch

if TYPE_CHECKING:
    from erlmesh.runtime.config import NodeConfig

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh top plato@127.0.0.1                          q ends it; the other keys are on the last line
  erlmesh top                                          all nodes that run here, as `erlmesh health` finds them
  erlmesh top plato --table processes --sort memory    begin with this table and this order
  erlmesh top plato --once --table links               print one table and end
  erlmesh top plato --once --json                      all tables as one JSON object, for scripts:
  {"observer": …, "time": …, "nodes": [{"node": …, "state": …}], "links": […], "processes": […], "groups": […]}"""

SCHEMA: Final = 1
ONCE_INTERVAL: Final = 0.5
"""Seconds between the two questions from which --once has its rates."""
ONCE_STEP: Final = 0.05
MAX_ROWS: Final = 20
"""Rows of one of several tables."""
NAMES: Final = tuple(shape.name for shape in TABLES)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="NODE", nargs="*", help="a node of the cluster, or several")
    parser.add_argument(
        "--table", metavar="NAME", choices=NAMES, help=f"show this table first, with --once only it: {', '.join(NAMES)}"
    )
    parser.add_argument("--sort", metavar="COLUMN", help="the column to sort by, as --json names it: messages, cpu …")
    parser.add_argument("--interval", metavar="S", type=float, default=2.0, help="seconds between two looks, else 2")
    parser.add_argument("--once", action="store_true", help="print the tables once, and end")
    parser.add_argument("--json", action="store_true", help="with --once: as one JSON object")
    parser.add_argument(
        "--wait", metavar="S", type=float, default=5.0, help="with --once: seconds to wait for nodes, else 5"
    )
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    if options.json and not options.once:
        raise ValueError("--json prints once: add --once")
    if not (math.isfinite(options.interval) and options.interval >= 0.2):
        raise ValueError("--interval is a number of seconds, at least 0.2")
    if not (math.isfinite(options.wait) and options.wait >= 0):
        raise ValueError("--wait is a number of seconds")
    view = TopView(options.table or "nodes")
    if options.sort is not None:
        if options.table is None:
            raise ValueError("--sort needs --table, because each table has other columns")
        view.sort_by(options.sort)
    config, peers = node_that_looks(options)
    if options.once:
        return run_until_signal(lambda stop: _once(stop, config, peers, options, view))
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("this is not a terminal: add --once to print the tables once")
    from erlmesh.cli.top_screen import show  # noqa: PLC0415 - curses is missing in some builds of Python

    return run_until_signal(lambda stop: show(stop, config, peers, view, options.interval))


async def _once(
    stop: asyncio.Event, config: NodeConfig, peers: list[str], options: argparse.Namespace, view: TopView
) -> int:
    async with Node.from_config(config) as node:
        connecting = asyncio.ensure_future(connect_to_all(node, peers, lambda _: None))
        try:
            collector = Collector(node.internals, node.pg, None)
            async with collector, ProcessWatch(node.internals, collector, interval=ONCE_INTERVAL) as watch:
                stopped = await _wait_for_answers(stop, node, collector, watch, options.wait)
                if stopped:
                    return EXIT_SIGINT
                if not collector.cluster.reports():
                    raise ConnectError(connect_failure(node, peers[0]))
                _print(collector, watch, options, view)
        finally:
            connecting.cancel()
    return 0


async def _wait_for_answers(
    stop: asyncio.Event, node: Node, collector: Collector, watch: ProcessWatch, seconds: float
) -> bool:
    """Wait until all nodes have answered twice, or for some seconds. Return whether a signal has come."""
    deadline = node.internals.now() + seconds
    while node.internals.now() < deadline:
        reports = [report for report in collector.cluster.reports().values() if report["alive"]]
        if reports and all(
            report["source"] != "none"
            and (each := watch.samples.get(report["node"])) is not None
            and each.cpu is not None
            for report in reports
        ):
            return False
        try:
            async with asyncio.timeout(ONCE_STEP):
                await stop.wait()
            return True
        except TimeoutError:
            continue
    return False


def _print(collector: Collector, watch: ProcessWatch, options: argparse.Namespace, view: TopView) -> None:
    now = time.time()
    reports = collector.cluster.reports()
    names = [options.table] if options.table else NAMES
    tables = {name: view.sorted(name, make_table(name, reports, watch.samples, now)) for name in names}
    if options.json:
        found: dict[str, Any] = {"schema": SCHEMA, "observer": collector.cluster.observer, "time": round(now, 3)}
        print(json.dumps(found | tables), flush=True)
        return
    if options.table:
        _print_lines(view.lines(options.table, tables[options.table]))
        return
    for name, rows in tables.items():
        more = [f"… and {len(rows) - MAX_ROWS} more: --table {name} prints all"] if len(rows) > MAX_ROWS else []
        _print_lines([f"{name}:", *view.lines(name, rows[:MAX_ROWS]), *more, ""])


def _print_lines(lines: list[str]) -> None:
    print("\n".join(map(shown, lines)), flush=True)  # each by itself, because a long text is cut
