"""``node.shards``: which node holds which shard. The public object, and the process that stops with the node.

Two processes belong to it. The *member* joins the groups; other nodes see its pid as the holder. It is a handler, or
the process that the user has passed. The *guard* has a task, so the node tells it when it stops, and waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from erlmesh.core.sharding.names import holders_group, shard_key, shard_of
from erlmesh.core.sharding.rendezvous import key_bytes
from erlmesh.errors import NodeNotAlive
from erlmesh.services.sharding.events import EventQueue, Release, ShardEvent, Take
from erlmesh.services.sharding.shard_server import LOOK_INTERVAL, ShardServer, ShardSettings
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.server import Pg

__all__ = ["Shards"]

log = logging.getLogger("erlmesh.shards")

EVENT: Final = Atom("shards")
"""The first element of the messages that a process gets: ``(Atom("shards"), event)``."""
MAX_SHARDS: Final = 65_536
_ENDED: Final = Atom("erlmesh_shards_ended")


def shard_settings(
    name: str | bytes, shards: int, settle: float, quorum: int, release_timeout: float | None
) -> ShardSettings:
    """Check the arguments of ``node.shards``. Raises ``ValueError`` and ``TypeError``."""
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise ValueError(f"shards is a number from 1 to {MAX_SHARDS}, not {shards!r}")
    if isinstance(quorum, bool) or not isinstance(quorum, int) or quorum < 1:
        raise ValueError(f"quorum is a number of nodes, 1 or more, not {quorum!r}")
    if not settle >= 0:
        raise ValueError(f"settle is a number of seconds, 0 or more, not {settle!r}")
    if release_timeout is not None and not release_timeout >= 0:
        raise ValueError(f"release_timeout is a number of seconds, 0 or more, or None, not {release_timeout!r}")
    return ShardSettings(key_bytes(name), shards, settle, quorum, release_timeout)


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
        process: LocalProcess | None = None,
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

    # Life

    def start(self) -> None:
        """Become a candidate: wait for ``node.joined()``, listen for ``settle`` seconds, then join. It returns at once.

        Raises ``RuntimeError`` if it was started before.
        """
        if self._server is not None:
            raise RuntimeError("shards start once: call node.shards again")
        member = self._process
        if member is None:
            member = self._node.spawn_handler(self._on_message, on_end=self._member_ended)
        self._member = member
        self._server = ShardServer(self._node, self._pg, self._settings, member, _User(self))
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
        """The process that holds ``shard``. If there are two for a moment, it is the one that will stay."""
        name = self._settings.name
        return self._pg.owner(holders_group(name, shard), shard_key(name, shard))

    def may_act(self, shard: int) -> bool:
        """True from the Take of ``shard`` until its Release, unless this node was cut off or stood still.

        With a ``quorum``, ask this before each act that no other node may do at the same time: the answer comes from
        the clock, also before the Release has arrived.
        """
        return self._server is not None and self._server.may_act(shard)

    # The guard

    async def _run_guard(self, me: LocalProcess, member: LocalProcess) -> None:
        me.trap_exit = True
        server = self._server
        if server is None or self._finished.is_set():
            return  # The block was left at once.
        server.listen()
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
            log.warning("%s: the cluster of the option join is not reached; shards are held without it", self._name)
        await asyncio.sleep(self._settings.settle)
        server.join()

    def _member_ended(self) -> None:
        if self._server is not None:
            self._server.close()

    def _on_message(self, _message: Term) -> None:
        log.debug("%s: a message to the holder is ignored: pass process= to get them", self._name)

    # What the server says

    def _taken(self, shard: int) -> None:
        self._put(Take(shard, self._name))

    def _let_go(self, shard: int) -> None:
        if shard in self._releases or self._server is None:
            return  # Asked already. Who takes the shard next does not matter to the user.
        release = Release(shard, self._name, self._release_done)
        seconds = self._settings.release_timeout
        if self._settings.quorum > 1:  # Others take over soon after the fence has closed.
            seconds = min(LOOK_INTERVAL * self._node.net_ticktime, seconds if seconds is not None else float("inf"))
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
        log.warning("%s: shard %d was not released in time; another node may take it", self._name, release.shard)
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
    """What the server calls."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def taken(self, shard: int) -> None:
        self._shards._taken(shard)

    def let_go(self, shard: int, to: Pid | None) -> None:  # noqa: ARG002 - the user need not know who is next
        self._shards._let_go(shard)

    def stay(self, shard: int) -> None:
        pass  # The user was told to release, and cannot be told otherwise.

    def ended(self) -> None:
        self._shards._ended()
