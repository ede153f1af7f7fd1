"""Start a node with a prompt.

Lines are Python, or the Elixir lines of an iex session. ``h()`` shows the commands.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Final

from erlmesh import __version__
from erlmesh.cli.connecting import join_cluster, node_services
from erlmesh.cli.health import running_nodes
from erlmesh.cli.remsh import run_remsh
from erlmesh.cli.settings import NodeSettings, add_node_options, read_settings
from erlmesh.cli.sigterm import sigterm_received
from erlmesh.errors import NodeStartError
from erlmesh.node import Node
from erlmesh.shell import frontend

__all__ = ["EXAMPLE", "add_options", "run"]

HEALTH_TIMEOUT: Final = 3.0
EXAMPLE = """\
example:
  erlmesh shell --name socrates@127.0.0.1 --cookie-file ./cookie
  py(socrates@127.0.0.1)1> Node.ping :"plato@127.0.0.1"
  :pong

  echo 'Node.list' | erlmesh shell --join plato@127.0.0.1

  docker exec -it plato erlmesh shell --remsh          the node of this container"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remsh",
        metavar="NODE",
        nargs="?",
        const="",
        help="start no node, but open a prompt on NODE, or on the node that runs here; see erlmesh remsh",
    )
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    if options.remsh is None:
        try:
            return asyncio.run(_run(read_settings(options)))
        except KeyboardInterrupt:
            if sigterm_received():
                return 0
            raise
    target = options.remsh or _find_running_node(options.name or os.environ.get("ERLMESH_NAME"))
    options.name = None  # It is the name of the target, not of the client.
    return run_remsh(options, target)


def _find_running_node(name: str | None) -> str:
    found = [node for node, _ in running_nodes(name, HEALTH_TIMEOUT)]
    if len(found) != 1:
        which = f"one of {', '.join(found)}" if found else "no node runs here"
        raise NodeStartError(f"which node is meant by --remsh? Give its name: {which}")
    return found[0]


async def _run(settings: NodeSettings) -> int:
    async with (
        Node.from_config(settings.config) as node,
        node_services(node, settings),
    ):
        if frontend.is_interactive():
            python = ".".join(map(str, sys.version_info[:3]))
            print(f"erlmesh {__version__} on Python {python}, node {node.name}. h() for help, Ctrl-D to quit.")
        await join_cluster(node, settings.join)
        return await frontend.run(node)
