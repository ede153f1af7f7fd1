"""Meeting other nodes at the start, and looking in on one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from erlmesh.cli.cookie import find_cookie
from erlmesh.cli.forms import host_of, way
from erlmesh.cli.settings import complete_name, passing_name
from erlmesh.errors import ConnectError
from erlmesh.node import Node

__all__ = ["looking_in", "meet", "why_not"]


async def meet(node: Node, peers: Sequence[str]) -> None:
    """Pings each of ``peers``; says on stderr which are not there, and why."""
    for peer in peers:
        if not await node.ping(peer):
            print(f"erlmesh: did not meet {why_not(node, peer)}", file=sys.stderr)


def why_not(node: Node, peer: str) -> str:
    """``peer`` and the reason why it was not met, in words."""
    reason = node.why_not(peer) or "it closed the connection"
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
