"""What has changed between two reports of one node, as events that are still to be numbered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from erlmesh.core.cluster_view.shapes import GroupView, Left, LinkReport, NamedPid, Report, ShardView
from erlmesh.records import record

__all__ = ["Change", "changes"]

_LEFT: Final = "left"
NODE_DOWN: Final = "its node is not connected"


@record(frozen=True)
class Change:
    """An event of the view of one node. ``owner`` is the node whose process it is about; None for a link."""

    kind: str
    subject: str
    text: str
    peer: str | None = None
    group: str | None = None
    reason: str | None = None
    owner: str | None = None

    def key(self) -> tuple[str, str, str | None]:
        """Return what tells whether two nodes have seen the same change."""
        return self.kind, self.subject, self.group


def changes(old: Report, new: Report, left: list[Left]) -> Iterator[Change]:
    """Return the changes from ``old`` to ``new``. ``left`` has the reasons of processes of the node that have left."""
    tick_time = new["tick_time"] or 60.0
    yield from _link_changes(new["node"], old["links"], new["links"], tick_time / 2)
    if old["groups"] is not new["groups"]:
        yield from _group_changes(
            old, new, {(each["scope"], each["group"], each["pid"]): each["reason"] for each in left}
        )
    if old["names"] is not new["names"]:
        yield from _name_changes(old["names"], new["names"])
    if old["shards"] is not new["shards"]:
        yield from _shard_changes(old["shards"], new["shards"])


# Links


def _link_changes(
    node: str, old: Mapping[str, LinkReport], new: Mapping[str, LinkReport], silence: float
) -> Iterator[Change]:
    for peer, link in new.items():
        before = old.get(peer)
        if link["hidden"]:  # often a tool that asks one question
            continue
        was, state = before["state"] if before else "", link["state"]
        if state == "up" and was != "up":
            yield Change("link_up", node, f"{node} is connected with {peer}.", peer)
        elif was == "up" and state != "up":
            reason = link["reason"]
            yield Change("link_down", node, f"{node} has lost {peer}{_because(reason)}.", peer, reason=reason)
        if state == "reconnecting" and was != "reconnecting":
            yield Change("reconnecting", node, f"{node} tries to connect with {peer} again.", peer)
        if state == was == "up" and before is not None:
            yield from _silence_changes(node, peer, before["silent"] or 0.0, link["silent"] or 0.0, silence)
            yield from _queue_changes(node, peer, before, link)


def _silence_changes(node: str, peer: str, before: float, now: float, limit: float) -> Iterator[Change]:
    if now >= limit > before:
        yield Change("silent", node, f"{node} has heard nothing of {peer} for {now:.0f} s.", peer)
    elif before >= limit > now:
        yield Change("heard", node, f"{node} hears {peer} again.", peer)


def _queue_changes(node: str, peer: str, before: LinkReport, now: LinkReport) -> Iterator[Change]:
    if now["slow"] and not before["slow"]:
        megabytes = (now["queued"] or 0) / 1e6
        waiting = f"{megabytes:.{0 if megabytes >= 10 else 1}f} MB"
        yield Change("slow", node, f"{peer} reads slowly: {waiting} wait for it on {node}.", peer)
    elif before["slow"] and not now["slow"]:
        yield Change("fast", node, f"{peer} reads again what {node} sends.", peer)


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


# Groups


def _group_changes(old: Report, new: Report, reasons: Mapping[tuple[str, str, str], str]) -> Iterator[Change]:
    before = {(group["scope"], group["group"]): group for group in old["groups"]}
    after = {(group["scope"], group["group"]): group for group in new["groups"]}
    is_cut = bool(old["more_groups"] or new["more_groups"])
    for key in dict.fromkeys((*before, *after)):
        was, now = before.get(key), after.get(key)
        # A group of which a part is listed would show members that come into the list, and have been there before.
        if (was and was["more"]) or (now and now["more"]) or (is_cut and not (was and now)):
            continue
        yield from _member_changes(new, key, _members(was), _members(now), reasons)


def _members(group: GroupView | None) -> dict[tuple[str, str], int]:
    return {} if group is None else {(each["node"], each["pid"]): each["count"] for each in group["members"]}


def _member_changes(
    new: Report,
    key: tuple[str, str],
    before: Mapping[tuple[str, str], int],
    after: Mapping[tuple[str, str], int],
    reasons: Mapping[tuple[str, str, str], str],
) -> Iterator[Change]:
    scope, group = key
    shown = group if scope == "pg" else f"{group} of the scope {scope}"
    for (node, pid), count in after.items():
        if count > before.get((node, pid), 0):
            again = " once more" if (node, pid) in before else ""
            yield Change(
                "joined", f"{pid} of {node}", f"{pid} of {node} has joined {shown}{again}.", None, group, None, node
            )
    for (node, pid), count in before.items():
        if count > after.get((node, pid), 0):
            reason = reasons.get((scope, group, pid), _LEFT) if node == new["node"] else _reason_of_loss(new, node)
            yield Change(
                "left", f"{pid} of {node}", _left_text(f"{pid} of {node}", shown, reason), None, group, reason, node
            )


def _reason_of_loss(new: Report, owner: str) -> str:
    """Return why a process of another node is no member any more, as far as this node can tell."""
    link = new["links"].get(owner)
    return _LEFT if link is not None and link["state"] == "up" else NODE_DOWN


def _left_text(who: str, group: str, reason: str) -> str:
    if reason == _LEFT:
        return f"{who} has left {group}."
    if reason == NODE_DOWN:
        return f"{who} is no member of {group} any more: {NODE_DOWN}."
    return f"{who} is no member of {group} any more: it ended with {reason}."


# Global names and shards


def _name_changes(old: Mapping[str, NamedPid], new: Mapping[str, NamedPid]) -> Iterator[Change]:
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if now is not None:
            text = f"{now['pid']} of {now['node']} has the global name {name}."
            yield Change("named", name, text, reason=None, owner=now["node"])
        elif was is not None:
            yield Change("unnamed", name, f"The global name {name} is free.", owner=was["node"])


def _shard_changes(old: Mapping[str, ShardView], new: Mapping[str, ShardView]) -> Iterator[Change]:
    for name in dict.fromkeys((*old, *new)):
        before = old[name]["holders"] if name in old else {}
        after = new[name]["holders"] if name in new else {}
        for node in dict.fromkeys((*before, *after)):
            had, has = {*before.get(node, ())}, {*after.get(node, ())}
            if released := sorted(had - has):
                listed = _numbers(released)
                yield Change("shard_released", f"{node} {listed}", f"{node} has released {listed} of {name}.",
                             None, name, None, node)  # fmt: skip
            if taken := sorted(has - had):
                listed = _numbers(taken)
                yield Change("shard_taken", f"{node} {listed}", f"{node} has taken {listed} of {name}.",
                             None, name, None, node)  # fmt: skip


def _numbers(shards: list[int]) -> str:
    """``shard 3`` or ``the shards 0, 4, 9, …``."""
    if len(shards) == 1:
        return f"shard {shards[0]}"
    listed = ", ".join(map(str, shards[:8]))
    return f"{len(shards)} shards ({listed}{', …' if len(shards) > 8 else ''})"
