"""Calls to the ``global_name_server`` of several nodes at once, and the cluster-wide locks made of them.

A lock belongs to the calling process and is freed everywhere when that process ends. A node without the service, or
one that is gone, counts as locked: ``gen_server:multi_call`` skips it, and so do all users of ``global:set_lock``.
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

    from erlmesh.runtime.process import Process

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
    """The node that everybody locks first and frees last: a queue for all who want the same lock."""
    return max(nodes, key=lambda node: node.name)


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds to wait after the failed ``attempt`` (1, 2, …): at random, up to ¼ s, then twice that, up to 8 s."""
    return rng.uniform(0.001, 8.0 if attempt > 5 else 2.0**attempt / 8)


async def try_lock(me: Process, lock: LockId, nodes: Iterable[Atom]) -> bool:
    """Set ``lock`` on all ``nodes`` or, if one of them refuses, on none."""
    replies = await multi_call(me, nodes, SERVER, (Atoms.SET_LOCK, lock))
    if False not in replies.values():
        return True
    await del_lock(me, lock, [node for node, reply in replies.items() if reply is True])
    return False


async def set_lock(
    me: Process, lock: LockId, nodes: Iterable[Atom | str] | None = None, retries: int | None = None
) -> bool:
    """Lock ``lock``, a pair ``(resource, requester)`` of terms, for ``me`` on ``nodes`` (all nodes, this one included).

    Tries for ever, or ``retries`` more times after the first; then the answer is ``False``. Two processes that give
    the same requester hold the lock together. Raises ``TypeError`` if ``lock`` is no pair.
    """
    check_lock_id(lock)
    everybody = _nodes_or_all(me, nodes)
    attempt = 0
    while not await _try_set_lock(me, lock, everybody, first=attempt == 0):
        attempt += 1
        if retries is not None and attempt > retries:
            return False
        await me.sleep(backoff(attempt, me.node.random))
    return True


async def _try_set_lock(me: Process, lock: LockId, nodes: list[Atom], *, first: bool) -> bool:
    if first or len(nodes) < 2:
        return await try_lock(me, lock, nodes)
    # Somebody competes. Whoever gets the boss wins; the others are not in his way while they try.
    chief = boss(nodes)
    if not await try_lock(me, lock, [chief]):
        return False
    if await try_lock(me, lock, [node for node in nodes if node != chief]):
        return True
    await del_lock(me, lock, [chief])
    return False


async def del_lock(me: Process, lock: LockId, nodes: Iterable[Atom | str] | None = None) -> None:
    """Let go of ``lock`` on ``nodes``; what ``me`` does not hold is left alone.

    A node that is no longer connected let go of it with the connection: asking it would only connect it again.
    """
    check_lock_id(lock)
    await multi_call(me, filter_connected(me, _nodes_or_all(me, nodes)), SERVER, (Atoms.DEL_LOCK, lock))


def del_lock_nowait(me: Process, lock: LockId, nodes: Iterable[Atom]) -> None:
    """The same without waiting for the answers, which go nowhere."""
    nowhere = ImproperList((ALIAS,), me.node._make_ref())
    for node in nodes:
        me.send((SERVER, node), (GEN_CALL, (me.pid, nowhere), (Atoms.DEL_LOCK, lock)), connect=False)


@asynccontextmanager
async def transaction(me: Process, lock: LockId, nodes: Iterable[Atom | str] | None = None) -> AsyncIterator[None]:
    """Hold ``lock`` for the block of an ``async with``, however it ends."""
    everybody = _nodes_or_all(me, nodes)
    await set_lock(me, lock, everybody)
    try:
        yield
    except BaseException:
        del_lock_nowait(me, lock, everybody)  # the process may be ending: it can send, but no longer wait
        raise
    await del_lock(me, lock, everybody)


async def trans(me: Process, lock: LockId, nodes: Iterable[Atom | str] | None, body: Callable[[], Awaitable[T]]) -> T:
    """Run ``body`` while ``me`` holds ``lock`` on ``nodes``, as ``global:trans(Id, Fun, Nodes)``; what it returns."""
    async with transaction(me, lock, nodes):
        return await body()


def filter_connected(me: Process, nodes: Iterable[Atom]) -> list[Atom]:
    """Those of ``nodes`` that are here or connected now."""
    here = {me.node.name, *me.node.nodes(), *me.node.nodes(hidden=True)}
    return [node for node in nodes if node.name in here]


def check_lock_id(lock: LockId) -> None:
    """Raise ``TypeError`` if ``lock`` is no pair."""
    if not isinstance(lock, tuple) or len(lock) != 2:
        raise TypeError("a lock is a pair (resource, requester)")


def _nodes_or_all(me: Process, nodes: Iterable[Atom | str] | None) -> list[Atom]:
    chosen = [me.node.atom, *map(Atom, me.node.nodes())] if nodes is None else map(Atom, nodes)
    return list(dict.fromkeys(chosen))
