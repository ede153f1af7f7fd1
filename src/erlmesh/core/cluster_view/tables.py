"""The tables of ``erlmesh top``: nodes, links, processes and groups. All texts in them are printable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from erlmesh.core.cluster_view.processes import ProcessSample
from erlmesh.core.cluster_view.shapes import GroupView, Report
from erlmesh.records import record

__all__ = ["TABLES", "Column", "Row", "TableShape", "cell_text", "make_table", "sorted_rows"]

Cell: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Cell]
"""Values by the keys of the columns."""


@record(frozen=True)
class Column:
    """``kind`` says how values are printed: text, count, bytes, rate (bytes per second), seconds, percent."""

    key: str
    title: str
    kind: str = "text"

    @property
    def is_number(self) -> bool:
        """Numbers align right, and the largest is most interesting."""
        return self.kind != "text"


@record(frozen=True)
class TableShape:
    """A table: its name, its columns, and the key of the column that it is sorted by at first."""

    name: str
    columns: tuple[Column, ...]
    order: str


TABLES: Final = (
    TableShape(
        "nodes",
        (
            Column("node", "node"), Column("kind", "kind"), Column("version", "version"), Column("state", "state"),
            Column("age", "told", "seconds"), Column("links", "links", "count"), Column("cpu", "cpu", "percent"),
            Column("processes", "procs", "count"), Column("messages", "messages", "count"),
            Column("uptime", "up", "seconds"),
        ),
        "node",
    ),
    TableShape(
        "links",
        (
            Column("node", "node"), Column("peer", "peer"), Column("state", "state"),
            Column("silent", "silent", "seconds"), Column("in", "in", "rate"), Column("out", "out", "rate"),
            Column("queued", "waiting", "bytes"), Column("reason", "reason"),
        ),
        "queued",
    ),
    TableShape(
        "processes",
        (
            Column("node", "node"), Column("pid", "pid"), Column("name", "name"),
            Column("messages", "messages", "count"),
            Column("reductions_per_second", "reds/s", "count"), Column("memory", "memory", "bytes"),
            Column("waits_in", "waits in"), Column("body", "body"),
        ),
        "messages",
    ),
    TableShape(
        "groups",
        (
            Column("scope", "scope"), Column("group", "group"), Column("members", "members", "count"),
            Column("nodes", "nodes", "count"), Column("seen_by", "seen by", "count"), Column("views", "views"),
        ),
        "members",
    ),
)  # fmt: skip


def make_table(name: str, reports: Mapping[str, Report], samples: Mapping[str, ProcessSample], now: float) -> list[Row]:
    """Return the rows of a table of TABLES. ``samples`` are by node. ``now`` is in seconds since 1970."""
    match name:
        case "nodes":
            return [_node_row(report, samples.get(node), now) for node, report in reports.items()]
        case "links":
            return [row for report in reports.values() for row in _link_rows(report, now)]
        case "processes":
            return [row for node, each in samples.items() for row in _process_rows(node, each)]
        case _:
            return _group_rows(reports)


def _node_row(report: Report, sample: ProcessSample | None, now: float) -> Row:
    links = report["links"].values()
    return {
        "node": report["node"],
        "kind": report["kind"],
        "version": f"OTP {report['otp']}" if report["otp"] else report["version"],
        "state": _state(report),
        "alive": report["alive"],
        "hidden": report["hidden"],
        "age": round(max(0.0, now - report["time"]), 1) if report["source"] != "none" else None,
        "links": sum(link["state"] == "up" for link in links),
        "cpu": None if sample is None else sample.cpu,
        "processes": report["processes"] if sample is None else sample.count,
        "messages": None if sample is None else sum(row.messages for row in sample.rows),
        "uptime": report["uptime"],
    }


def _state(report: Report) -> str:
    busy = report["busy"]
    if not report["alive"]:
        return "down"
    if busy is not None:
        return f"blocked for {busy['for']:.0f} s" + (f" at {busy['line']}" if busy["line"] else "")
    if report["source"] == "none":
        return "no answer yet"
    return "up, hidden" if report["hidden"] else "up"


def _link_rows(report: Report, now: float) -> list[Row]:
    age = max(0.0, now - report["time"])
    return [
        {
            "node": report["node"],
            "peer": peer,
            "state": link["state"] + (", suspended" if link["suspended"] else ""),
            "silent": None if link["silent"] is None else round(link["silent"] + age, 1),
            "in": link["in"],
            "out": link["out"],
            "queued": link["queued"],
            "reason": link["reason"],
        }
        for peer, link in report["links"].items()
    ]


def _process_rows(node: str, sample: ProcessSample) -> list[Row]:
    return [
        {
            "node": node, "pid": row.pid, "name": row.name, "messages": row.messages,
            "reductions_per_second": row.rate, "memory": row.memory, "waits_in": row.waits_in, "body": row.body,
        }
        for row in sample.rows
    ]  # fmt: skip


def _group_rows(reports: Mapping[str, Report]) -> list[Row]:
    """One row for each group. Nodes may see different members, for example after a cut: ``views`` says so."""
    seen: dict[tuple[str, str], list[GroupView]] = {}
    for report in reports.values():
        for group in report["groups"]:
            seen.setdefault((group["scope"], group["group"]), []).append(group)
    return [_group_row(scope, group, views) for (scope, group), views in seen.items()]


def _group_row(scope: str, group: str, views: list[GroupView]) -> Row:
    counts = [sum(member["count"] for member in view["members"]) + view["more"] for view in views]
    first = _members(views[0])
    same = all(_members(view) == first for view in views[1:])
    return {
        "scope": scope,
        "group": group,
        "members": max(counts),
        "nodes": len({member["node"] for view in views for member in view["members"]}),
        "seen_by": len(views),
        "views": "the same" if same else "differ",
    }


def _members(view: GroupView) -> set[tuple[str, str, int]]:
    return {(member["node"], member["pid"], member["count"]) for member in view["members"]}


def sorted_rows(rows: list[Row], column: Column, *, reverse: bool) -> list[Row]:
    """Return the rows in the order of a column: texts from A, numbers from the largest, what is not known last."""
    downwards = column.is_number is not reverse

    def key(row: Row) -> tuple[bool, Cell]:
        value = row[column.key]
        missing = value is None
        return (missing is not downwards, "" if missing and not column.is_number else 0 if missing else value)

    return sorted(rows, key=key, reverse=downwards)


def cell_text(value: Cell, kind: str) -> str:
    """Return a value as it is printed. What is not known is empty."""
    if value is None:
        return ""
    if not isinstance(value, int | float):
        return value
    match kind:
        case "bytes":
            return _scaled(value)
        case "rate":
            return f"{_scaled(value)}/s"
        case "seconds":
            return _duration(value)
        case "percent":
            return f"{value:.0f} %"
    return f"{value:.0f}"


def _scaled(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.0f} TB"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
