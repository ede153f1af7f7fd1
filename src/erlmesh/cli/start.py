"""Run a node without a prompt, until SIGTERM or Ctrl-C.

It takes part in the mesh, in pg, pg2 and global; ``--verbose`` says who comes and goes. With ``--prompt`` it has one
where there is a terminal: what a container's command should be, which may be started with or without one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from erlmesh.cli import shell
from erlmesh.cli.meeting import meet, staying
from erlmesh.cli.settings import Settings, add_node_options, settings
from erlmesh.net.epmd import default_port
from erlmesh.node import Node
from erlmesh.shell import front

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh start --name plato@127.0.0.1 --cookie-file ./cookie --join socrates@127.0.0.1 --verbose"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", action="store_true", help="be a shell if there is a terminal")
    add_node_options(parser)


def run(options: argparse.Namespace) -> int:
    chosen = settings(options)
    if options.prompt and front.is_interactive():
        return shell.attend(chosen)
    return asyncio.run(_run(chosen))


async def _run(chosen: Settings) -> int:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with Node(chosen.name, cookie=chosen.cookie, **chosen.form) as node, staying(node, chosen):
        known = "not known to any EPMD" if "epmd" in chosen.form else f"known to the EPMD on port {default_port()}"
        print(f"{node.name} is up: listening on port {node.port}, {known}", flush=True)
        meeting = asyncio.ensure_future(meet(node, chosen.join))
        await over.wait()
        meeting.cancel()
    return 0
