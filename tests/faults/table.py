"""The table of faults: what happened, seen by whom, after how long; as Markdown, beside BEAMs among themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from world import Row

__all__ = ["write_table"]

HEAD = """\
# Faults, and what they do

Real nodes run in network namespaces, each on a machine of its own. `py` is an erlmesh node. `23`, `25` and `27` are
Erlang/OTP. The nodes are in the order of their names, and the fault happens to the first one. The net tick time is
{ticktime} s unless the fault names another one, so a peer that sends nothing is dropped after {least:g} to {most:g} s.

- *Noticed* is the time until `nodedown`, over all nodes that got it.
- *Complete again* is the time from the repair until every node sees every node, and the group has all its members on
  every node.
- The last column is the same with Erlang nodes only. They do not reconnect, so most of them wait for a ping.

`make faults` measures this and writes this file. A fault with another outcome is a failed test.

| fault | nodes | outcome | noticed | complete again | only Erlang nodes |
| --- | --- | --- | --- | --- | --- |
"""


def write_table(path: Path, rows: Iterable[Row], ticktime: float = 6) -> None:
    alone = {row.scenario: row for row in rows if row.only_beams}
    lines = [
        "| " + " | ".join([row.scenario, row.protocol, *_told(row), _beside(row, alone.get(row.scenario))]) + " |\n"
        for row in sorted(rows, key=lambda row: (row.scenario, row.protocol))
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
    if row.complete is None:
        return "–"
    return _seconds(row.complete) if row.by_itself else "only after a ping"


def _beside(row: Row, alone: Row | None) -> str:
    if alone is None:
        return "–"
    told = ["the same" if alone.outcome == row.outcome else alone.outcome]
    told += [_noticed(alone)] if alone.noticed else []
    told += [_whole(alone)] if alone.complete is not None else []
    return "; ".join(told)
