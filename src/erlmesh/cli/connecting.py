"""Connect a node of the command line: to its cluster at the start, or as a client to one node."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from erlmesh.cli.settings import NodeSettings, client_config
from erlmesh.discovery.discovery import Discovery
from erlmesh.discovery.lookup import Lookup
from erlmesh.doctor.service_checks import parse_blocked_peers
from erlmesh.errors import ConnectError
from erlmesh.net.epmd import default_port
from erlmesh.net.health import HealthServer
from erlmesh.net.health_socket import socket_folders
from erlmesh.net.resolvers import FixedPort
from erlmesh.node import Node
from erlmesh.shell.remsh_server import start_remsh_server
from erlmesh.terms import Atom, Term

__all__ = ["blocked_peers", "connect_failure", "hidden_client", "join_cluster", "node_services"]

log = logging.getLogger("erlmesh")


@asynccontextmanager
async def node_services(node: Node, settings: NodeSettings) -> AsyncIterator[None]:
    """The services of a node that keeps running: the health socket and, if asked for, remsh and discovery."""
    async with AsyncExitStack() as stack:
        started = node.internals.now()

        def report() -> dict[str, Any]:
            others = {"nodes": len(node.nodes()), "hidden": len(node.nodes(hidden=True))}
            blocked = {peer: round(seconds, 1) for peer, seconds in node.blocked_peers().items()}
            up = round(node.internals.now() - started, 1)
            return {
                "port": node.internals.port,
                "processes": len(node.internals.processes()),
                "up": up,
                **others,
                "blocked_peers": blocked,
            }

        try:
            server = HealthServer(node.name, report, socket_folders(os.environ))
        except OSError as fault:
            log.info("`erlmesh health` cannot find this node: %s", fault)
        else:
            stack.callback(server.close)
        if settings.allow_remsh:
            start_remsh_server(node)
        if settings.discover:
            base = node.name.partition("@")[0] if isinstance(settings.config.epmd, FixedPort) else None
            lookup = Lookup(settings.discover, epmd_port=default_port(), node_basename=base)
            await stack.enter_async_context(Discovery(node, lookup))
        yield


async def join_cluster(node: Node, peers: Sequence[str]) -> None:
    """Connects to each of ``peers``. Prints why a peer cannot be reached, and keeps trying to connect to it."""
    for peer in peers:
        if not await node.ping(peer):
            print(f"erlmesh: cannot connect yet: {connect_failure(node, peer)}", file=sys.stderr)
            node.internals.keep_connecting(peer)


def connect_failure(node: Node, peer: str) -> str:
    """``peer`` and the reason of the failed connection."""
    reason = node.last_connect_error(peer) or "it closed the connection"
    return reason if peer in reason else f"{peer}: {reason}"


@asynccontextmanager
async def hidden_client(options: argparse.Namespace, target: str) -> AsyncIterator[tuple[Node, str]]:
    """A hidden node that is connected to ``target``, and the full name of ``target``. Raises ConnectError."""
    config, peer = client_config(options, target)
    async with Node.from_config(config) as node:
        if not await node.ping(peer):
            raise ConnectError(connect_failure(node, peer))
        yield node, peer


async def blocked_peers(node: Node, peer: str) -> dict[str, float]:
    """The nodes with a blocked event loop, as ``peer`` reports, with seconds. Empty if ``peer`` is a BEAM."""
    request: Term = (Atom("call"), Atom("erlmesh"), Atom("blocked_peers"), [], Atom("user"))
    return parse_blocked_peers(await node.call((Atom("rex"), Atom(peer)), request))
