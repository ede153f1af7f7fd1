"""``node.shards``: which node holds which shard. The public object, and the process that stops with the node.

Two processes belong to it. The *member* joins the groups; other nodes see its pid as the holder. It is a handler, or
the process that the user has passed. The *guard* has a task, so the node tells it when it stops, and waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from erlmesh.core.sharding.arguments import (
    MAX_SECONDS,
    checked_count,
    checked_keeper,
    checked_name,
    checked_seconds,
)
from erlmesh.core.sharding.names import holders_group, shard_key, shard_of
from erlmesh.core.sharding.rendezvous import key_bytes
from erlmesh.errors import NodeNotAlive
from erlmesh.net.event_log import event_log
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.sharding.events import EventQueue, Release, ShardEvent, Take
from erlmesh.services.sharding.granter import CLAIM_INTERVAL
from erlmesh.services.sharding.settings import ShardSettings
from erlmesh.services.sharding.shard_server import ShardServer
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.core.sharding.keeper import Keeper, Merge
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.server import Pg
    from erlmesh.services.sharding.keeping import Keeping, KeepSettings

__all__ = ["Shards"]

log = event_log("erlmesh.shards")

EVENT: Final = Atom("shards")
"""The first element of the messages that a process gets: ``(Atom("shards"), event)``."""
MAX_SHARDS: Final = 65_536
ANSWER_TIMEOUT: Final = 5.0
"""Seconds to wait for the answers of connected nodes, as for ``node.joined()``."""
_ENDED: Final = Atom("erlmesh_shards_ended")


def shard_settings(
    name: str | bytes, shards: int, settle: float, quorum: int, release_timeout: float | None
) -> ShardSettings:
    """Check the arguments of ``node.shards``. Raises ``ValueError`` and ``TypeError``."""
    encoded = checked_name(name, "shards")
    checked_count(shards, f"shards is a number from 1 to {MAX_SHARDS}", 1, MAX_SHARDS)
    checked_count(quorum, "quorum is a number of nodes, 1 or more", 1)
    checked_seconds(settle, f"settle is a number of seconds, 0 to {MAX_SECONDS:,}")
    if release_timeout is not None:
        checked_seconds(release_timeout, f"release_timeout is a number of seconds, 0 to {MAX_SECONDS:,}, or None")
    return ShardSettings(encoded, shards, settle, quorum, release_timeout)


def keep_settings(
    keeper: Keeper[Any] | None, backups: int, merge: Merge[Any] | None, results: Term, process: LocalProcess | None
) -> KeepSettings | None:
    """Check the arguments of ``node.shards`` that are about state. Raises ``ValueError`` and ``TypeError``."""
    if keeper is None:
        if merge is not None or results is not None:
            raise ValueError("merge= and results= are for shards with a keeper=")
        return None
    from erlmesh.services.sharding.keeping import KeepSettings  # noqa: PLC0415 - shards without state need it never

    checked_keeper(keeper)
    checked_count(backups, "backups is a number of nodes, 0 or more", 0)
    if merge is not None and not callable(merge):
        raise TypeError(f"merge is a function of two states, or newest, not {merge!r}")
    if process is not None:
        raise ValueError("pass process= or keeper=: the messages for a keeper go to a process of its own")
    return KeepSettings(keeper, backups, merge, None if results is None else normalize_group_name(results))


class Shards:
    """The shards of one name, as one candidate sees them. ``node.shards`` makes it::

        async with node.shards("feeds", shards=64) as shards:
            async for event in shards:
                match event:
                    case Take(shard):
                        running[shard] = asyncio.create_task(consume(shard))
                    case Release(shard):
                        await cancel(running.pop(shard))
                        event.done()

    The loop ends when the node stops, or after :meth:`stop`, and all shards are released. Leave the block only when
    nothing acts for a shard any more: this node then gives up at once what it still holds.

    A process passes itself as ``process``. It gets the events as messages ``(Atom("shards"), event)``, in order with
    all others, and its pid is the holder that other nodes see.
    """

    def __init__(
        self,
        node: Runtime,
        pg: Pg,
        settings: ShardSettings,
        joined: Callable[[], Awaitable[bool]],
        *,
        process: LocalProcess | None = None,
        keep: KeepSettings | None = None,
    ) -> None:
        self._node = node
        self._pg = pg
        self._settings = settings
        self._joined = joined
        self._process = process
        self._name = settings.name.decode(errors="replace")
        self._queue = EventQueue(node)
        self._member: LocalProcess | None = None
        self._server: ShardServer | None = None
        self._guard: Pid | None = None
        self._listening: asyncio.Task[None] | None = None
        self._releases: dict[int, tuple[Release, asyncio.TimerHandle | None]] = {}
        self._finished = asyncio.Event()
        self._lost = 0
        self._keeping: Keeping | None = None
        if keep is not None:
            from erlmesh.services.sharding.keeping import Keeping  # noqa: PLC0415 - shards without state need it never

            self._keeping = Keeping(node, pg, settings.name, settings.shards, keep, on_lost=self._count_lost)

    # Life

    def start(self) -> None:
        """Become a candidate, and return at once.

        It waits for ``node.joined()``, for an answer of each connected node, and for ``settle`` seconds. Then it joins.

        Raises ``RuntimeError`` if it was started before.
        """
        if self._server is not None:
            raise RuntimeError("shards start once: call node.shards again")
        member = self._process
        if member is None:
            receive = self._on_message if self._keeping is None else self._keeping.handle
            member = self._node.spawn_handler(receive, on_end=self._member_ended)
        self._member = member
        self._server = ShardServer(self._node, self._pg, self._settings, member, _User(self, self._keeping))
        self._guard = self._node.spawn(self._run_guard, member)

    async def stop(self) -> None:
        """Leave in order: other nodes take over each shard when it is released. Return when all are."""
        if self._server is not None:
            self._server.stop()
            await self._finished.wait()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # GeneratorExit: the event loop has closed, and the node with it.
        if self._server is not None and kind is not GeneratorExit:
            try:
                if self._keeping is not None:  # The states move to other nodes.
                    async with asyncio.timeout(self._settings.release_timeout):
                        await self.stop()
            except TimeoutError:
                log.warning("shards_not_moved", "%s: not all states have moved to other nodes in time", self._name)
            finally:
                self._server.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ShardEvent:
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        if self._server is not None:
            self._server.look_at_clock()
        return event

    # Questions

    @property
    def name(self) -> str:
        """The name, the same on all nodes."""
        return self._name

    @property
    def shards(self) -> int:
        """The number of shards, the same on all nodes."""
        return self._settings.shards

    @property
    def held(self) -> list[int]:
        """The shards that this candidate holds, also those that it has not released yet."""
        return [] if self._server is None else self._server.book.held

    def of(self, key: str | bytes) -> int:
        """The shard of a key. A ``str`` is its UTF-8. Raises ``TypeError`` for another type."""
        return shard_of(key_bytes(key), self._settings.shards)

    def holder(self, key: str | bytes) -> Pid | None:
        """The process that holds the shard of ``key``, on any node. None if there is none, as this node sees it."""
        return self.holder_of(self.of(key))

    def holder_of(self, shard: int) -> Pid | None:
        """The process that holds ``shard``. If there are two for a moment, it is the one that will stay.

        Raises ``ValueError`` for a number that is not one of a shard.
        """
        self._check_shard(shard)
        name = self._settings.name
        return self._pg.owner(holders_group(name, shard), shard_key(name, shard))

    def may_act(self, shard: int) -> bool:
        """True from the Take of ``shard`` until its Release, unless this node was cut off or stood still.

        With a ``quorum``, ask this before each act that no other node may do at the same time: the answer comes from
        the clock, also before the Release has arrived. Raises ``ValueError`` for a number that is not one of a shard.
        """
        self._check_shard(shard)
        return self._server is not None and self._server.may_act(shard)

    def _check_shard(self, shard: int) -> None:
        if type(shard) is not int or not 0 <= shard < self._settings.shards:
            last = self._settings.shards - 1
            raise ValueError(f"a shard is a number from 0 to {last}, not {shard!r}: of() is the one of a key")

    # State

    @property
    def lost(self) -> int:
        """How many messages merges on this node have lost: by ``merge=newest``, or because a merge has raised."""
        return self._lost

    def state(self, key: str | bytes) -> Any:
        """The state of a key, if this node acts for its shard; else None. Do not change it.

        Raises ``TypeError`` if the shards have no keeper.
        """
        if self._keeping is None:
            raise TypeError("these shards have no state: pass keeper= to node.shards")
        encoded = key_bytes(key)
        return self._keeping.state(shard_of(encoded, self._settings.shards), encoded)

    def backups(self, key: str | bytes) -> list[Pid]:
        """The processes with a confirmed copy of the shard of ``key``, if this node acts for it; else an empty list.

        Raises ``TypeError`` if the shards have no keeper.
        """
        if self._keeping is None:
            raise TypeError("these shards have no state: pass keeper= to node.shards")
        return self._keeping.backups(self.of(key))

    def _count_lost(self, count: int) -> None:
        self._lost += count

    # The guard

    async def _run_guard(self, me: LocalProcess, member: LocalProcess) -> None:
        me.trap_exit = True
        server = self._server
        if server is None or self._finished.is_set():
            return  # The block was left at once.
        server.listen()
        if self._keeping is not None:
            self._keeping.start(server, member)
        if self._process is not None:
            me.monitor(member.pid)
        self._listening = asyncio.create_task(self._listen_then_join(server))
        try:
            while not self._finished.is_set():
                match await me.receive():
                    case (Atom("EXIT"), Pid(), _):
                        server.stop()
                    case (Atom("DOWN"), _, _, Pid() as pid, _) if pid == member.pid:
                        server.close()
        except asyncio.CancelledError:  # An exit signal that cannot be trapped, or the end of the time to stop.
            server.close()
            raise

    async def _listen_then_join(self, server: ShardServer) -> None:
        if not await self._joined():
            log.warning(
                "shards_without_cluster",
                "%s: the cluster is not reached; shards are held without it",
                self._name,
            )
        await self._wait_for_answers()
        await asyncio.sleep(self._settings.settle)
        server.join()

    async def _wait_for_answers(self) -> None:
        """Wait until each connected node has answered. Then it has also told its groups, or does so next.

        A node is connected before its event loop has read anything. If that loop is busy for longer than ``settle``,
        this node would take what the other one holds.
        """
        node = self._node
        asked = {name: asyncio.create_task(node.ping(name)) for name in node.nodes()}
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await asyncio.gather(*asked.values())
        except TimeoutError:
            silent = ", ".join(name for name, task in asked.items() if task.cancelled())
            text = "%s: %s has not answered; shards are held without it"
            log.warning("shards_without_cluster", text, self._name, silent)
        finally:
            for task in asked.values():
                task.cancel()

    def _member_ended(self) -> None:
        if self._server is not None:
            self._server.close()

    def _on_message(self, _message: Term) -> None:
        log.debug(
            "shard_message_ignored", "%s: a message to the holder is ignored: pass process= to get them", self._name
        )

    # What the server says

    def _taken(self, shard: int) -> None:
        self._put(Take(shard, self._name))

    def _let_go(self, shard: int) -> None:
        if shard in self._releases or self._server is None:
            return  # Asked already. Who takes the shard next does not matter to the user.
        release = Release(shard, self._name, self._release_done)
        seconds = self._settings.release_timeout
        if self._settings.quorum > 1:  # Others take over soon after the grants have expired.
            seconds = min(CLAIM_INTERVAL * self._node.net_ticktime, seconds if seconds is not None else float("inf"))
        timer = None
        if seconds is not None:
            timer = asyncio.get_running_loop().call_later(seconds, self._release_late, release)
        self._releases[shard] = (release, timer)
        self._put(release)

    def _release_done(self, release: Release) -> None:
        current, timer = self._releases.get(release.shard, (None, None))
        if current is not release or self._server is None:
            return
        del self._releases[release.shard]
        if timer is not None:
            timer.cancel()
        self._server.released(release.shard)

    def _release_late(self, release: Release) -> None:
        log.warning(
            "shard_release_late",
            "%s: shard %d was not released in time; another node may take it",
            self._name,
            release.shard,
        )
        self._release_done(release)

    def _put(self, event: ShardEvent) -> None:
        if self._process is None:
            self._queue.put(event)
        elif self._process.alive:
            self._process._ops.deliver(self._process, (EVENT, event))

    def _ended(self) -> None:
        for _, timer in self._releases.values():
            if timer is not None:
                timer.cancel()
        self._releases.clear()
        if self._listening is not None:
            self._listening.cancel()
        self._finished.set()
        self._queue.end()
        if self._process is None and self._member is not None:
            self._member.stop()
        guard = None if self._guard is None else self._node.local_process(self._guard)
        try:
            if guard is not None:
                guard.send(guard.pid, _ENDED)
        except NodeNotAlive:
            pass  # The node has stopped, and the guard with it.


class _User:
    """What the server calls: it acts by events, or by the keeper of the states."""

    def __init__(self, shards: Shards, keeping: Keeping | None) -> None:
        self._shards = shards
        self._keeping = keeping

    def taken(self, shard: int) -> None:
        if self._keeping is None:
            self._shards._taken(shard)
        else:
            self._keeping.taken(shard)

    def let_go(self, shard: int, to: Pid | None) -> None:
        if self._keeping is None:  # The user need not know who is next.
            self._shards._let_go(shard)
        else:
            self._keeping.let_go(shard, to)

    def stay(self, shard: int) -> None:
        if self._keeping is not None:  # The user was told to release, and cannot be told otherwise.
            self._keeping.stay(shard)

    def ended(self) -> None:
        if self._keeping is not None:
            self._keeping.ended()
        self._shards._ended()
