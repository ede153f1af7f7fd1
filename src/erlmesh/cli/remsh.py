"""Open a prompt on a running node, on this machine or another one.

That node runs the lines, and this command shows their output. The node needs --allow-remsh. The command connects as a
hidden node with a random name, so the other nodes of the cluster do not see it.
"""

from __future__ import annotations

import argparse
import asyncio

from erlmesh.cli.hidden_client import hidden_client
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

  docker exec -it plato erlmesh shell --remsh          the node of this container

Ctrl-D closes the prompt. The node keeps running."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the name of the node; without a host it gets that of --host")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    return run_remsh(options, options.node)


def run_remsh(options: argparse.Namespace, target: str) -> int:
    """Runs the prompt of ``target`` until the user closes it. Raises ConnectError if it cannot be opened."""
    return asyncio.run(_run_remsh(options, target))


async def _run_remsh(options: argparse.Namespace, target: str) -> int:
    async with hidden_client(options, target) as (node, peer):
        session = RemoteSession(node, peer)
        await session.open()
        if frontend.is_interactive():
            print(
                f"the shell of {peer}: that node runs the lines. Ctrl-D closes the prompt, and the node keeps running."
            )
        session_task = asyncio.ensure_future(frontend.run_session(session))
        session.on_close = session_task.cancel
        try:
            return await session_task
        finally:
            session.close()
