"""The cluster as one observer knows it: a report of each node, and the events between them. No I/O.

The observer passes in what it hears: its own connections, views of nodes, and the time. It takes out what has changed.

All nodes see a change of a group. It becomes one event: that of the node of the process, which knows the reason. If
that node is lost, the event is that of the first node that reports the change. A change of a link is an event of each
end that sees it, because a fault may be one-sided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from erlmesh.core.cluster_view.changes import Change, changes
from erlmesh.core.cluster_view.history import History
from erlmesh.core.cluster_view.link_memory import LinkMemory
from erlmesh.core.cluster_view.pace import VIEW_INTERVAL, view_interval
from erlmesh.core.cluster_view.shapes import MAX_NODES, Event, NodeView, Report
from erlmesh.records import field, record

__all__ = ["FORGET_AFTER", "QUIET_VIEWS", "SCHEMA", "ClusterView", "Updates"]

SCHEMA: Final = 1
QUIET_VIEWS: Final = 3
"""How many views of a connected node must be missing until it is said to be silent."""
FORGET_AFTER: Final = 600.0
"""Seconds after which a node that nobody sees any more is forgotten."""
FORGET_TOOL_AFTER: Final = 5.0
"""The same for a hidden node that has told nothing: most are tools that ask one question."""
MAX_EVENTS_OF_A_VIEW: Final = 60
"""Events of one view. The rest is counted in one event."""
KNOWN_WITHIN: Final = VIEW_INTERVAL
"""Seconds in which other nodes hear that a node is lost. If a later view still has a link with it, it runs."""
SAME_CHANGE: Final = 10.0
"""Seconds in which the same change, reported by another node, is the same event."""
MAX_REMEMBERED: Final = 4096


@record
class Updates:
    """What has changed since it was asked last. ``reports`` tells whether groups, names or shards have changed, too."""

    reports: dict[str, bool] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reports or self.gone or self.events)


@record
class _Node:
    report: Report
    links: LinkMemory
    is_connected: bool = False
    """The observer is connected with it."""
    is_quiet: bool = False
    seen_at: float = 0.0
    """When the observer, or another node, was last connected with it."""
    lost_at: float = float("-inf")
    """When the observer lost it, for the last time."""
    views: int = 0


class ClusterView:
    """The nodes that ``observer`` knows. Times are seconds since 1970.

    ``is_member`` says that the observer is a node of the cluster itself, with a view of its own. Otherwise it is only
    there to look, and links with it are left out.
    """

    def __init__(self, observer: str, *, is_member: bool) -> None:
        self.observer = observer
        self.history = History()
        self._is_member = is_member
        self._who = observer if is_member else "The map"
        self._nodes: dict[str, _Node] = {}
        self._updates = Updates()
        self._told: dict[tuple[str, str, str | None], float] = {}
        """The changes of processes that were told in the last seconds, to tell each once."""
        self._held: dict[tuple[str, str, str | None], tuple[float, str, Change]] = {}
        """Changes that the node of the process has to tell, in case it is lost before it does."""

    # Questions

    def reports(self) -> dict[str, Report]:
        """Return the report of each node. They are not changed any more; a new one replaces an old one."""
        return {name: node.report for name, node in self._nodes.items()}

    def report(self, name: str) -> Report | None:
        """Return the report of one node."""
        node = self._nodes.get(name)
        return None if node is None else node.report

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return all that is known, in the form of the event ``snapshot``."""
        return {
            "schema": SCHEMA,
            "observer": self.observer,
            "now": round(now, 3),
            "reports": self.reports(),
            "events": self.history.events(),
        }

    def unreached(self) -> list[str]:
        """Return the nodes that others see as visible nodes and that the observer is not connected with."""
        return [
            name
            for name, node in self._nodes.items()
            if not node.is_connected and node.report["alive"] and not node.report["hidden"]
        ]

    def take_updates(self) -> Updates:
        """Return what has changed since the last call."""
        updates, self._updates = self._updates, Updates()
        return updates

    # What the observer hears

    def node_up(self, name: str, now: float) -> None:
        """The observer is connected with ``name``."""
        node = self._node(name, now)
        if node is None or node.is_connected:
            return
        node.is_connected, node.seen_at = True, now
        self._replace(node, {"alive": True, "time": now})
        self._event(now, self.observer, "node_up", name, f"{self._who} is connected with {name}.")

    def node_down(self, name: str, reason: str, now: float) -> None:
        """The observer has lost ``name``. What it said of its links and groups holds no more."""
        node = self._nodes.get(name)
        if node is None or not node.is_connected:
            return
        node.is_connected, node.is_quiet, node.views, node.lost_at = False, False, 0, now
        node.links = LinkMemory()
        self._replace(
            node,
            {
                "alive": False, "source": "none", "busy": None, "partial": None,
                "links": {}, "groups": [], "more_groups": 0, "names": {}, "shards": {},
            },
            is_slow=True,
        )  # fmt: skip
        # Other nodes may still be connected with it. What they have lost, they tell.
        text = f"{self._who} has lost its connection with {name}: {reason}."
        self._event(now, self.observer, "node_down", name, text, reason=reason)
        for key, (_, observer, change) in list(self._held.items()):
            if change.owner == name:
                del self._held[key]
                self._tell(observer, change, now)

    def put_view(self, name: str, view: NodeView, source: str, now: float) -> None:
        """``name`` has told its view, or was asked for it."""
        node = self._node(name, now)
        if node is None:
            return
        old = node.report
        links = {peer: link for peer, link in view["links"].items() if peer != name and self._is_shown(peer)}
        report: dict[str, Any] = {
            **old,
            **{key: view[key] for key in _PLAIN},
            "time": round(now, 3),
            "source": source,
            "alive": True,
            "busy": None,
            "links": node.links.reports(links, now),
            **{key: view[key] for key in _SLOW if key in view},
        }
        node.report = report  # type: ignore[assignment]
        node.seen_at = now
        node.views += 1
        self._changed(name, is_slow=any(key in view for key in _SLOW))
        if old["busy"] is not None:
            held = max(0.0, now - old["busy"]["since"])
            self._event(now, name, "free", name, f"The event loop of {name} runs again, after {held:.1f} s.")
        if node.is_quiet:
            node.is_quiet = False
            self._event(now, self.observer, "heard", name, f"{name} answers again.")
        if node.views > 1:  # the first view shows what was there before
            self._tell_changes(name, changes(old, node.report, view.get("left", [])), now)

    def put_busy(self, name: str, seconds: float, line: str, *, gil: bool, now: float) -> None:
        """Code has held the event loop of ``name`` for ``seconds``. ``line`` is empty if it is not known."""
        node = self._nodes.get(name)
        if node is None or not node.report["alive"]:
            return
        before = node.report["busy"]
        line = line or (before["line"] if before else "")
        self._replace(
            node, {"busy": {"for": round(seconds, 1), "since": round(now - seconds, 3), "line": line, "gil": gil}}
        )
        if before is None:
            where = f" at {line}" if line else ""
            text = f"The event loop of {name} is held for {seconds:.0f} s{where}."
            self._event(now, name, "busy", name, text, reason=line or None)

    def put_control(self, name: str, text: str, now: float) -> None:
        """Somebody has used a button."""
        self._event(now, self.observer, "control", name, text)

    def tick(self, now: float) -> None:
        """Some time has passed: find nodes that are silent, that others see, and that nobody sees."""
        self._find_mentioned(now)
        for name, node in list(self._nodes.items()):
            is_tool = node.report["hidden"] and node.report["kind"] == "unknown"
            if not node.report["alive"] and now - node.seen_at > (FORGET_TOOL_AFTER if is_tool else FORGET_AFTER):
                del self._nodes[name]
                self._updates.reports.pop(name, None)
                self._updates.gone.append(name)
            elif node.is_connected and not node.is_quiet and node.views:
                age = now - node.report["time"]
                if age > QUIET_VIEWS * view_interval(len(node.report["links"])):
                    node.is_quiet = True
                    self._event(now, self.observer, "silent", name, f"{name} has told nothing for {age:.0f} s.")
        self._told = {key: at for key, at in self._told.items() if now - at < SAME_CHANGE}
        self._held = {key: each for key, each in self._held.items() if now - each[0] < SAME_CHANGE}

    # Nodes

    def _is_shown(self, peer: str) -> bool:
        return self._is_member or peer != self.observer

    def _node(self, name: str, now: float) -> _Node | None:
        """Return the entry of ``name``, which is made if there is room."""
        node = self._nodes.get(name)
        if node is None:
            if len(self._nodes) >= MAX_NODES or not self._is_shown(name):
                return None
            node = self._nodes[name] = _Node(_empty_report(name, now), LinkMemory(), seen_at=now)
            self._changed(name, is_slow=True)
        return node

    def _find_mentioned(self, now: float) -> None:
        """Add the nodes that others are connected with, and find those that nobody is connected with any more."""
        mentioned: dict[str, bool] = {}
        for node in self._nodes.values():
            if not node.is_connected and not (self._is_member and node.report["node"] == self.observer):
                continue
            for peer, link in node.report["links"].items():
                if link["state"] == "up" and not self._is_from_before_loss(node.report, peer):
                    mentioned[peer] = mentioned.get(peer, True) and link["hidden"]
        for name, hidden in mentioned.items():
            found = self._node(name, now)
            if found is not None:
                found.seen_at = now
                if not found.is_connected and not (found.report["alive"] and found.report["hidden"] is hidden):
                    self._replace(found, {"alive": True, "hidden": hidden})
        for name, node in self._nodes.items():
            is_own = self._is_member and name == self.observer
            if node.report["alive"] and not node.is_connected and not is_own and name not in mentioned:
                self._replace(node, {"alive": False})

    def _is_from_before_loss(self, report: Report, peer: str) -> bool:
        """Whether a report may be older than the loss of ``peer``: its node stands still, or its next view is late."""
        found = self._nodes.get(peer)
        return found is not None and report["time"] <= found.lost_at + KNOWN_WITHIN

    def _replace(self, node: _Node, values: dict[str, Any], *, is_slow: bool = False) -> None:
        """Change fields of a report. The old report stays as it is: somebody may still send it."""
        node.report = {**node.report, **values}  # type: ignore[typeddict-item]
        self._changed(node.report["node"], is_slow=is_slow)

    def _changed(self, name: str, *, is_slow: bool) -> None:
        self._updates.reports[name] = self._updates.reports.get(name, False) or is_slow

    # Events

    def _tell_changes(self, observer: str, found: Iterable[Change], now: float) -> None:
        told = left_out = 0
        for change in self._to_tell(observer, found, now):
            if told < MAX_EVENTS_OF_A_VIEW:
                told += 1
                self._tell(observer, change, now)
            else:
                left_out += 1
        if left_out:
            self._event(now, observer, "dropped", observer, f"{left_out} more changes of {observer} are not listed.")

    def _to_tell(self, observer: str, found: Iterable[Change], now: float) -> Iterator[Change]:
        for change in found:
            if change.owner is None or change.owner == observer or not self._speaks(change.owner):
                yield change
            elif len(self._held) < MAX_REMEMBERED and change.key() not in self._told:
                self._held[change.key()] = (now, observer, change)

    def _speaks(self, name: str) -> bool:
        """Whether a node tells the changes of its own processes."""
        node = self._nodes.get(name)
        return node is not None and node.views > 0

    def _tell(self, observer: str, change: Change, now: float) -> None:
        if change.owner is not None:
            key = change.key()
            self._held.pop(key, None)
            if now - self._told.get(key, float("-inf")) < SAME_CHANGE and change.owner != observer:
                return
            if len(self._told) < MAX_REMEMBERED:
                self._told[key] = now
        event = self.history.add(
            now, observer, change.kind, change.subject, change.text,
            peer=change.peer, group=change.group, reason=change.reason,
        )  # fmt: skip
        self._updates.events.append(event)

    def _event(
        self, now: float, observer: str, kind: str, subject: str, text: str, *, reason: str | None = None
    ) -> None:
        self._updates.events.append(self.history.add(now, observer, kind, subject, text, reason=reason))


_PLAIN: Final = ("kind", "otp", "version", "build", "hidden", "creation", "uptime", "processes", "tick_time", "partial")
_SLOW: Final = ("groups", "more_groups", "names", "shards")
"""What a view has only if it has changed."""


def _empty_report(name: str, now: float) -> Report:
    return {
        "node": name, "time": round(now, 3), "source": "none", "alive": False, "kind": "unknown", "otp": None,
        "version": None, "build": None, "hidden": False, "creation": None, "uptime": None, "processes": None,
        "tick_time": None, "busy": None, "links": {}, "groups": [], "more_groups": 0, "names": {}, "shards": {},
        "partial": None,
    }  # fmt: skip
