"""The report of the fault scenarios, as a Markdown table: outcomes and times, compared with BEAMs only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scenario import ReportRow

__all__ = ["write_report"]

HEADER = """\
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


def write_report(path: Path, rows: Iterable[ReportRow], ticktime: float = 6) -> None:
    alone = {row.scenario: row for row in rows if row.beams_only}
    lines = [
        "| "
        + " | ".join([row.scenario, row.kinds, *_cells(row), _beam_comparison(row, alone.get(row.scenario))])
        + " |\n"
        for row in sorted(rows, key=lambda row: (row.scenario, row.kinds))
        if not row.beams_only
    ]
    path.write_text(HEADER.format(ticktime=ticktime, least=ticktime * 0.75, most=ticktime * 1.25) + "".join(lines))


def _cells(row: ReportRow) -> list[str]:
    return [row.outcome, _detection_time(row), _recovery_time(row)]


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _detection_time(row: ReportRow) -> str:
    if not row.detection_times:
        return "–"
    least, most = _seconds(min(row.detection_times)), _seconds(max(row.detection_times))
    return least if least == most else f"{least} … {most}"


def _recovery_time(row: ReportRow) -> str:
    if row.recovery_time is None:
        return "–"
    return _seconds(row.recovery_time) if row.automatic else "only after a ping"


def _beam_comparison(row: ReportRow, alone: ReportRow | None) -> str:
    if alone is None:
        return "–"
    told = ["the same" if alone.outcome == row.outcome else alone.outcome]
    told += [_detection_time(alone)] if alone.detection_times else []
    told += [_recovery_time(alone)] if alone.recovery_time is not None else []
    return "; ".join(told)
