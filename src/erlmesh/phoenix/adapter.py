"""This node's worker of a Phoenix.PubSub: what other nodes see, and what the parts of :mod:`erlmesh.phoenix` use.

One handler process is all workers of the pool. It is registered under the name of each group, and is in each group. So
it gets the messages of every sender, whatever pool size and release the other nodes have, and in the order in which
they were sent. New groups are found by watching the pg scope.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from erlmesh.core.phoenix_pubsub.messages import PubSubStatistics, forward, parse_forward
from erlmesh.core.phoenix_pubsub.names import PLAIN_DISPATCHER, SCOPE, adapter_atom, worker_number
from erlmesh.core.phoenix_pubsub.worker_book import NodeChange, WorkerBook
from erlmesh.errors import PubSubError
from erlmesh.net.event_log import event_log
from erlmesh.phoenix.meeting import wait_until_met
from erlmesh.runtime.multicast import RepeatSender
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.running_process import RUNNING
from erlmesh.services.pg.protocol import GroupEvent, Joined
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.node import Node
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.services.pg.server import Pg

__all__ = ["Adapter", "NodeChange", "RawPubSub", "TopicHandler"]

log = event_log("erlmesh.phoenix")
NOTICE_AFTER: Final = 6.0
"""Seconds of waiting after which the log says so: more than the default time limit of ``ready``."""
_peer_log = PeerLog(log)

TopicHandler = Callable[[bytes, Term], None]
"""Called with a topic and a message of another node. An exception in it is logged."""


class RawPubSub(Protocol):
    """What a service such as a Tracker needs of a PubSub. :class:`Adapter` has it: ``pubsub.adapter``.

    Messages are terms. Nothing here waits, and nothing is delivered to this node itself.
    """

    statistics: PubSubStatistics

    @property
    def own(self) -> Atom:
        """The name of this node."""

    def nodes(self) -> list[Atom]:
        """The other nodes with a worker."""

    def subscribe(self, topic: bytes, handler: TopicHandler) -> Callable[[], None]:
        """Call ``handler(topic, message)`` with each message of another node, in the turn in which it arrives.

        Return a function that ends this. What this node broadcasts is not passed to it.
        """

    def broadcast(self, topic: bytes, message: Term, dispatcher: Atom = ...) -> int:
        """Send to one worker of each other node. Return their number; 0 before the first sync. Raises EncodeError."""

    def direct_broadcast(self, node: Atom, topic: bytes, message: Term, dispatcher: Atom = ...) -> bool:
        """Send to one worker of ``node``. False if it has none that is known here. Raises EncodeError."""

    def watch_nodes(self, callback: Callable[[NodeChange], None]) -> Callable[[], None]:
        """Call ``callback(change)`` when a node gets its first worker, or has lost its last one.

        Nodes that have one now are not reported: see :meth:`nodes`. Return a function that ends this.
        """

    async def ready(self, timeout: float | None = 5.0) -> bool:
        """Wait until this node and the others know each other. False after ``timeout`` seconds."""


class Adapter:
    """The worker of the PubSub ``name`` on ``node``. See :class:`RawPubSub` for its methods.

    ``on_end(reason)`` is called when the worker has terminated and does not start again.
    """

    def __init__(self, node: Node, name: Atom, on_end: Callable[[Term], None] = lambda _: None) -> None:
        self.node = node
        self.name = name
        self.adapter = adapter_atom(name)
        self.statistics = PubSubStatistics()
        self._on_end = on_end
        self._book = WorkerBook(node.internals.atom)
        self._handlers: dict[bytes, list[TopicHandler]] = {}
        self._watchers: list[Callable[[NodeChange], None]] = []
        self._groups: dict[Atom, None] = {}
        """The groups that this worker is in."""
        self._process: LocalProcess | None = None
        self._scope: Pg | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._restarts = True
        self._has_run = False

    @property
    def own(self) -> Atom:
        """The name of this node."""
        return self.node.internals.atom

    @property
    def process(self) -> LocalProcess:
        """The worker. Raises RuntimeError before the start, and PubSubError after the end."""
        if self._process is None and self._has_run:
            raise PubSubError(f"the PubSub {self.shown} has ended: it was stopped, or its node, or its supervisor")
        if self._process is None:
            raise RuntimeError(f"the PubSub {self.shown} is not started: use `async with PubSub(node, ...)`")
        return self._process

    @property
    def alive(self) -> bool:
        """True from the start until the end of the worker."""
        return self._process is not None and self._process.alive

    # Start and stop

    def start(self, *, restart: bool = True) -> None:
        """Start the worker and join the scope. With ``restart``, only :meth:`stop` ends it, as a service of the node.

        Raises ValueError if the name is taken: another PubSub of this name runs on this node.
        """
        if self.alive:
            raise ValueError(f"the PubSub {self.shown} is started already")
        self._restarts = restart
        pg = self.node.pg
        self._spawn()
        self._has_run = True
        scope = self._scope = pg.find_scope(SCOPE) or pg.start_scope(SCOPE)
        self._unsubscribe = scope.subscribe(self._on_group_event)
        self._join(self.adapter)
        for group in scope.which_groups():
            if worker_number(self.adapter, group) is not None:
                self._on_group_event(Joined(tuple(scope.get_members(group)), group))

    def stop(self) -> None:
        """Leave all groups and end the worker."""
        self._restarts = False
        if self._process is not None:
            self._process._on_end = None
            self._process.stop()

    def _spawn(self) -> None:
        node = self.node.internals
        restart = self._restart if self._restarts else None
        process = self._process = node.spawn_handler(self._handle_message, name=self.adapter, restart=restart)
        process.trap_exit = False  # An exit signal ends it, as a GenServer that does not trap exits.

        def ended(message: Term) -> None:
            watcher.stop()
            if not self._restarts or node.is_stopping:
                self._finish(message[4])

        # A DOWN arrives also when the node stops. A restart does not take place then.
        watcher = node.spawn_handler(ended)
        watcher.monitor(process.pid)

    def _restart(self) -> None:
        """Start the worker again. Any process can send an exit signal: a pid is no secret."""
        if not self._restarts or self.node.internals.is_stopping:
            return
        log.warning(
            "pubsub_restarted", "the worker of the PubSub %s terminated and starts again", self.shown, topic=self.shown
        )
        groups = list(self._groups)
        self._groups.clear()
        self._spawn()
        for group in groups:
            self._join(group)

    def _finish(self, reason: Term) -> None:
        self._unsubscribe()
        self._process = None
        self._groups.clear()
        lost = [NodeChange(node, joined=False) for node in self._book.nodes()]
        self._book = WorkerBook(self.own)
        self._notify(lost)
        self._on_end(reason)

    # Groups

    def _on_group_event(self, event: GroupEvent) -> None:
        """Handle a change of any group of the scope."""
        number = worker_number(self.adapter, event.group)
        if number is None:
            return
        change = self._book.joined if isinstance(event, Joined) else self._book.left
        changes = change(event.group, event.pids)
        if isinstance(event, Joined) and event.group not in self._groups:
            self._join(event.group)
        self._notify(changes)

    def _notify(self, changes: list[NodeChange]) -> None:
        for each in changes:
            for watcher in tuple(self._watchers):
                try:
                    watcher(each)
                except Exception:
                    log.exception(
                        "pubsub_handler_failed", "the PubSub %s: a callback raised on %s", self.shown, ForeignText(each)
                    )

    def _join(self, group: Atom) -> None:
        """Be a worker of ``group``: its name is what a direct broadcast is sent to, its membership what others see."""
        process, scope = self._process, self._scope
        if process is None or scope is None or not scope.alive or group in self._groups:
            return
        if group is not self.adapter:
            if self.node.whereis(group) is not None:
                _peer_log.write(
                    logging.WARNING,
                    "pubsub_name_taken",
                    "",
                    "the name %s is taken: this node gets no direct broadcasts to it",
                    ForeignText(group),
                    group=group,
                )
            else:
                process.register(group)
        self._groups[group] = None
        scope.join(group, process.pid)

    def nodes(self) -> list[Atom]:
        """See :class:`RawPubSub`."""
        return self._book.nodes()

    def watch_nodes(self, callback: Callable[[NodeChange], None]) -> Callable[[], None]:
        """See :class:`RawPubSub`."""
        self._watchers.append(callback)
        return partial(_remove, self._watchers, callback)

    async def ready(self, timeout: float | None = 5.0) -> bool:
        """See :class:`RawPubSub`."""
        notice = asyncio.get_running_loop().call_later(NOTICE_AFTER, self._notice_waiting)
        try:
            async with asyncio.timeout(timeout):
                await wait_until_met(self.node, self.adapter, lambda: (self._book, self.process.pid))
        except TimeoutError:
            return False
        finally:
            notice.cancel()
        return True

    def _notice_waiting(self) -> None:
        """A program that waits without a time limit would look as if it hung."""
        log.warning(
            "pubsub_waits",
            "the PubSub %s still waits for another node that has it; connected nodes: %s",
            self.shown,
            ForeignText(", ".join(self.node.nodes()) or "none"),
        )

    # Messages of other nodes

    def subscribe(self, topic: bytes, handler: TopicHandler) -> Callable[[], None]:
        """See :class:`RawPubSub`."""
        handlers = self._handlers.setdefault(topic, [])
        handlers.append(handler)

        def unsubscribe() -> None:
            _remove(handlers, handler)
            if not handlers and self._handlers.get(topic) is handlers:
                del self._handlers[topic]

        return unsubscribe

    def _handle_message(self, message: Term) -> None:
        received = parse_forward(message)
        if received is None:
            self.statistics.malformed += 1
            _peer_log.debug("message_ignored", "the PubSub %s ignored %s", self.shown, ForeignText(message))
            return
        self.statistics.received += 1
        topic, content = received
        handlers = self._handlers.get(topic)
        if handlers is None:
            self.statistics.unmatched += 1
            return
        for handler in tuple(handlers):
            try:
                handler(topic, content)
            except Exception:
                log.exception(
                    "pubsub_handler_failed", "the PubSub %s: a handler raised on %s", self.shown, ForeignText(content)
                )

    # Messages to other nodes

    def broadcast(self, topic: bytes, message: Term, dispatcher: Atom = PLAIN_DISPATCHER) -> int:
        """See :class:`RawPubSub`."""
        sender = self._sender()
        return self._send(sender, self._book.recipients(sender.pid.id), forward(topic, message, dispatcher))

    def direct_broadcast(self, node: Atom, topic: bytes, message: Term, dispatcher: Atom = PLAIN_DISPATCHER) -> bool:
        """See :class:`RawPubSub`."""
        sender = self._sender()
        worker = self._book.recipient(node, sender.pid.id)
        return worker is not None and bool(self._send(sender, [worker], forward(topic, message, dispatcher)))

    def _send(self, sender: LocalProcess, workers: list[Pid], message: Term) -> int:
        repeat = RepeatSender(sender)
        for worker in workers:
            repeat.send(worker, message)
        self.statistics.sent += len(workers)
        return len(workers)

    def _sender(self) -> LocalProcess:
        """The process whose body runs now. Its messages and its broadcasts keep their order. Else the worker."""
        running = RUNNING.get()
        if running is not None and running.alive and running._task is asyncio.current_task() and running._task:
            return running
        return self.process

    @property
    def shown(self) -> str:
        """The name as Elixir writes it."""
        return self.name.name.removeprefix("Elixir.")


def _remove(callbacks: list[Callable[..., None]], callback: Callable[..., None]) -> None:
    if callback in callbacks:
        callbacks.remove(callback)
