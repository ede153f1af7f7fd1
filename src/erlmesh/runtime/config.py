"""The options of a node, for type checkers. What they mean is said at :class:`erlmesh.Node`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

from erlmesh.net.network import Network
from erlmesh.net.resolvers import PortMapper, Resolver

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """Those of :class:`Runtime`, but for ``reconnect``."""

    cookie: str | None
    cookies: Mapping[str, str] | None
    allow: Iterable[str] | None
    hidden: bool
    net_ticktime: float
    listen: str | Iterable[str] | None
    ports: Iterable[int] | None
    advertise_port: int | None
    epmd: PortMapper | None
    network: Network | None
    resolver: Resolver | None
    seed: int | None
