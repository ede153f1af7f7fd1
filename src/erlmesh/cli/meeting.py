"""Meeting other nodes at the start, and looking in on one."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from erlmesh.cli.cookie import find_cookie
from erlmesh.cli.forms import host_of, way
from erlmesh.cli.settings import Settings, complete_name, passing_name
from erlmesh.discovery.looking import Look
from erlmesh.discovery.task import Discovery
from erlmesh.doctor.services import read_busy
from erlmesh.errors import ConnectError
from erlmesh.net.epmd import default_port
from erlmesh.net.health import HealthServer
from erlmesh.net.health_socket import socket_folders
from erlmesh.net.resolvers import FixedPort
from erlmesh.node import Node
from erlmesh.shell.hosting import host_shells
from erlmesh.terms import Atom, Term

__all__ = ["busy_nodes", "looking_in", "meet", "staying", "why_not"]

log = logging.getLogger("erlmesh")


@asynccontextmanager
async def staying(node: Node, chosen: Settings) -> AsyncIterator[None]:
    """What a node does that stays: it answers ``erlmesh health``; if it shall, it lets shells in and looks about."""
    async with AsyncExitStack() as stack:
        began = node._now()

        def report() -> dict[str, Any]:
            others = {"nodes": len(node.nodes()), "hidden": len(node.nodes(hidden=True))}
            busy = {peer: round(seconds, 1) for peer, seconds in node.blocked_peers().items()}
            up = round(node._now() - began, 1)
            return {"port": node.port, "processes": len(node.processes()), "up": up, **others, "busy": busy}

        try:
            server = HealthServer(node.name, report, socket_folders(os.environ))
        except OSError as fault:
            log.info("erlmesh health will find nothing: %s", fault)
        else:
            stack.callback(server.close)
        if chosen.lets_in:
            host_shells(node)
        if chosen.discover:
            base = node.name.partition("@")[0] if isinstance(chosen.form.get("epmd"), FixedPort) else None
            look = Look(chosen.discover, epmd_port=default_port(), base=base)
            await stack.enter_async_context(Discovery(node, look))
        yield


async def meet(node: Node, peers: Sequence[str]) -> None:
    """Pings each of ``peers``; says on stderr which are not there, and why. They are looked for from then on."""
    for peer in peers:
        if not await node.ping(peer):
            print(f"erlmesh: did not meet {why_not(node, peer)}", file=sys.stderr)
            node.keep_connecting(peer)


def why_not(node: Node, peer: str) -> str:
    """``peer`` and the reason why it was not met, in words."""
    reason = node.last_connect_error(peer) or "it closed the connection"
    return reason if peer in reason else f"{peer}: {reason}"


@asynccontextmanager
async def looking_in(options: argparse.Namespace, target: str) -> AsyncIterator[tuple[Node, str]]:
    """A hidden node connected with ``target``, and that one's full name. Raises ConnectError if it is not there."""
    host = host_of(options, os.environ)
    peer = complete_name(target, host)
    name = complete_name(options.name, host) if options.name else passing_name(peer)
    cookie = find_cookie(options.cookie, options.cookie_file, os.environ)
    async with Node(name, cookie=cookie, hidden=True, **way(options, os.environ)) as node:
        if not await node.ping(peer):
            raise ConnectError(why_not(node, peer))
        yield node, peer


async def busy_nodes(node: Node, peer: str) -> dict[str, float]:
    """The nodes whose loops are held, as ``peer`` knows, with seconds; none if it is a BEAM, which does not know."""
    request: Term = (Atom("call"), Atom("erlmesh"), Atom("blocked_peers"), [], Atom("user"))
    return read_busy(await node.call((Atom("rex"), Atom(peer)), request))
