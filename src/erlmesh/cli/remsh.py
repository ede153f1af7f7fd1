"""A prompt on a node that runs already, here or on another machine.

Lines are run there, and what they print is shown here. The node must have been started with --allow-remsh. Nobody else
of the cluster notices: this comes as a hidden node with a name of its own.
"""

from __future__ import annotations

import argparse
import asyncio

from erlmesh.cli.connecting import hidden_client
from erlmesh.cli.settings import add_node_options
from erlmesh.shell import frontend
from erlmesh.shell.remsh_client import RemoteSession

__all__ = ["EXAMPLE", "add_options", "run", "run_remsh"]

EXAMPLE = """\
example:
  erlmesh start --name plato --allow-remsh &
  erlmesh remsh plato
  py(plato@127.0.0.1)1> Node.self
  :"plato@127.0.0.1"

  docker exec -it plato erlmesh shell --remsh          the node of this very container

Ctrl-D leaves; the node stays."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the node's name; its host is 127.0.0.1 if not given")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    return run_remsh(options, options.node)


def run_remsh(options: argparse.Namespace, target: str) -> int:
    """The prompt of ``target``, until it is left. Raises ConnectError if it is not there or lets nobody in."""
    return asyncio.run(_run_remsh(options, target))


async def _run_remsh(options: argparse.Namespace, target: str) -> int:
    async with hidden_client(options, target) as (node, peer):
        session = RemoteSession(node, peer)
        await session.open()
        if frontend.is_interactive():
            print(f"the shell of {peer}: lines are run there. Ctrl-D leaves, and the node stays.")
        attending = asyncio.ensure_future(frontend.run_session(session))
        session.on_close = attending.cancel
        try:
            return await attending
        finally:
            session.close()
