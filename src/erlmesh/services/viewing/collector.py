"""Collects the views of all nodes of a cluster, for tools that show it. ::

    async with Collector(node.internals, node.pg, None) as collector:    # of a hidden node
        async for updates in collector.updates():
            ...                                                           # collector.cluster.reports()

A Python node tells its view by itself; a BEAM is asked every two seconds, and at once when this node hears of a change.
Each node is followed by a process of its own, so one that does not answer holds up none of the others.

A hidden node looks at all nodes that others see, and connects with them. A visible node looks at the nodes that it is
connected with, and itself. It connects with none, because that would change what it shows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from erlmesh.core.backoff import Backoff
from erlmesh.core.cluster_view.checked import checked_view, node_text
from erlmesh.core.cluster_view.cluster import ClusterView, Updates
from erlmesh.core.cluster_view.shapes import NodeView
from erlmesh.core.cluster_view.texts import plain_text
from erlmesh.proto.handshake import is_node_name
from erlmesh.runtime.process import LocalProcess
from erlmesh.services.viewing.follower import Follower
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.server import Pg

__all__ = ["Collector", "Listener"]

MAX_VIEW: Final = 4 << 20
"""Bytes of one view."""
TICK: Final = Atom("tick")
TICK_INTERVAL: Final = 0.5
DIALS_AT_ONCE: Final = 8
LINE_WITHIN: Final = 4.0
"""Seconds for which an event loop is held until the line is told, at most, if a thread can run there."""

Listener = Callable[[Updates], None]
"""Gets all changes, in the event loop. It must not block or raise."""


class Collector:
    """What the node ``runtime`` knows of its cluster. Use it as an async context manager, or start and close it.

    ``subscribe_view(pid)`` subscribes to the views of this node itself; None for a hidden node, which shows itself to
    nobody. ``pg`` is the default scope of this node: what it hears of BEAMs is a reason to ask them at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        pg: Pg,
        subscribe_view: Callable[[Pid], Pid] | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runtime = runtime
        self._pg = pg
        self._subscribe_view = subscribe_view
        self._clock = clock
        self.cluster = ClusterView(runtime.name, is_member=subscribe_view is not None)
        self._followers: dict[str, Follower] = {}
        self._listeners: dict[Listener, None] = {}
        self._dialling: set[str] = set()
        self._dial_after: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._process: LocalProcess | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._names_by_text: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start to look. The node must run."""
        runtime = self._runtime
        self._process = process = runtime.spawn_handler(self._receive)
        runtime.monitor_nodes(process.pid, reasons=True, hidden=True)
        self._unsubscribe = self._pg.subscribe(lambda _: self._group_changed())
        names = runtime.nodes()
        if self._subscribe_view is None:
            names.extend(runtime.nodes(hidden=True))
        else:
            self._follow(runtime.name)
        for name in names:
            self._node_up(name)
        process.send_after(0, TICK)

    def close(self) -> None:
        """Stop to look. What is known stays."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        for follower in self._followers.values():
            follower.stop()
        self._followers.clear()
        if self._process is not None:
            self._process.stop()

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each change from now on. Return a function that ends this."""
        self._listeners[listener] = None

        def remove() -> None:
            self._listeners.pop(listener, None)

        return remove

    async def updates(self) -> AsyncIterator[Updates]:
        """Yield what has changed, for ``async for``. Changes while the caller is busy come together."""
        changed, waiting = asyncio.Event(), Updates()

        def add(updates: Updates) -> None:
            for name, is_slow in updates.reports.items():
                waiting.reports[name] = waiting.reports.get(name, False) or is_slow
            waiting.gone += updates.gone
            waiting.events = [*waiting.events, *updates.events][-500:]
            changed.set()

        remove = self.add_listener(add)
        try:
            while True:
                await changed.wait()
                changed.clear()
                taken, waiting = waiting, Updates()
                yield taken
        finally:
            remove()

    def node_name(self, text: str) -> str | None:
        """Return the name of the node that is shown as ``text``; None if there is none, or its name cannot be used."""
        if self.cluster.report(text) is None:
            return None
        name = self._names_by_text.get(text, text)
        return name if is_node_name(name) else None

    def note_control(self, node: str, text: str) -> None:
        """Somebody has used a button: add an event."""
        self.cluster.put_control(node, text, self._clock())
        self._pass_on()

    # The process

    def _receive(self, message: Term) -> None:
        now = self._clock()
        match message:
            case (Atom("erlmesh_view"), Atom() as node, bytes() as data):
                self._view_arrived(node, data, now)
            case (Atom("erlmesh_view_busy"), Atom() as node, int() as milliseconds, bytes() as line, bool() as gil):
                if node.name in self._followers and self._runtime.is_message_from(node) and milliseconds >= 0:
                    seconds = min(milliseconds / 1000, 1e9)
                    self.cluster.put_busy(node_text(node.name), seconds, plain_text(line), gil=gil, now=now)
            case (Atom("DOWN"), Ref(), _, Pid() as pid, _):
                follower = self._followers.get(pid.node.name)
                if follower is not None:
                    follower.server_ended(pid)
            case _ if not self._runtime.is_message_local():
                return
            case (Atom("nodeup"), Atom() as node):
                if self._subscribe_view is None or self._runtime.is_connected(node, hidden=False):
                    self._node_up(node.name)
            case (Atom("nodedown"), Atom() as node, reason):
                self._node_down(node.name, plain_text(reason.name) if isinstance(reason, Atom) else "lost")
            case Atom("tick"):
                self._tick(now)
        self._pass_on()

    def _view_arrived(self, node: Atom, data: bytes, now: float) -> None:
        follower = self._followers.get(node.name)
        if follower is None or not follower.is_subscribed or not self._runtime.is_message_from(node):
            return  # Only a node that was asked may tell, and of itself only.
        try:
            view = checked_view(json.loads(data) if len(data) <= MAX_VIEW else None)
        except (ValueError, RecursionError):
            return
        text = node_text(node.name)
        before = self._link_states(text)
        self.cluster.put_view(text, view, "push", now)
        for peer, _ in before ^ self._link_states(text):
            # A BEAM at the other end is asked, or the fault would look one-sided until its next answer.
            other = self._followers.get(self._names_by_text.get(peer, peer))
            if other is not None:
                other.ask_soon(with_groups=False)

    def _link_states(self, text: str) -> set[tuple[str, str]]:
        report = self.cluster.report(text)
        return set() if report is None else {(peer, link["state"]) for peer, link in report["links"].items()}

    def _tick(self, now: float) -> None:
        self.cluster.tick(now)
        for name, seconds in self._runtime.blocked_peers().items():
            report = self.cluster.report(node_text(name))
            if report is not None and report["busy"] is None and seconds > LINE_WITHIN:
                # A thread has told this, and no other thread could tell the line: a C function holds the GIL there.
                self.cluster.put_busy(node_text(name), seconds, "", gil=True, now=now)
        for name, follower in self._followers.items():
            report = self.cluster.report(node_text(name))
            if report is not None and report["tick_time"] is not None:
                follower.keep_alive(report["tick_time"], now)
        if self._subscribe_view is None:
            self._dial(now)
        if self._process is not None and self._process.alive:
            self._process.send_after(TICK_INTERVAL, TICK)

    def _pass_on(self) -> None:
        updates = self.cluster.take_updates()
        if updates:
            for listener in list(self._listeners):
                listener(updates)

    # Nodes

    def _node_up(self, name: str) -> None:
        text = node_text(name)
        self._names_by_text[text] = name
        self._dial_after.pop(text, None)
        self._backoffs.pop(text, None)
        self.cluster.node_up(text, self._clock())
        self._follow(name)

    def _node_down(self, name: str, reason: str) -> None:
        follower = self._followers.pop(name, None)
        if follower is not None:
            follower.stop()
        self._names_by_text.pop(node_text(name), None)
        self.cluster.node_down(node_text(name), reason, self._clock())
        for other in self._followers.values():
            other.ask_soon(with_groups=True)

    def _follow(self, name: str) -> None:
        assert self._process is not None
        if name in self._followers:
            self._followers[name].stop()
        local = self._subscribe_view if name == self._runtime.name else None
        self._followers[name] = Follower(self._runtime, self._process, name, local, self._polled)

    def _polled(self, name: str, view: NodeView) -> None:
        """A BEAM has answered. What it says is checked like the view of any other node."""
        if name in self._followers:
            checked = checked_view(view)
            self.cluster.put_view(node_text(name), checked, "poll", self._clock())
            self._pass_on()

    def _group_changed(self) -> None:
        """This node has heard of a change of a group: ask the BEAMs, which have heard of it, too."""
        for follower in self._followers.values():
            follower.ask_soon(with_groups=True)

    # Nodes that others see

    def _dial(self, now: float) -> None:
        for text in self.cluster.unreached():
            if len(self._dialling) >= DIALS_AT_ONCE:
                return
            if text not in self._dialling and self._dial_after.get(text, 0.0) <= now and is_node_name(text):
                self._dialling.add(text)
                self._runtime.connect_nowait(text, lambda up, text=text: self._dialled(text, up))  # type: ignore[misc]

    def _dialled(self, text: str, up: bool) -> None:
        self._dialling.discard(text)
        if not up:
            backoff = self._backoffs.setdefault(text, Backoff(1.0, 30.0, (0.8, 1.2)))
            self._dial_after[text] = self._clock() + backoff.next_delay(self._runtime.random)
            if len(self._backoffs) > 1024:
                self._backoffs.clear()
                self._dial_after.clear()
