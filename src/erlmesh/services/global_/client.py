"""Calls to the ``global_name_server`` of several nodes at once, and the cluster-wide locks that are made of them.

A lock belongs to the calling process. It is released on all nodes when that process terminates. A node that does not
run the service, or whose connection is lost, counts as locked: ``gen_server:multi_call`` leaves it out of its
replies. OTP's ``global:set_lock`` does the same.

Processes that compete for a lock first lock the *boss* of its nodes. The boss is the node with the greatest name. So
they meet at one node, and only the one that has locked the boss goes on to the other nodes.

Source: ``set_lock``, ``del_lock``, ``trans``, ``the_boss`` and ``random_sleep`` in global.erl.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from erlmesh.core.gen import ALIAS, GEN_CALL
from erlmesh.services.gen_server import multi_call
from erlmesh.services.global_.protocol import SERVER, Atoms, LockId
from erlmesh.terms import Atom, ImproperList

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from erlmesh.runtime.process import LocalProcess

__all__ = [
    "backoff",
    "boss",
    "check_lock_id",
    "del_lock",
    "filter_connected",
    "set_lock",
    "trans",
    "transaction",
    "try_lock",
]

T = TypeVar("T")


def boss(nodes: Iterable[Atom]) -> Atom:
    """The node that every process locks first and releases last."""
    return max(nodes, key=lambda node: node.name)


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds to wait after the failed ``attempt`` (1, 2, …).

    The time is random, up to ¼ s after the first attempt, then up to twice the previous limit, at most 8 s.
    """
    return rng.uniform(0.001, 8.0 if attempt > 5 else 2.0**attempt / 8)


async def try_lock(me: LocalProcess, lock: LockId, nodes: Iterable[Atom]) -> bool:
    """Set ``lock`` on all ``nodes``. If one of them refuses, release it on the others and return False."""
    replies = await multi_call(me, nodes, SERVER, (Atoms.SET_LOCK, lock))
    # A node without a reply counts as locked.
    if False not in replies.values():
        return True
    await del_lock(me, lock, [node for node, reply in replies.items() if reply is True])
    return False


async def set_lock(
    me: LocalProcess, lock: LockId, nodes: Iterable[Atom | str] | None = None, retries: int | None = None
) -> bool:
    """Lock ``lock`` for ``me`` on ``nodes``. None means all connected nodes and this one.

    ``lock`` is a pair of terms, ``(resource, requester)``. Two processes that give the same requester hold the lock
    together. ``retries`` limits the number of further attempts; then the result is False. Without it there is no
    limit. Raises ``TypeError`` if ``lock`` is not a pair.
    """
    check_lock_id(lock)
    targets = _nodes_or_all(me, nodes)
    attempt = 0
    while not await _try_set_lock(me, lock, targets, first=attempt == 0):
        attempt += 1
        if retries is not None and attempt > retries:
            return False
        await me.sleep(backoff(attempt, me._ops.random))
    return True


async def _try_set_lock(me: LocalProcess, lock: LockId, nodes: list[Atom], *, first: bool) -> bool:
    """Attempt the lock once. The first attempt asks all nodes at the same time, further ones ask the boss first."""
    if first or len(nodes) < 2:
        return await try_lock(me, lock, nodes)
    # Another process competes. The one that locks the boss wins. The others lock nothing else meanwhile, so they do not
    # block the winner.
    boss_node = boss(nodes)
    if not await try_lock(me, lock, [boss_node]):
        return False
    if await try_lock(me, lock, [node for node in nodes if node != boss_node]):
        return True
    await del_lock(me, lock, [boss_node])
    return False


async def del_lock(me: LocalProcess, lock: LockId, nodes: Iterable[Atom | str] | None = None) -> None:
    """Release ``lock`` on ``nodes``. A lock that ``me`` does not hold is not touched.

    Only connected nodes are called. The others released the lock when the connection was lost, and a call would
    connect to them again.
    """
    check_lock_id(lock)
    await multi_call(me, filter_connected(me, _nodes_or_all(me, nodes)), SERVER, (Atoms.DEL_LOCK, lock))


def del_lock_nowait(me: LocalProcess, lock: LockId, nodes: Iterable[Atom]) -> None:
    """Release ``lock`` on ``nodes`` without waiting. The replies go to an alias that does not exist."""
    discarded_alias = ImproperList((ALIAS,), me._ops.make_ref())
    for node in nodes:
        me.send((SERVER, node), (GEN_CALL, (me.pid, discarded_alias), (Atoms.DEL_LOCK, lock)), connect=False)


@asynccontextmanager
async def transaction(me: LocalProcess, lock: LockId, nodes: Iterable[Atom | str] | None = None) -> AsyncIterator[None]:
    """Hold ``lock`` for the block of an ``async with``. It is released however the block ends."""
    targets = _nodes_or_all(me, nodes)
    await set_lock(me, lock, targets)
    try:
        yield
    except BaseException:
        del_lock_nowait(me, lock, targets)  # The process may be terminating: it can send, but not wait.
        raise
    await del_lock(me, lock, targets)


async def trans(
    me: LocalProcess, lock: LockId, nodes: Iterable[Atom | str] | None, body: Callable[[], Awaitable[T]]
) -> T:
    """Run ``body`` while ``me`` holds ``lock`` on ``nodes``, as ``global:trans(Id, Fun, Nodes)`` does. Return its
    result.
    """
    async with transaction(me, lock, nodes):
        return await body()


def filter_connected(me: LocalProcess, nodes: Iterable[Atom]) -> list[Atom]:
    """Those of ``nodes`` that are this node or connected to it, also as hidden nodes."""
    connected = {me._ops.atom.name, *me._ops.nodes(), *me._ops.nodes(hidden=True)}
    return [node for node in nodes if node.name in connected]


def check_lock_id(lock: LockId) -> None:
    """Raise ``TypeError`` if ``lock`` is not a pair."""
    if not isinstance(lock, tuple) or len(lock) != 2:
        raise TypeError("a lock is a pair (resource, requester)")


def _nodes_or_all(me: LocalProcess, nodes: Iterable[Atom | str] | None) -> list[Atom]:
    """``nodes`` as atoms without duplicates. None means this node and all connected visible nodes."""
    chosen = [me._ops.atom, *map(Atom, me._ops.nodes())] if nodes is None else map(Atom, nodes)
    return list(dict.fromkeys(chosen))
