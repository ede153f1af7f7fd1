"""Formats the numbers of all rounds as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from pathlib import Path

from bench.harness import CONTENDERS
from bench.measures import LINES, Numbers, ReportLine

__all__ = ["medians", "table", "write_json"]

Rounds = dict[str, list[Numbers]]
"""By contender, one dict of numbers per round."""


def medians(rounds: Rounds) -> dict[str, dict[str, float]]:
    """By key of a line, the median of each contender that has it."""
    return {
        line.key: {
            contender: statistics.median(values)
            for contender in CONTENDERS
            if (values := [numbers[line.key] for numbers in rounds[contender] if line.key in numbers])
        }
        for line in LINES
    }


def table(rounds: Rounds) -> str:
    """Return the table. The ratio is erlmesh over BEAM."""
    by_line = medians(rounds)
    rows = [("", "", *CONTENDERS, "ratio", "goal", "")]
    for line in LINES:
        beam, ours = (by_line[line.key].get(contender) for contender in CONTENDERS)
        if beam is None and ours is None:
            continue  # only some measurements were selected
        ratio = ours / beam if ours and beam else None
        rows.append(
            (
                line.label,
                line.unit,
                format_number(beam),
                format_number(ours),
                f"{ratio:.2f}" if ratio else "",
                goal_text(line),
                goal_status(line, ours, ratio),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def format_number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def goal_text(line: ReportLine) -> str:
    if line.goal is None:
        return ""
    return (
        f"{'≥' if line.higher_is_better else '≤'} {format_number(line.goal)}{' ' + line.unit if line.absolute else '×'}"
    )


def goal_status(line: ReportLine, ours: float | None, ratio: float | None) -> str:
    value = ours if line.absolute else ratio
    if line.goal is None or value is None:
        return ""
    return "✓" if (value >= line.goal if line.higher_is_better else value <= line.goal) else "missed"


def write_json(path: Path, rounds: Rounds, otp: str) -> None:
    machine = {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "otp": otp,
        "load before": os.getloadavg()[0],
    }
    path.write_text(json.dumps({"machine": machine, "medians": medians(rounds), "rounds": rounds}, indent=1) + "\n")
