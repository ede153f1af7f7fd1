"""Phoenix.Tracker and Phoenix.Presence: which processes are where, on all nodes, without a database."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from erlmesh.behaviours.child_spec import ChildSpec
from erlmesh.core.phash2 import phash2
from erlmesh.core.phoenix_pubsub.message_queue import Overflow
from erlmesh.core.phoenix_pubsub.messages import PubSubStatistics
from erlmesh.core.phoenix_pubsub.names import pubsub_atom, topic_bytes
from erlmesh.core.phoenix_tracker.entries import Entry
from erlmesh.core.phoenix_tracker.messages import shard_name, shard_topic
from erlmesh.core.phoenix_tracker.pool_check import PoolCheck
from erlmesh.core.phoenix_tracker.presence_shape import Presences, grouped
from erlmesh.core.phoenix_tracker.presence_state import Changes
from erlmesh.core.phoenix_tracker.shard_book import ShardCounts, TrackerSettings
from erlmesh.core.supervision import RestartType
from erlmesh.errors import Exit, ProcessStartError, TrackerError
from erlmesh.net.event_log import event_log
from erlmesh.node import Process
from erlmesh.phoenix.inbox import Inbox
from erlmesh.phoenix.presence import Presence, PresenceDiff
from erlmesh.phoenix.start_stop import StartStop
from erlmesh.phoenix.subscription import Subscription
from erlmesh.phoenix.tracker_entries import EntryMaker, Meta, pid_of, wire_term
from erlmesh.phoenix.tracker_shard import TrackerShard
from erlmesh.terms import Atom, Map, Pid, Term

if TYPE_CHECKING:
    from erlmesh.phoenix.pubsub import PubSub

__all__ = ["Tracker"]

log = event_log("erlmesh.phoenix")

KILL: Final = Atom("kill")
LOOK_INTERVAL: Final = 0.05
"""Seconds between two looks in ``ready``."""
MAX_POOL_SIZE: Final = 1024
EVENTS: Final = 10_000
"""Changes that wait for one watcher, unless ``watch`` says otherwise."""

Mode = Literal["full", "read"]


class Tracker(StartStop):
    """The Phoenix.Tracker, or Phoenix.Presence, ``name`` on this node. ::

        async with Tracker(pubsub, "MyAppWeb.Presence") as presence:
            presence.track(me, "gpus", "gpu-1", {"model": "A100"})
            presence.list("gpus")

    ``pubsub`` is the started PubSub that the Elixir module names as its ``pubsub_server``. A node has one Tracker of a
    name. ``mode`` is one of:

    * ``full``: this node is a replica like the others. It tracks processes, and the others know of it.
    * ``read``: it lists and watches what the others track. Nobody knows of it.

    ``pool_size`` must be that of the Elixir module, 1 unless it says otherwise. It is not on the wire: see
    :attr:`pool_mismatch`. ``settings`` are the periods of the Elixir module, if it sets them. With ``any_key``, a key
    may be any term. Without it, a key is a text, an atom or a number: Phoenix.Presence ends on others.

    When the node stops in order, the other nodes forget its entries at once. When it is killed, they leave after
    ``down_period``.
    """

    def __init__(
        self,
        pubsub: PubSub,
        name: str | Atom,
        *,
        mode: Mode = "full",
        pool_size: int = 1,
        settings: TrackerSettings | None = None,
        any_key: bool = False,
    ) -> None:
        if mode not in ("full", "read"):
            raise ValueError(f"mode is 'full' or 'read', not {mode!r}")
        if isinstance(pool_size, bool) or not isinstance(pool_size, int) or not 1 <= pool_size <= MAX_POOL_SIZE:
            raise ValueError(f"pool_size is 1 to {MAX_POOL_SIZE}, not {pool_size!r}")
        self.name = pubsub_atom(name)
        self.mode = mode
        self.pool_size = pool_size
        self._adapter = pubsub.adapter
        self._node = pubsub.node
        self._settings = settings or TrackerSettings()
        self._maker = EntryMaker(self._adapter.own, any_key=any_key)
        self._pool = PoolCheck(self.shown, pool_size)
        self._shards: builtins.list[TrackerShard] = []
        self._guard: Pid | None = None
        self._parent: Pid | None = None
        self._end_watch: Callable[[], None] = lambda: None
        self._inboxes: dict[bytes | None, builtins.list[Inbox]] = {}
        self._statistics = PubSubStatistics()

    # Start and stop

    async def start(self) -> None:
        """Become a replica. Raises ValueError if this node has a Tracker of this name, RuntimeError without PubSub."""
        if self._shards:
            raise RuntimeError(f"the Tracker {self.shown} is started already")
        _ = self._adapter.process  # raises RuntimeError
        try:
            for number in range(self.pool_size):
                self._shards.append(
                    TrackerShard(
                        self._adapter,
                        shard_name(self.name, number),
                        self._settings,
                        speaks=self.mode == "full",
                        on_changes=partial(self._changed, number),
                    )
                )
        except BaseException:
            self._leave()
            raise
        # The replicas of a larger pool have this shard, and those of the same pool do not.
        beyond = topic_bytes(shard_topic(shard_name(self.name, self.pool_size)))
        self._end_watch = self._adapter.subscribe(beyond, self._heard_larger_pool)
        self._guard = self._node.spawn(self._guard_body)

    async def stop(self) -> None:
        """Leave: the other nodes forget the entries of this one at once. All watches end."""
        guard, self._guard = self._guard, None
        self._parent = None
        self._leave()
        if guard is not None:
            self._node.exit(guard, KILL)

    async def start_link(self, parent: Process) -> Pid:
        """Start it with a link to ``parent``, as a child of a supervisor. Raises ProcessStartError."""
        try:
            await self.start()
        except (ValueError, RuntimeError) as error:
            taken = self._node.whereis(shard_name(self.name, 0)) or Atom("undefined")
            raise ProcessStartError(str(error), (Atom("already_started"), taken)) from None
        assert self._guard is not None
        self._parent = parent.pid
        parent.link(self._guard)
        return self._guard

    def child_spec(self, *, id: Term = None, restart: RestartType = "permanent") -> ChildSpec:
        """Return what a supervisor needs. Start it after the PubSub."""
        return ChildSpec(self.name if id is None else id, self.start_link, restart=restart)

    async def _guard_body(self, me: Process) -> None:
        """The process that is told when the node stops, while messages can still be sent.

        With a parent, it ends with it, and its own end is that of the Tracker. Without one it starts again.
        """
        me.trap_exit = True
        stops = False
        try:
            async for message in me:
                match message:
                    case (Atom("EXIT"), Pid() as sender, reason):
                        stops = sender in (self._parent, self._node.internals.pid)
                        if stops:
                            raise Exit(reason)
                    case _:
                        me.unhandled(message)
        finally:
            if self._guard == me.pid:
                if stops or self._parent is not None or self._node.internals.is_stopping:
                    self._guard = None
                    self._leave()
                else:
                    self._guard = self._node.spawn(self._guard_body)

    def _leave(self) -> None:
        shards, self._shards = self._shards, []
        for shard in shards:
            shard.end()
        self._end_watch()
        for inboxes in self._inboxes.values():
            for inbox in tuple(inboxes):
                inbox.end()
        self._inboxes.clear()

    # The other nodes

    async def ready(self, timeout: float | None = 5.0) -> bool:
        """Wait until this node has the entries of all connected nodes. False after ``timeout`` seconds.

        True means: another node has this Tracker, and each connected one that has it has sent its entries. Raises
        TrackerError if the pool size is wrong, as far as that can be known.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._adapter.ready(None)
                await self._wait_for_all()
        except TimeoutError:
            self._raise_mismatch()
            return False
        self._raise_mismatch()
        return True

    async def _wait_for_all(self) -> None:
        """Return when each shard has what the replicas of all connected nodes have."""
        while True:
            waits = [node for shard in self._running() for node in self._adapter.nodes() if shard.waits_for(node)]
            if not waits and self.replicas() and all(shard.book.is_synced() for shard in self._running()):
                break
            await asyncio.sleep(LOOK_INTERVAL)
        first = {node for node, _ in self._shards[0].book.replicas.up()}
        incomplete = {node for node in first for shard in self._shards if shard.is_absent(node)}
        self._log_mismatch(self._pool.incomplete(incomplete))

    def replicas(self) -> builtins.list[str]:
        """The other nodes that have this Tracker, and are up."""
        return sorted({ref[0].name for shard in self._running() for ref in shard.book.replicas.up()})

    @property
    def statistics(self) -> builtins.list[ShardCounts]:
        """Counts of messages since the start, of each shard."""
        return [shard.book.counts for shard in self._running()]

    # What is tracked

    def list(self, topic: str | bytes) -> builtins.list[Presence]:
        """The tracked processes of a topic, on all nodes."""
        key = topic_bytes(topic)
        return [Presence.of(entry) for entry in self._shard(key).book.state.list(key)]

    def get_by_key(self, topic: str | bytes, key: object) -> builtins.list[Presence]:
        """The tracked processes of one key of a topic."""
        name = topic_bytes(topic)
        return [Presence.of(entry) for entry in self._shard(name).book.state.list_key(name, wire_term(key))]

    def grouped(self, topic: str | bytes) -> Presences:
        """The tracked processes of a topic as ``Phoenix.Presence.list``: ``{key: {"metas": [meta, ...]}}``."""
        return grouped((each.key, each.meta) for each in self.list(topic))

    def topics(self) -> builtins.list[str]:
        """The topics with a tracked process."""
        return [
            topic.decode("utf-8", "backslashreplace")
            for shard in self._running()
            for topic in shard.book.state.topics()
            if next(shard.book.state.list(topic), None) is not None
        ]

    def watch(
        self, topic: str | bytes | None = None, *, limit: int = EVENTS, overflow: Overflow = "fail"
    ) -> Subscription[PresenceDiff]:
        """The changes of a topic, or of all, from now on, for ``async for``.

        Call :meth:`list` before the next ``await`` to get the matching initial state. If more than ``limit`` changes
        wait, the watch ends with SubscriptionOverflow, because the reader would miss changes. See
        :meth:`PubSub.subscribe` for other values of ``overflow``.
        """
        self._running()
        key = None if topic is None else topic_bytes(topic)
        inbox = Inbox(self._node.internals, key or b"all topics", limit, overflow, self._statistics)
        inboxes = self._inboxes.setdefault(key, [])
        inboxes.append(inbox)

        def remove() -> None:
            if inbox in inboxes:
                inboxes.remove(inbox)
            if not inboxes and self._inboxes.get(key) is inboxes:
                del self._inboxes[key]

        inbox.on_close = remove
        return Subscription(inbox)

    # Tracking

    def track(self, process: Pid | Process, topic: str | bytes, key: object, meta: Meta) -> bytes:
        """Track a process of any node under a key of a topic, until it ends. Return its ``phx_ref``.

        The other nodes see it with the next beat, within ``broadcast_period``. ``meta`` is a map. Elixir code mostly
        wants atoms as its keys: ``{a.model: "A100"}``. What Phoenix.Presence shows to browsers must be JSON.

        Raises ValueError if the process has this key already (see :meth:`update`) and for a key that Presence cannot
        show, TrackerError for a read replica, and EncodeError for what is not a term.
        """
        shard, entry = self._own_shard(process, topic, key, meta)
        if shard.book.state.own(entry.pid, entry.topic, entry.key) is not None:
            raise ValueError(f"{entry.pid!r} is tracked already under {key!r} of {topic!r}: use update")
        entry = self._maker.with_ref(entry)
        shard.track(entry)
        return Presence.of(entry).ref

    def update(
        self, process: Pid | Process, topic: str | bytes, key: object, meta: Meta | Callable[[Map], Meta]
    ) -> bytes:
        """Replace the meta, or pass the present one to a function. Return the new ``phx_ref``.

        Raises KeyError if the process is not tracked here under this key, and as :meth:`track`.
        """
        shard, wanted = self._own_shard(process, topic, key, {})
        before = shard.book.state.own(wanted.pid, wanted.topic, wanted.key)
        if before is None:
            raise KeyError(f"{wanted.pid!r} is not tracked by this node under {key!r} of {topic!r}: use track")
        entry = self._maker.replaced(before, meta(before.meta) if callable(meta) else meta)
        shard.update(entry)
        return Presence.of(entry).ref

    def untrack(self, process: Pid | Process, topic: str | bytes | None = None, key: object = None) -> None:
        """Stop tracking a process: under one key of a topic, or under all keys of all topics.

        Nothing happens if it is not tracked. Raises TypeError for a topic without a key.
        """
        pid = pid_of(process)
        if (topic is None) != (key is None):
            raise TypeError("untrack takes a topic and a key, or neither")
        if topic is None:
            for shard in self._running():
                shard.untrack_pid(pid)
            return
        name = topic_bytes(topic)
        self._shard(name).untrack(pid, name, wire_term(key))

    # Shards

    def _running(self) -> builtins.list[TrackerShard]:
        if not self._shards:
            raise TrackerError(f"the Tracker {self.shown} is not started: use `async with Tracker(pubsub, ...)`")
        return self._shards

    def _shard(self, topic: bytes) -> TrackerShard:
        return self._running()[phash2(topic, self.pool_size)]

    def _own_shard(
        self, process: Pid | Process, topic: str | bytes, key: object, meta: Meta
    ) -> tuple[TrackerShard, Entry]:
        if self.mode != "full":
            raise TrackerError(f"this Tracker of {self.shown} is a read replica: use mode='full' to track processes")
        entry = self._maker.entry(process, topic, key, meta)
        return self._shard(entry.topic), entry

    def _changed(self, number: int, changes: Changes) -> None:
        self._log_mismatch(self._pool.entries(number, {entry.topic for entry in changes.joins}))
        if not self._inboxes:
            return
        topics: dict[bytes, tuple[builtins.list[Entry], builtins.list[Entry]]] = {}
        for index, entries in enumerate((changes.joins, changes.leaves)):
            for entry in entries:
                topics.setdefault(entry.topic, ([], []))[index].append(entry)
        for topic, (joins, leaves) in topics.items():
            watching = [*self._inboxes.get(topic, ()), *self._inboxes.get(None, ())]
            if watching:
                shown = topic.decode("utf-8", "backslashreplace")
                diff = PresenceDiff(shown, tuple(map(Presence.of, joins)), tuple(map(Presence.of, leaves)))
                for inbox in watching:
                    inbox.put(diff)

    # The pool size

    @property
    def pool_mismatch(self) -> str | None:
        """Why the pool size must be wrong, as soon as this node can know it. It is logged, too."""
        return self._pool.mismatch

    def _heard_larger_pool(self, _topic: bytes, _message: Term) -> None:
        self._log_mismatch(self._pool.heard_next_shard())

    def _log_mismatch(self, found: bool) -> None:
        if found:
            log.error("tracker_pool_mismatch", "%s", self._pool.mismatch)

    def _raise_mismatch(self) -> None:
        if self._pool.mismatch is not None:
            raise TrackerError(self._pool.mismatch)

    @property
    def shown(self) -> str:
        """The name as Elixir writes it."""
        return self.name.name.removeprefix("Elixir.")
