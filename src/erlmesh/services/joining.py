"""Waits until a node that starts has met the cluster that it joins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from erlmesh.runtime.runtime import Runtime
from erlmesh.services.global_.names import GlobalNames
from erlmesh.terms import Atom

__all__ = ["PeerNames", "wait_until_joined"]

PeerNames: TypeAlias = Callable[[], Iterable[Atom | str] | None]
"""Names nodes of a cluster that connect with this one. None: they are not known yet."""

LOOK_INTERVAL: Final = 0.01
"""Seconds between two looks at the connections and at ``global``. Both change by many small steps."""


async def wait_until_joined(
    node: Runtime, global_: GlobalNames, joins: Iterable[PeerNames], timeout: float | None
) -> bool:
    """See :meth:`erlmesh.Node.joined`."""
    deadline = None if timeout is None else node.now() + timeout
    while not all(_is_joined(node, global_, names()) for names in joins):
        if deadline is not None and node.now() >= deadline:
            return False
        await asyncio.sleep(LOOK_INTERVAL)
    return True


def _is_joined(node: Runtime, global_: GlobalNames, names: Iterable[Atom | str] | None) -> bool:
    if names is None:
        return False
    peers = [Atom(name).name for name in names]
    if not peers:
        return True
    connected = {*node.nodes(), *node.nodes(hidden=True)}
    met = [peer for peer in peers if peer in connected]
    # A node that could not be reached does not count if another one was: that one reports all that exist.
    if not met or not all(peer in connected or node.last_connect_error(peer) is not None for peer in peers):
        return False
    if node.hidden:
        return True
    state = global_.statistics()
    visible = {*node.nodes()}
    return not state.in_session and {*state.known} <= visible and {*met} & visible <= {*state.synced}
