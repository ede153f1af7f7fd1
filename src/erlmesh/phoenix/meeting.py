"""Waits until the members of a PubSub know each other, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.core.phoenix_pubsub.names import SCOPE
from erlmesh.core.phoenix_pubsub.worker_book import WorkerBook
from erlmesh.errors import CallError
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["Now", "wait_until_met"]

LOOK_INTERVAL: Final = 0.01
"""Seconds between two looks. pg changes by messages of several nodes."""

Now = Callable[[], tuple[WorkerBook, Pid]]
"""Returns the known workers of other nodes, and the worker of this node."""


async def wait_until_met(node: Node, adapter: Atom, now: Now) -> None:
    """Return when another node has the PubSub, and each connected one that has it is met.

    Met means: the workers that the pg of that node lists are known here, and it lists our worker in each of their
    groups. So what either side broadcasts from now on reaches the other one. The caller sets a time limit.
    """
    met: dict[Atom, tuple[Pid, list[Atom]]] = {}
    while True:
        book, worker = now()
        asked = [peer for peer in _peers(node, book) if met.get(peer) != (worker, book.groups_of(peer))]
        looks = await asyncio.gather(*[_look(node, adapter, now, peer) for peer in asked])
        for peer, is_met in zip(asked, looks, strict=True):
            book, worker = now()
            if is_met:
                met[peer] = (worker, book.groups_of(peer))
            else:
                met.pop(peer, None)
        if any(peer in met for peer in book.nodes()) and all(peer in met for peer in _peers(node, book)):
            return
        await asyncio.sleep(LOOK_INTERVAL)


def _peers(node: Node, book: WorkerBook) -> list[Atom]:
    """The nodes that may have the PubSub. To a hidden node every other node is a hidden one."""
    names = [*node.nodes(), *node.nodes(hidden=True)] if node.internals.hidden else node.nodes()
    return list(dict.fromkeys([*map(Atom, names), *book.nodes()]))


async def _look(node: Node, adapter: Atom, now: Now, peer: Atom) -> bool:
    """Return whether ``peer`` is met, or has no such PubSub, or cannot be asked."""
    groups = now()[0].groups_of(peer) or [adapter, Atom(f"{adapter.name}_1")]
    try:
        listed = await asyncio.gather(*[_members(node, peer, group) for group in groups])
    except CallError:
        return peer not in now()[0]  # It has no such function, or is lost.
    book, worker = now()
    if peer in book:
        return all(
            worker in members and {pid for pid in members if pid.node is peer} == book.workers_of(peer, group)
            for group, members in zip(groups, listed, strict=True)
        )
    return not any(pid.node is peer for members in listed for pid in members)


async def _members(node: Node, peer: Atom, group: Atom) -> list[Pid]:
    listed: Term = await node.rpc(peer, "pg", "get_members", [SCOPE, group], timeout=None)
    return [pid for pid in listed if isinstance(pid, Pid)] if isinstance(listed, list) else []
