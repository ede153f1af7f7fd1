"""Ask whether a node is there: prints pong or pang, and the exit code says it too."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from erlmesh.cli.connecting import hidden_client
from erlmesh.cli.settings import add_node_options
from erlmesh.errors import ConnectError

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh ping plato@127.0.0.1 && echo there

The exit code is 0 for pong and 1 for pang, with the reason on stderr. Nobody else of the cluster
notices: it asks as a hidden node with a name of its own."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the node's name; its host is that of --host if not given")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    try:
        async with hidden_client(options, options.node) as (node, peer):
            began = time.perf_counter()
            await node.ping(peer)
            print(f"pong ({(time.perf_counter() - began) * 1000:.1f} ms)")
            return 0
    except ConnectError as error:
        print("pang")
        print(f"erlmesh: {error}", file=sys.stderr)
        return 1
