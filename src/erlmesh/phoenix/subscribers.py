"""The subscribers of this node, by topic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from erlmesh.core.phoenix_pubsub.message_queue import Overflow
from erlmesh.etf import as_received
from erlmesh.phoenix.adapter import Adapter
from erlmesh.phoenix.inbox import Inbox
from erlmesh.runtime.process import LocalProcess
from erlmesh.terms import Pid, Term
from erlmesh.terms.copying import copy_term

__all__ = ["ProcessFeed", "Subscribers", "Unsubscribe"]

Unsubscribe: TypeAlias = Callable[[], None]
"""Ends a subscription. A second call has no effect."""


class ProcessFeed:
    """A subscription of a process. ``watcher`` ends it when the process has terminated."""

    def __init__(self, pid: Pid, watcher: LocalProcess) -> None:
        self.pid = pid
        self.watcher = watcher

    def put(self, message: Term) -> None:
        """Send the message to the process."""
        self.watcher.send(self.pid, message)

    def end(self, _error: Exception | None = None) -> None:
        """Watch the process no longer."""
        self.watcher.stop()


class Subscribers:
    """The subscribers of one PubSub. They get messages of other nodes from ``adapter``, and those of this node."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._topics: dict[bytes, dict[Inbox | ProcessFeed, None]] = {}
        self._unsubscribe: dict[bytes, Unsubscribe] = {}

    def add_inbox(self, topic: bytes, limit: int, overflow: Overflow, byte_limit: int) -> Inbox:
        """Add the subscriber of an iteration."""
        self._require_started()
        inbox = Inbox(
            self._adapter.node.internals, topic, limit, overflow, self._adapter.statistics, byte_limit=byte_limit
        )
        inbox.on_close = self._add(topic, inbox)
        return inbox

    def add_process(self, topic: bytes, pid: Pid) -> Unsubscribe:
        """Add a process of this node. Return a function that ends this."""
        own = self._require_started()
        if not isinstance(pid, Pid):
            raise TypeError(f"a subscriber is a pid or a process, not {pid!r}")
        if pid.node is not own.node:
            raise ValueError(f"{pid!r} is a process of {pid.node.name}: it subscribes there")
        watcher = self._adapter.node.spawn_handler(lambda _: remove())
        remove = self._add(topic, ProcessFeed(pid, watcher))
        watcher.monitor(pid)
        return remove

    def broadcast(self, topic: bytes, message: Term, excluded: object) -> None:
        """Deliver a message of this node. It has the form that it has on other nodes. Raises EncodeError."""
        self._require_started()
        if topic in self._topics:
            self._deliver(as_received(message), self._topics[topic], excluded)

    def end(self, error: Exception | None) -> None:
        """End all subscriptions, with ``error`` if it is a failure."""
        topics, self._topics = self._topics, {}
        for unsubscribe in self._unsubscribe.values():
            unsubscribe()
        self._unsubscribe.clear()
        for subscribers in topics.values():
            for subscriber in subscribers:
                subscriber.end(error)

    def _require_started(self) -> Pid:
        """Return the pid of the worker. Raises RuntimeError before the start."""
        return self._adapter.process.pid

    def _add(self, topic: bytes, subscriber: Inbox | ProcessFeed) -> Unsubscribe:
        subscribers = self._topics.get(topic)
        if subscribers is None:
            subscribers = self._topics[topic] = {}
            self._unsubscribe[topic] = self._adapter.subscribe(topic, self._received)
        subscribers[subscriber] = None
        return partial(self._remove, topic, subscriber)

    def _remove(self, topic: bytes, subscriber: Inbox | ProcessFeed) -> None:
        subscriber.end()
        subscribers = self._topics.get(topic, {})
        if subscribers.pop(subscriber, self) is None and not subscribers:
            del self._topics[topic]
            self._unsubscribe.pop(topic)()

    def _received(self, topic: bytes, message: Term) -> None:
        self._deliver(message, self._topics.get(topic, {}), None)

    @staticmethod
    def _deliver(message: Term, subscribers: dict[Inbox | ProcessFeed, None], excluded: object) -> None:
        # The collector may drop a subscription meanwhile.
        for subscriber in tuple(subscribers):
            if subscriber is excluded or (isinstance(subscriber, ProcessFeed) and subscriber.pid == excluded):
                continue
            subscriber.put(copy_term(message) if len(subscribers) > 1 else message)
