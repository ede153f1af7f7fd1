"""A prompt on a node of its own.

Typed lines are Python, or the lines of an iex transcript as they stand; ``h()`` shows what there is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from erlmesh import __version__
from erlmesh.cli.meeting import meet
from erlmesh.cli.settings import Settings, add_node_options, settings
from erlmesh.node import Node
from erlmesh.shell import front

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh shell --name socrates@127.0.0.1 --cookie-file ./cookie
  py(socrates@127.0.0.1)1> Node.ping :"plato@127.0.0.1"
  :pong

  echo 'Node.list' | erlmesh shell --join plato@127.0.0.1"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(settings(options)))


async def _run(chosen: Settings) -> int:
    async with Node(chosen.name, cookie=chosen.cookie, **chosen.form) as node:
        if front.is_interactive():
            python = ".".join(map(str, sys.version_info[:3]))
            print(f"erlmesh {__version__} on Python {python}, node {node.name}. h() for help, Ctrl-D to leave.")
        await meet(node, chosen.join)
        return await front.run(node)
