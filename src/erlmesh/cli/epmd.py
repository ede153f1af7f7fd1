"""Run the host's EPMD (Erlang port mapper daemon) in the foreground, or list the nodes that are registered in it.

A node uses the EPMD of its host, and serves as EPMD if there is none. A separate EPMD does not end with a node.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
from functools import partial

from erlmesh.cli.log_setup import add_verbose
from erlmesh.cli.shutdown import run_until_signal
from erlmesh.errors import NodeStartError
from erlmesh.net.epmd import default_port, registered_names
from erlmesh.net.epmd_server import EpmdServer

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh epmd --names
  socrates at port 40123

  erlmesh epmd --port 4369"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, metavar="N", help="the port, else 4369 [ERL_EPMD_PORT]")
    parser.add_argument(
        "--address", metavar="A", action="append", help="address to listen on, else all; with --names, the host to ask"
    )
    parser.add_argument("--names", action="store_true", help="list the registered nodes and their ports")
    add_verbose(parser)


def run(options: argparse.Namespace) -> int:
    port = default_port() if options.port is None else options.port
    if not 0 < port < 65536:
        raise ValueError(f"--port is a number from 1 to 65535, not {port}")
    if options.names:
        return asyncio.run(_print_names(options.address, port))
    return run_until_signal(partial(_serve, addresses=options.address, port=port))


async def _print_names(addresses: list[str] | None, port: int) -> int:
    host = addresses[0] if addresses else "127.0.0.1"
    try:
        names = await registered_names(host, port)
    except (OSError, TimeoutError):
        raise NodeStartError(
            f"no EPMD answers on port {port} of {host}: start a node there, or check the address and ERL_EPMD_PORT"
        ) from None
    for name, node_port in names.items():
        print(f"{name} at port {node_port}")
    if names.invalid:
        print(f"{names.invalid} more, which are not names of nodes")
    return 0


async def _serve(stop_requested: asyncio.Event, addresses: list[str] | None, port: int) -> int:
    server = EpmdServer(port)
    try:
        await server.start(addresses)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise NodeStartError(
                f"port {port} is taken by another program, probably an EPMD: use that one, or another --port"
            ) from None
        raise NodeStartError(f"cannot listen on port {port}: {error.strerror}") from None
    print(f"EPMD is up on port {port}", flush=True)
    await stop_requested.wait()
    server.close()
    return 0
