"""A guest of a Phoenix.Tracker: its processes are tracked by a shard on an Elixir node.

The shard links itself with each process that it tracks. If the connection is lost, that link would end the process. So
the shard tracks a *stand-in*: a process of this node that ends with the tracked one, and survives the shard.

Each attempt to track has a stand-in of its own. The other nodes still know the entries of a lost one. They refuse the
same pid and key until that node is forgotten, after 20 minutes.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.phash2 import phash2
from erlmesh.core.phoenix_pubsub.guest_peers import GuestPeers
from erlmesh.core.phoenix_pubsub.names import pubsub_atom, topic_bytes
from erlmesh.core.phoenix_tracker.entries import Entry
from erlmesh.core.phoenix_tracker.messages import shard_name
from erlmesh.core.phoenix_tracker.presence_shape import Presences, grouped
from erlmesh.errors import CallError, TrackerError
from erlmesh.net.event_log import event_log
from erlmesh.node import Process
from erlmesh.phoenix.start_stop import StartStop
from erlmesh.phoenix.tracker_entries import EntryMaker, Meta, pid_of, wire_term
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms import Atom, Map, Pid, Ref, Term, exact_key
from erlmesh.terms.foreign_text import ForeignText, foreign_text

if TYPE_CHECKING:
    from collections.abc import Hashable

    from erlmesh.node import Node

__all__ = ["TrackerGuest"]

_peer_log = PeerLog(event_log("erlmesh.phoenix"))

TRACK, UPDATE, MOVE = Atom("track"), Atom("update"), Atom("move")
MAX_POOL_SIZE: Final = 1024


class _Tracked:
    """One process under one key."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.stand_in: Process | None = None
        self.shard: tuple[Atom, Atom] | None = None
        """The shard that tracks the stand-in, and its node. None while no shard does."""
        self.lock = asyncio.Lock()
        """Held while it is tracked, which makes a new stand-in."""


class TrackerGuest(StartStop):
    """The Phoenix.Tracker, or Phoenix.Presence, ``name`` of an Elixir node, used from outside. ::

        async with TrackerGuest(node, ["web1@10.0.0.5", "web2@10.0.0.6"], "MyAppWeb.Presence") as presence:
            await presence.track(me, "gpus", "gpu-1", {a.model: "A100"})
            await presence.list("gpus")

    This node is no replica, needs no PubSub, and gets no messages of the Tracker. The pool size is found by itself. The
    changes of a topic come as ``presence_diff`` by :class:`PubSubGuest`, if the module is a Phoenix.Presence.

    ``peers`` is the name of an Elixir node, or several in the order of preference. When the node in use is lost, the
    processes are tracked on the next one. In between, the lists may show them twice or not at all.

    The pid in the lists is not that of the process, but of one that ends with it. For ``any_key`` see :class:`Tracker`.
    """

    def __init__(
        self, node: Node, peers: str | Atom | Iterable[str | Atom], name: str | Atom, *, any_key: bool = False
    ) -> None:
        self.node = node
        self.name = pubsub_atom(name)
        self._peers = GuestPeers(peers)
        self._maker = EntryMaker(node.internals.atom, any_key=any_key)
        self._pool_sizes: dict[Atom, int] = {}
        self._tracked: dict[Hashable, _Tracked] = {}
        self._mover: Pid | None = None

    async def start(self) -> None:
        """Start the process that tracks again what was lost. It connects to no node yet."""
        if self._mover is None:
            self._mover = self.node.spawn(self._move)

    async def stop(self) -> None:
        """Untrack all processes."""
        mover, self._mover = self._mover, None
        for tracked in [*self._tracked.values()]:
            self._drop(tracked)
        if mover is not None:
            self.node.exit(mover, Atom("shutdown"))

    @property
    def peer(self) -> str:
        """The Elixir node that is used now, or tried next."""
        return self._peers.current.name

    # Lists

    async def list(self, topic: str | bytes, *, timeout: float = 5.0) -> builtins.list[tuple[Term, Map]]:
        """The keys and metas of a topic, as ``Phoenix.Tracker.list``. Raises TrackerError, and CallTimeout."""
        found = await self._any_peer(
            lambda peer: self.node.rpc(
                peer, "Elixir.Phoenix.Tracker", "list", [self.name, topic_bytes(topic)], timeout=timeout
            )
        )
        match found:
            case [*pairs] if all(type(pair) is tuple and len(pair) == 2 and type(pair[1]) is Map for pair in pairs):
                return pairs
        raise TrackerError(f"{self.peer} has answered the list of a topic with {foreign_text(found)}")

    async def grouped(self, topic: str | bytes, *, timeout: float = 5.0) -> Presences:
        """The same in the shape of ``Phoenix.Presence.list``, without what its ``fetch`` adds."""
        return grouped(await self.list(topic, timeout=timeout))

    # Tracking

    async def track(
        self, process: Pid | Process, topic: str | bytes, key: object, meta: Meta, *, timeout: float = 5.0
    ) -> bytes:
        """Track a process until it ends. Return its ``phx_ref``. See :meth:`Tracker.track` for the arguments.

        Raises ValueError if the process has this key already, TrackerError if no node of the list has the Tracker,
        and CallTimeout.
        """
        entry = self._maker.entry(process, topic, key, meta)
        unique = _unique(entry)
        if self._mover is None:
            raise TrackerError("the guest is not started: use `async with TrackerGuest(node, ...)`")
        if unique in self._tracked:
            raise ValueError(f"{entry.pid!r} is tracked already under {key!r} of {topic!r}: use update")
        tracked = self._tracked[unique] = _Tracked(entry)
        try:
            async with tracked.lock:
                ref: bytes = await self._any_peer(lambda peer: self._track(tracked, peer, timeout))
        except BaseException:
            self._drop(tracked)
            raise
        return ref

    async def update(
        self, process: Pid | Process, topic: str | bytes, key: object, meta: Meta, *, timeout: float = 5.0
    ) -> bytes:
        """Replace the meta of a tracked process. Return the new ``phx_ref``. Raises KeyError if it is not tracked."""
        entry = self._maker.entry(process, topic, key, meta)
        tracked = self._tracked.get(_unique(entry))
        if tracked is None:
            raise KeyError(f"{entry.pid!r} is not tracked by this guest under {key!r} of {topic!r}: use track")
        tracked.entry = entry
        if tracked.shard is None:
            raise TrackerError("no node can be used now. The new meta counts as soon as one can")
        return await self._call(tracked, tracked.shard[1], UPDATE, timeout)

    async def untrack(self, process: Pid | Process, topic: str | bytes | None = None, key: object = None) -> None:
        """Stop tracking a process: under one key of a topic, or under all keys, if it is tracked."""
        pid = pid_of(process)
        if (topic is None) != (key is None):
            raise TypeError("untrack takes a topic and a key, or neither")
        if topic is None:
            for tracked in [each for each in self._tracked.values() if each.entry.pid == pid]:
                self._drop(tracked)
        else:
            found = self._tracked.get(_unique(Entry(pid, topic_bytes(topic), wire_term(key), Map())))
            if found is not None:
                self._drop(found)

    # Stand-ins

    def _renew_stand_in(self, tracked: _Tracked) -> None:
        def handle(message: Term) -> None:
            match message:
                case (Atom("DOWN"), Ref(), _, _, _):
                    self._drop(tracked)
                case (Atom("EXIT"), Pid() as other, reason) if tracked.shard and tracked.shard[1] is other.node:
                    # The shard has ended, or its node is lost. Another node tracks the process from now on.
                    _peer_log.write(
                        logging.WARNING,
                        "tracker_guest_moved",
                        other.node.name,
                        "a shard of %s is lost: %s",
                        self.name,
                        ForeignText(reason),
                        reason=reason,
                    )
                    self._pool_sizes.pop(other.node, None)
                    lost()
                case _:
                    stand_in.unhandled(message)

        def lost() -> None:
            # Also called when another process has killed the stand-in: a pid is no secret.
            if tracked.stand_in is stand_in and self._is_current(tracked):
                tracked.shard = None
                self._move_lost()

        before = tracked.stand_in
        stand_in = tracked.stand_in = self.node.spawn_handler(handle, on_end=lost)
        stand_in.monitor(tracked.entry.pid)
        if before is not None:
            before.stop()

    def _move_lost(self) -> None:
        if self._mover is not None and not self.node.internals.is_stopping:
            self.node.send(self._mover, MOVE)

    def _drop(self, tracked: _Tracked) -> None:
        """The end of the stand-in ends its presence, by the link of the shard."""
        if self._is_current(tracked):
            del self._tracked[_unique(tracked.entry)]
        if tracked.stand_in is not None:
            tracked.stand_in.stop()

    def _is_current(self, tracked: _Tracked) -> bool:
        """False if the process has ended, or was untracked, while a call was under way."""
        return self._tracked.get(_unique(tracked.entry)) is tracked

    async def _move(self, me: Process) -> None:
        """Track again what was lost, until a node has all of it. If another process ends it, it starts again."""
        try:
            async for _ in me:
                await self._track_lost()
        finally:
            if self._mover == me.pid and not self.node.internals.is_stopping:
                self._mover = self.node.spawn(self._move)
                self._move_lost()

    async def _track_lost(self) -> None:
        while lost := [each for each in self._tracked.values() if each.shard is None]:
            peer = self._peers.current
            try:
                for tracked in lost:
                    async with tracked.lock:
                        if self._is_current(tracked) and tracked.shard is None:
                            await self._track(tracked, peer, 5.0)
                self._peers.succeeded()
            except (CallError, TrackerError) as error:
                _peer_log.write(
                    logging.WARNING,
                    "tracker_guest_failed",
                    peer.name,
                    "cannot track on %s: %s",
                    peer,
                    ForeignText(error),
                    reason=error,
                )
                await asyncio.sleep(max(0.05, self._peers.failed(peer, self.node.internals.random)))

    # Calls

    async def _any_peer(self, work: Callable[[Atom], Any]) -> Any:
        """Return what ``work(peer)`` returns on the first node that can be used."""
        errors: builtins.list[str] = []
        for _ in self._peers.all:
            peer = self._peers.current
            try:
                result = await work(peer)
            except (CallError, TrackerError) as error:
                errors.append(f"{peer.name}: {error}")
                self._peers.failed(peer, self.node.internals.random)
            else:
                self._peers.succeeded()
                return result
        raise TrackerError(f"no node has the Tracker {self.name.name.removeprefix('Elixir.')}. {'; '.join(errors)}")

    async def _track(self, tracked: _Tracked, peer: Atom, timeout: float) -> bytes:
        self._renew_stand_in(tracked)
        return await self._call(tracked, peer, TRACK, timeout)

    async def _call(self, tracked: _Tracked, peer: Atom, what: Atom, timeout: float) -> bytes:
        assert tracked.stand_in is not None
        entry = tracked.entry
        number = phash2(entry.topic, await self._pool_size(peer, timeout))
        shard = (shard_name(self.name, number), peer)
        answer = await self.node.call(
            shard, (what, tracked.stand_in.pid, entry.topic, entry.key, entry.meta), timeout=timeout
        )
        match answer:
            case (Atom("ok"), bytes() as ref):
                tracked.shard = shard
                if not self._is_current(tracked):
                    self._drop(tracked)
                return ref
        raise TrackerError(f"{peer.name} has refused to {what.name} the process: {foreign_text(answer)}")

    async def _pool_size(self, peer: Atom, timeout: float) -> int:
        """The number of shards on a node: they are registered there."""
        if (known := self._pool_sizes.get(peer)) is not None:
            return known
        size = 0
        while size < MAX_POOL_SIZE:
            name = shard_name(self.name, size)
            if not isinstance(await self.node.rpc(peer, "erlang", "whereis", [name], timeout=timeout), Pid):
                break
            size += 1
        if not size:
            raise TrackerError("it has no such Tracker: check the name")
        self._pool_sizes[peer] = size
        return size


def _unique(entry: Entry) -> Hashable:
    return (entry.pid, entry.topic, exact_key(entry.key))
