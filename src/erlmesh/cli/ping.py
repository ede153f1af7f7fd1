"""Check whether a node can be reached: print pong or pang, with exit status 0 or 1."""

from __future__ import annotations

import argparse
import asyncio
import time

from erlmesh.cli.hidden_client import hidden_client
from erlmesh.cli.output import print_error
from erlmesh.cli.settings import add_node_options
from erlmesh.errors import ConnectError

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh ping plato@127.0.0.1 && echo there

The exit status is 0 for pong. It is 1 for pang, with the reason on stderr. The command connects as a hidden
node with a random name, so the other nodes of the cluster do not see it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the name of the node; without a host it gets that of --host")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    try:
        async with hidden_client(options, options.node) as (node, peer):
            started = time.perf_counter()
            await node.ping(peer)
            print(f"pong ({(time.perf_counter() - started) * 1000:.1f} ms)")
            return 0
    except ConnectError as error:
        print("pang")
        print_error(error)
        return 1
