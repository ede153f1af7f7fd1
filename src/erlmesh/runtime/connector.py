"""Opens a TCP connection to a node: checks that it may be connected to, resolves its address, connects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from erlmesh.core.allow_list import AllowList
from erlmesh.errors import ConnectError, ErlmeshError
from erlmesh.net.event_log import event_log
from erlmesh.net.network import Network
from erlmesh.net.resolvers import Resolver
from erlmesh.proto.handshake import is_node_name
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["Connector"]

log = event_log("erlmesh")


class Connector:
    """Connects the node ``local_name`` to others. Its errors are texts for the user: each says what to do."""

    def __init__(self, local_name: str, network: Network, resolver: Resolver, allow_list: AllowList) -> None:
        self._local_name = local_name
        self._network = network
        self._resolver = resolver
        self._allow_list = allow_list

    async def dial(self, name: str, make_protocol: Callable[[], asyncio.Protocol], deadline: float) -> None:
        """Connect to ``name``; the transport gets the protocol that ``make_protocol()`` returns.

        ``deadline`` is on the clock of the event loop. Raises ErlmeshError for every failure.
        """
        self._check_allowed(name)
        try:
            async with asyncio.timeout_at(deadline):
                host, port = await self._resolver.resolve(name)
                await self._network.dial(host, port, make_protocol)
        except TimeoutError:
            raise ConnectError(
                f"{name} did not answer within {SETUP_TIMEOUT:g} s: is its host up, and the way to it open?"
            ) from None
        except ErlmeshError:
            raise
        except Exception as error:  # a resolver is code of the user: callers that wait must still get an answer
            log.exception(
                "connect_error", "connecting to %s failed with an unexpected error", ForeignText(name), peer=name
            )
            raise ConnectError(f"cannot reach {name}: {type(error).__name__}: {error}") from error

    def _check_allowed(self, name: str) -> None:
        if not is_node_name(name):
            raise ConnectError(f"{name!r} is not a node name: it must look like name@host")
        if not self._allow_list.allows(name):
            raise ConnectError(f"{name} is not on the allow-list of this node: {', '.join(self._allow_list.entries)}")
        if _is_long_name(self._local_name) != _is_long_name(name):
            long, short = (self._local_name, name) if _is_long_name(self._local_name) else (name, self._local_name)
            raise ConnectError(
                f"{long} is a long node name and {short} a short one, and the two kinds do not mix: "
                "give both nodes a host with a dot (an address, a full domain name), or both one without"
            )


def _is_long_name(name: str) -> bool:
    host = name.partition("@")[2]
    return "." in host or ":" in host  # a colon: an IPv6 address
