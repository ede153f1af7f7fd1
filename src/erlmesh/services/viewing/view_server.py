"""The process that tells observers what this node sees of its cluster. It starts when the first observer asks.

::

    observer                                   node
    erlmesh:subscribe_view(Pid)  ───────────▶  starts the process, which monitors Pid; returns its pid
                                 ◀───────────  {erlmesh_view, Node, Json}    at once, each two seconds, after changes
                                 ◀───────────  {erlmesh_view_busy, Node, Milliseconds, Line, HoldsGil}
    keep_alive                     ───────────▶  from an observer with a longer net tick time
    the end of Pid, or of its link ─────────▶  without observers, the process ends

``Json`` is a :class:`NodeView` as a binary. Changes are collected for a moment, so a burst is one view. An observer
that does not read gets nothing until it has read, and then the whole view. What is told is what a BEAM tells any node
that asks: nodes, groups, names and figures.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.cluster_view.pace import VIEW_INTERVAL, view_interval
from erlmesh.core.cluster_view.shapes import Left
from erlmesh.core.cluster_view.texts import name_text, pid_text, term_name, term_text
from erlmesh.errors import ErlangError
from erlmesh.net.event_log import event_log
from erlmesh.proto.control import Send
from erlmesh.records import record
from erlmesh.services.pg.protocol import GroupEvent, Joined, Tag
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.services.viewing.node_view import NodeViewer

__all__ = ["BUSY", "VIEW", "ViewServer"]

log = event_log("erlmesh")

VIEW: Final = Atom("erlmesh_view")
BUSY: Final = Atom("erlmesh_view_busy")
TICK: Final = Atom("tick")
FLUSH: Final = Atom("flush")
COLLECT: Final = 0.05
"""Seconds for which changes are collected before a view tells them."""
MIN_INTERVAL: Final = 0.1
"""Seconds between two views."""
GROUPS_INTERVAL: Final = 1.0
"""The same for a node that has so many groups that listing them takes some milliseconds."""
MANY_GROUPS: Final = 2000
MAX_OBSERVERS: Final = 16
MAX_OF_ONE_NODE: Final = 4
MAX_LEFT: Final = 500
MAX_DOWN: Final = 256
"""Lost links whose reason is told."""
WRITE_ATTEMPTS: Final = 3


@record
class _Observer:
    pid: Pid
    ref: Ref
    needs_all: bool = True


class ViewServer:
    """Tells the views of ``viewer`` to observers. ``on_end()`` is called when it has none any more."""

    def __init__(self, viewer: NodeViewer, on_end: Callable[[], None]) -> None:
        self._viewer = viewer
        self._runtime = viewer.runtime
        self._on_end = on_end
        self._observers: dict[Pid, _Observer] = {}
        self._process = self._runtime.spawn_handler(self._receive, on_end=self._ended)
        self._scopes: dict[Pg, Callable[[], None]] = {}
        self._groups_changed = self._names_changed = True
        self._left: list[Left] = []
        self._down: dict[str, str] = {}
        self._visible = {*self._runtime.nodes()}
        """The connected visible nodes. A hidden one is often a tool, whose end is no loss."""
        self._flush_due = False
        self._last_view = self._last_groups = -GROUPS_INTERVAL
        self._runtime.monitor_nodes(self._process.pid, reasons=True, hidden=True)
        viewer.global_._server.names.on_change = self._name_changed
        self._runtime._instance.loop_monitor.on_line = self._loop_blocked
        self._follow_scopes()
        self._process.send_after(VIEW_INTERVAL, TICK)

    def subscribe(self, pid: Pid) -> Pid:
        """Tell the process ``pid`` all views from now on. Return the process that tells them.

        Raises ErlangError with ``{overloaded, Text}`` if too many observers look.
        """
        of_node = Counter(each.node for each in self._observers)
        if pid not in self._observers:
            if len(self._observers) >= MAX_OBSERVERS or of_node[pid.node] >= MAX_OF_ONE_NODE:
                raise ErlangError((Atom("overloaded"), f"{len(self._observers)} observers look at this node"), [])
            self._observers[pid] = _Observer(pid, self._process.monitor(pid))
        self._observers[pid].needs_all = True
        self._change()
        return self._process.pid

    # The process

    def _receive(self, message: Term) -> None:
        match message:
            case (Atom("DOWN"), Ref() as ref, _, Pid() as pid, _):
                found = self._observers.get(pid)
                if found is not None and found.ref == ref:
                    del self._observers[pid]
                    if not self._observers:
                        self._process.stop()
            case Atom("keep_alive"):  # of an observer with a longer net tick time
                pass
            case _ if not self._runtime.is_message_local():
                pass
            case Atom("flush"):
                self._flush_due = False
                self._tell()
            case Atom("tick"):
                self._follow_scopes()
                self._process.send_after(VIEW_INTERVAL, TICK)
                interval = view_interval(len(self._runtime.state.peers))
                if self._runtime.now() - self._last_view >= interval - COLLECT:
                    self._change()
            case (Atom("nodeup"), Atom() as node):
                self._down.pop(name_text(node.name), None)
                if self._runtime.is_connected(node, hidden=False):
                    self._visible.add(node.name)
                self._change()
            case (Atom("nodedown"), Atom() as node, reason):
                if node.name in self._visible:
                    self._visible.discard(node.name)
                    self._down[name_text(node.name)] = term_text(reason)
                while len(self._down) > MAX_DOWN:
                    del self._down[next(iter(self._down))]
                self._change()

    def _ended(self) -> None:
        """The process has terminated. An observer that still looks sees this, and asks again."""
        self._observers.clear()
        for unsubscribe in self._scopes.values():
            unsubscribe()
        self._scopes.clear()
        names, monitor = self._viewer.global_._server.names, self._runtime._instance.loop_monitor
        if names.on_change == self._name_changed:
            names.on_change = None
        if monitor.on_line == self._loop_blocked:
            monitor.on_line = None
        self._on_end()

    # Changes

    def _follow_scopes(self) -> None:
        for scope in list(self._viewer.scopes.values()):
            if scope not in self._scopes:
                self._scopes[scope] = scope.subscribe(lambda event, scope=scope: self._group_changed(scope, event))  # type: ignore[misc]
                self._groups_changed = True

    def _group_changed(self, scope: Pg, event: GroupEvent) -> None:
        self._groups_changed = True
        if not isinstance(event, Joined) and len(self._left) < MAX_LEFT:
            reason = "left" if event.reason is Tag.LEAVE else term_text(event.reason)
            group = term_name(event.group)
            self._left += [
                {"scope": name_text(scope.scope.name), "group": group, "pid": pid_text(pid), "reason": reason}
                for pid in event.pids[: MAX_LEFT - len(self._left)]
                if pid.node is self._runtime.atom
            ]
        self._change()

    def _name_changed(self) -> None:
        self._names_changed = True
        self._change()

    def _change(self) -> None:
        """Tell a view soon."""
        if self._flush_due or not self._process.alive:
            return
        with suppress(RuntimeError):  # no event loop runs: the program ends, and its processes leave their groups
            wait = self._last_view + MIN_INTERVAL - self._runtime.now()
            self._process.send_after(max(COLLECT, wait), FLUSH)
            self._flush_due = True

    # Views

    def _tell(self) -> None:
        now, runtime = self._runtime.now(), self._runtime
        ready = [each for each in self._observers.values() if self._can_read(each)]
        if not ready:
            return
        self._last_view = now
        view = self._viewer.view(self._down)
        new = [each for each in ready if each.needs_all]
        if (self._groups_changed or new) and self._may_list_groups(now):
            self._viewer.add_groups(view)
            view["left"] = self._left
            self._left, self._groups_changed, self._last_groups = [], False, now
        if self._names_changed or new:
            self._viewer.add_names(view)
            self._names_changed = False
        data = json.dumps(view, separators=(",", ":")).encode()
        for each in ready:
            each.needs_all = each.needs_all and "groups" not in view
            self._process.send(each.pid, (VIEW, runtime.atom, data), connect=False)
        if self._groups_changed:
            self._change()

    def _can_read(self, observer: _Observer) -> bool:
        """Whether the connection is not full. If it is, the observer gets the whole view later."""
        peer = self._runtime.state.peers.get(observer.pid.node)
        if peer is None or not peer.busy:
            return True
        observer.needs_all = True
        return False

    def _may_list_groups(self, now: float) -> bool:
        count = sum(scope.statistics().groups for scope in self._scopes if scope.alive)
        return count < MANY_GROUPS or now - self._last_groups >= GROUPS_INTERVAL

    # In a thread, while code holds the event loop

    def _loop_blocked(self, seconds: float, line: str, gil: bool) -> None:
        """Write to the connections of observers what holds the event loop."""
        message = (BUSY, self._runtime.atom, round(seconds * 1000), line.encode(), gil)
        for pid in list(self._observers):
            connection: Any = self._runtime.state.peers.get(pid.node)
            for _ in range(WRITE_ATTEMPTS):
                if connection is None or connection.write_from_thread(Send(self._process.pid, pid, message)):
                    break
                time.sleep(COLLECT)  # earlier data was written in its place
