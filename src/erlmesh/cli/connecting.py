"""Meeting other nodes at the start, and looking in on one."""

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
    """What a node does that stays: it answers ``erlmesh health``; if it shall, it lets shells in and looks about."""
    async with AsyncExitStack() as stack:
        began = node._now()

        def report() -> dict[str, Any]:
            others = {"nodes": len(node.nodes()), "hidden": len(node.nodes(hidden=True))}
            busy = {peer: round(seconds, 1) for peer, seconds in node.blocked_peers().items()}
            up = round(node._now() - began, 1)
            return {"port": node.port, "processes": len(node.processes()), "up": up, **others, "blocked_peers": busy}

        try:
            server = HealthServer(node.name, report, socket_folders(os.environ))
        except OSError as fault:
            log.info("erlmesh health will find nothing: %s", fault)
        else:
            stack.callback(server.close)
        if settings.allow_remsh:
            start_remsh_server(node)
        if settings.discover:
            base = node.name.partition("@")[0] if isinstance(settings.config.epmd, FixedPort) else None
            look = Lookup(settings.discover, epmd_port=default_port(), node_basename=base)
            await stack.enter_async_context(Discovery(node, look))
        yield


async def join_cluster(node: Node, peers: Sequence[str]) -> None:
    """Pings each of ``peers``; says on stderr which are not there, and why. They are looked for from then on."""
    for peer in peers:
        if not await node.ping(peer):
            print(f"erlmesh: did not meet {connect_failure(node, peer)}", file=sys.stderr)
            node.keep_connecting(peer)


def connect_failure(node: Node, peer: str) -> str:
    """``peer`` and the reason why it was not met, in words."""
    reason = node.last_connect_error(peer) or "it closed the connection"
    return reason if peer in reason else f"{peer}: {reason}"


@asynccontextmanager
async def hidden_client(options: argparse.Namespace, target: str) -> AsyncIterator[tuple[Node, str]]:
    """A hidden node connected with ``target``, and that one's full name. Raises ConnectError if it is not there."""
    config, peer = client_config(options, target)
    async with Node.from_config(config) as node:
        if not await node.ping(peer):
            raise ConnectError(connect_failure(node, peer))
        yield node, peer


async def blocked_peers(node: Node, peer: str) -> dict[str, float]:
    """The nodes whose loops are held, as ``peer`` knows, with seconds; none if it is a BEAM, which does not know."""
    request: Term = (Atom("call"), Atom("erlmesh"), Atom("blocked_peers"), [], Atom("user"))
    return parse_blocked_peers(await node.call((Atom("rex"), Atom(peer)), request))
