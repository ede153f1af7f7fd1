"""The table of faults: what happened, seen by whom, after how long; as Markdown, beside BEAMs among themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from world import Row

__all__ = ["write_table"]

HEAD = """\
# Faults, and what they do

Real nodes in network namespaces, each on a machine of its own; `py` is an erlmesh node, `25` and `27` are Erlang/OTP.
The order is that of the nodes in the scenario: the first is the one to which it happens. The tick time is {ticktime} s,
so a silent peer is to be given up after {least:g} to {most:g} s. *Noticed* is the time until `nodedown`, over all who
saw it; *whole again* the time from the repair until everybody sees everybody and the group has all its members on every
node. The last column is the same with Erlang alone.

`make faults` measures all this anew and writes this file.

| what happens | to whom | outcome | noticed | whole again | Erlang alone |
| --- | --- | --- | --- | --- | --- |
"""


def write_table(path: Path, rows: Iterable[Row], ticktime: float = 6) -> None:
    alone = {row.scenario: row for row in rows if row.only_beams}
    lines = [
        "| " + " | ".join([row.scenario, row.who, *_told(row), _beside(alone.get(row.scenario))]) + " |\n"
        for row in sorted(rows, key=lambda row: (row.scenario, row.who))
        if not row.only_beams
    ]
    path.write_text(HEAD.format(ticktime=ticktime, least=ticktime * 0.75, most=ticktime * 1.25) + "".join(lines))


def _told(row: Row) -> list[str]:
    return [row.outcome, _noticed(row), _whole(row)]


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _noticed(row: Row) -> str:
    if not row.noticed:
        return "–"
    least, most = _seconds(min(row.noticed)), _seconds(max(row.noticed))
    return least if least == most else f"{least} … {most}"


def _whole(row: Row) -> str:
    if row.whole is None:
        return "–"
    return _seconds(row.whole) if row.by_itself else f"never by itself; {_seconds(row.whole)} with a ping"


def _beside(row: Row | None) -> str:
    if row is None:
        return "–"
    return f"{row.outcome}; noticed {_noticed(row)}; whole {_whole(row)}"
