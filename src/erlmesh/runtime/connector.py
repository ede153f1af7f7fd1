"""Calls a node: may it be called at all, where does it listen, and a connection to there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from erlmesh.core.allow_list import AllowList
from erlmesh.errors import ConnectError, ErlmeshError
from erlmesh.net.network import Network
from erlmesh.net.resolvers import Resolver
from erlmesh.proto.handshake import is_long_name, is_node_name
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT

__all__ = ["Connector"]

log = logging.getLogger("erlmesh")


class Connector:
    """How the node ``ours`` reaches others."""

    def __init__(self, local_name: str, network: Network, resolver: Resolver, allow_list: AllowList) -> None:
        self._local_name = local_name
        self._network = network
        self._resolver = resolver
        self._allow_list = allow_list

    async def dial(self, name: str, protocol: Callable[[], asyncio.Protocol], deadline: float) -> None:
        """Opens a connection to ``name``, for the protocol that ``protocol()`` makes, before the loop's time is
        ``deadline``. Raises ErlmeshError in words.
        """
        self._check_allowed(name)
        try:
            async with asyncio.timeout_at(deadline):
                host, port = await self._resolver.resolve(name)
                await self._network.dial(host, port, protocol)
        except TimeoutError:
            raise ConnectError(
                f"{name} did not answer within {SETUP_TIMEOUT:g} s: is its host up, and the way to it open?"
            ) from None
        except ErlmeshError:
            raise
        except Exception as fault:  # others wait for the end of this: a resolver of somebody else's must not keep them
            log.exception("dialling %s failed in an unexpected way", name)
            raise ConnectError(f"cannot reach {name}: {type(fault).__name__}: {fault}") from fault

    def _check_allowed(self, name: str) -> None:
        if not is_node_name(name):
            raise ConnectError(f"{name!r} is no node name: it must look like name@host")
        if not self._allow_list.allows(name):
            raise ConnectError(
                f"{name} is not among the nodes that this one may meet: {', '.join(self._allow_list.entries)}"
            )
        if is_long_name(self._local_name) != is_long_name(name):
            long, short = (self._local_name, name) if is_long_name(self._local_name) else (name, self._local_name)
            raise ConnectError(
                f"{long} is a long node name and {short} a short one, and the two kinds do not mix: "
                "give both nodes a host with a dot (an address, a full domain name), or both one without"
            )
