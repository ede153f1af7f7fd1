"""The services of a node that keeps running, and its connections at the start."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from erlmesh.cli.hidden_client import connect_failure
from erlmesh.cli.output import print_error
from erlmesh.cli.settings import NodeSettings
from erlmesh.discovery.discovery import Discovery
from erlmesh.discovery.lookup import Lookup
from erlmesh.net.epmd import default_port
from erlmesh.net.event_log import event_log
from erlmesh.net.health import HealthServer
from erlmesh.net.health_socket import socket_folders
from erlmesh.net.resolvers import FixedPort
from erlmesh.node import Node
from erlmesh.shell.remsh_server import start_remsh_server

__all__ = ["join_cluster", "node_services"]

log = event_log("erlmesh")


@asynccontextmanager
async def node_services(
    node: Node, settings: NodeSettings, announce: Callable[[str], object] = print
) -> AsyncIterator[None]:
    """The services of a node that keeps running: the health socket and, if asked for, others.

    ``announce`` gets a line for the user: where the map is.
    """
    node._joins.append(lambda: settings.join)  # The program waits for them, although the command connects.
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
            log.info("health_socket_failed", "`erlmesh health` cannot find this node: %s", fault, reason=fault)
        else:
            stack.callback(server.close)
        if settings.metrics is not None:
            from erlmesh.cli.metrics import serve_metrics  # noqa: PLC0415 - an extra

            stack.enter_context(serve_metrics(node, *settings.metrics))
        if settings.map is not None:
            from erlmesh.cli.map_options import settings_of_map  # noqa: PLC0415 - an extra

            page = await stack.enter_async_context(node._make_map(settings_of_map(settings, settings.map)))
            announce(f"the map of the cluster is at {page.url}")
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
            print_error(f"cannot connect yet: {connect_failure(node, peer)}")
            node.internals.keep_connecting(peer)
