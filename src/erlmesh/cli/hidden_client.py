"""A hidden node that asks one node and ends."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from erlmesh.cli.settings import client_config
from erlmesh.errors import ConnectError
from erlmesh.node import Node

__all__ = ["connect_failure", "hidden_client"]


@asynccontextmanager
async def hidden_client(options: argparse.Namespace, target: str) -> AsyncIterator[tuple[Node, str]]:
    """A hidden node that is connected to ``target``, and the full name of ``target``. Raises ConnectError."""
    config, peer = client_config(options, target)
    async with Node.from_config(config) as node:
        if not await node.ping(peer):
            raise ConnectError(connect_failure(node, peer))
        yield node, peer


def connect_failure(node: Node, peer: str) -> str:
    """``peer`` and the reason of the failed connection."""
    reason = node.last_connect_error(peer) or "it closed the connection"
    return reason if peer in reason else f"{peer}: {reason}"
