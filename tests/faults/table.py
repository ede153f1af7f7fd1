"""The table of faults: what happened, seen by whom, after how long; as Markdown, beside BEAMs among themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from world import Row

__all__ = ["write_table"]

HEAD = """\
# Faults, and what they do

Real nodes in network namespaces, each on a machine of its own; `py` is an erlmesh node, `23`, `25` and `27` are
Erlang/OTP. They stand in the order of their names, and what happens happens to the first. The tick time is
{ticktime} s unless another is named, so a silent peer is to be given up {least:g} to {most:g} s after its last word.
*Noticed* is the time until `nodedown`, over all who saw it; *whole again* the time from the repair until everybody
sees everybody, and the group has all its members on every node. The last column is the same with Erlang alone, which
mostly waits to be pinged.

`make faults` measures all this anew and writes this file; a fault that ends otherwise than is said here is a failed
test.

| what happens | to whom | outcome | noticed | whole again | Erlang alone |
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
    return _seconds(row.complete) if row.by_itself else "not by itself"


def _beside(row: Row, alone: Row | None) -> str:
    if alone is None:
        return "–"
    told = ["the same" if alone.outcome == row.outcome else alone.outcome]
    told += [_noticed(alone)] if alone.noticed else []
    told += [_whole(alone)] if alone.complete is not None else []
    return "; ".join(told)
