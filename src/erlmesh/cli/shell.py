"""A prompt on a node of its own.

Typed lines are Python, or the lines of an iex transcript as they stand; ``h()`` shows what there is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from erlmesh import __version__
from erlmesh.cli.meeting import meet
from erlmesh.cli.remsh import enter
from erlmesh.cli.settings import Settings, add_node_options, settings
from erlmesh.node import Node
from erlmesh.shell import front
from erlmesh.shell.hosting import host_shells

__all__ = ["EXAMPLE", "add_options", "attend", "run"]

EXAMPLE = """\
example:
  erlmesh shell --name socrates@127.0.0.1 --cookie-file ./cookie
  py(socrates@127.0.0.1)1> Node.ping :"plato@127.0.0.1"
  :pong

  echo 'Node.list' | erlmesh shell --join plato@127.0.0.1

  docker exec -it plato erlmesh shell --remsh          the node that runs in this container"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remsh",
        metavar="NODE",
        nargs="?",
        const="",
        help="start no node: be a prompt of NODE, or of the one that --name or the environment says; see erlmesh remsh",
    )
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    if options.remsh is None:
        return attend(settings(options))
    target = options.remsh or settings(options).name
    options.name = None  # that is the other's
    return enter(options, target)


def attend(chosen: Settings) -> int:
    """The node, and a prompt on it until it is left; the exit code."""
    return asyncio.run(_attend(chosen))


async def _attend(chosen: Settings) -> int:
    async with Node(chosen.name, cookie=chosen.cookie, **chosen.form) as node:
        if chosen.lets_in:
            host_shells(node)
        if front.is_interactive():
            python = ".".join(map(str, sys.version_info[:3]))
            print(f"erlmesh {__version__} on Python {python}, node {node.name}. h() for help, Ctrl-D to leave.")
        await meet(node, chosen.join)
        return await front.run(node)
