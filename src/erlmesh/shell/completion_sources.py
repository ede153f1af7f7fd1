"""Collect the names for Tab completion: nodes, groups and registered names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ErlmeshError
from erlmesh.net.epmd import default_port, registered_names
from erlmesh.shell.completion import LiveNames

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["CompletionSources"]

EPMD_TIMEOUT: Final = 0.3
"""Seconds to wait for EPMD. Tab must stay fast, so the previous answer is used after that."""


class CompletionSources:
    """The names that ``node`` knows, and the nodes that the EPMD of its host knows."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._epmd_nodes: list[str] = []

    async def refresh(self) -> LiveNames:
        """Ask EPMD for the nodes of this host, connected or not, and return all live names."""
        host = self._node.name.partition("@")[2]
        with contextlib.suppress(OSError, TimeoutError, ErlmeshError):
            async with asyncio.timeout(EPMD_TIMEOUT):
                self._epmd_nodes = [f"{name}@{host}" for name in await registered_names(host, default_port())]
        return LiveNames(self._nodes, self._atoms)

    def _nodes(self) -> Iterable[str]:
        node = self._node
        return [node.name, *node.nodes(), *node.nodes(hidden=True), *self._epmd_nodes]

    def _atoms(self) -> Iterable[str]:
        node = self._node
        groups = [*node.pg.which_groups(), *node.pg2.which_groups(), *node.global_.registered()]
        return [getattr(group, "name", "") for group in groups if hasattr(group, "name")] + node.internals.registered()
