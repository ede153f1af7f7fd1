"""A node that an Elixir supervisor has started under a port (``erlmesh start --under-port``).

The cookie comes from the guard. When the node is connected and knows the groups of the other nodes, it prints an event
(:mod:`erlmesh.cli.port_log`). The other half is ``elixir/lib/erlmesh.ex``.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Sequence
from typing import Final

from erlmesh.cli.hidden_client import connect_failure
from erlmesh.cli.output import print_error
from erlmesh.cli.port_guard import GuardConnection, guard_connection
from erlmesh.cli.port_log import configure_port_log, print_event
from erlmesh.cli.settings import NodeSettings
from erlmesh.errors import ConnectError, ErlmeshError, NodeStartError
from erlmesh.net.cookie_files import validated_cookie
from erlmesh.node import Node
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom

__all__ = ["PortSession", "open_port_session"]

COOKIE_TIMEOUT: Final = 30.0
"""Seconds until the first line of stdin."""
SYNC_TIMEOUT: Final = 5.0
"""Seconds until a scope of another node has sent its groups."""
POLL_INTERVAL: Final = 0.01
MAX_COOKIE: Final = 1024


def open_port_session(wait_for: Sequence[str] = ()) -> PortSession:
    """Set up the log and read the cookie. Raises NodeStartError without one, and ValueError without a guard.

    ``wait_for`` are the registered names without which the node is not ready.
    """
    guard = guard_connection()
    if guard is None:
        raise ValueError("--under-port must be written in full, and only in `erlmesh start`")
    configure_port_log()
    return PortSession(guard, validated_cookie(_read_cookie(guard.fd), "stdin"), wait_for)


def _read_cookie(fd: int) -> str:
    poll, data = select.poll(), b""
    poll.register(fd, select.POLLIN)
    while b"\n" not in data and len(data) < MAX_COOKIE:
        if not poll.poll(COOKIE_TIMEOUT * 1000):
            raise NodeStartError(
                f"--under-port: no cookie came within {COOKIE_TIMEOUT:g} s. Write it to stdin as a line"
            )
        more = os.read(fd, MAX_COOKIE)
        if not more:
            raise NodeStartError("--under-port: stdin ended before the cookie. Write the cookie as the first line")
        data += more
    return data.partition(b"\n")[0].decode("latin-1").rstrip("\r")


class PortSession:
    """The port of one node. ``cookie`` is the cookie of the BEAM that started it."""

    def __init__(self, guard: GuardConnection, cookie: str, wait_for: Sequence[str]) -> None:
        self.cookie = cookie
        self._wait_for = wait_for
        self.code = 0
        """The exit status that the start of the node demands."""
        self._guard = guard

    def send_grace(self, seconds: float) -> None:
        """Tell the guard the grace of the node."""
        self._guard.send_grace(seconds)

    def _watch_guard(self, stop_requested: asyncio.Event) -> None:
        """Set ``stop_requested`` when the guard ends, where the kernel does not kill the node then."""
        loop = asyncio.get_running_loop()

        def on_input() -> None:
            if not os.read(self._guard.fd, MAX_COOKIE):
                loop.remove_reader(self._guard.fd)
                stop_requested.set()

        loop.add_reader(self._guard.fd, on_input)

    async def join(self, node: Node, settings: NodeSettings, stop_requested: asyncio.Event) -> None:
        """Connect to the peers of ``settings``, wait until their groups and our names are known, and print ``ready``.

        If that fails, print the reason, set ``code`` to 1 and request the stop.
        """
        try:
            self._watch_guard(stop_requested)
            await self._connect(node, settings)
        except Exception as error:
            print_error(error)
            self.code = 1
            stop_requested.set()
        else:
            print_event("ready", node.name, str(os.getpid()))

    async def _connect(self, node: Node, settings: NodeSettings) -> None:
        for peer in settings.join:
            if not await node.ping(peer):
                raise ConnectError(f"cannot connect: {connect_failure(node, peer)}")
        has_groups = settings.config.hidden_groups or not settings.config.hidden
        for peer in settings.join if has_groups else ():
            await _wait_for_groups(node, node.pg, Atom(peer))
        while any(node.whereis(name) is None for name in self._wait_for):  # noqa: ASYNC110 - a name has no event
            await asyncio.sleep(POLL_INTERVAL)


async def _wait_for_groups(node: Node, scope: Pg, peer: Atom) -> None:
    """Wait until the scope of ``peer`` has sent its groups. Many BEAMs do not run the default scope."""
    try:
        server = await node.rpc(peer, "erlang", "whereis", [scope.scope])
    except ErlmeshError:
        return  # a peer that does not answer this has no groups to wait for, or is gone again
    if server is Atom("undefined"):
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SYNC_TIMEOUT
    while not scope.knows_groups_of(peer) and loop.time() < deadline:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(POLL_INTERVAL)
