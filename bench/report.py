"""The results of all rounds: medians, ratios to the BEAM, verdicts, the table and the JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import BEAM
from bench.rows import CPU, ROWS, Numbers, Row, cpu_key

__all__ = ["Result", "Spread", "Verdict", "format_number", "summary", "table", "to_json", "verdict"]

Rounds = dict[str, list[Numbers]]
"""By the name of a contender, one dict of numbers per round."""


@dataclass(frozen=True)
class Spread:
    """The numbers of all rounds of one contender for one key."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Result:
    """One row of one contender beside the BEAM. A ratio is this contender over the BEAM."""

    row: Row
    value: Spread
    cpu: Spread | None
    ratio: float | None
    cpu_ratio: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether a result meets the line of its row, by which number, and whether it meets the aim, too."""

    met: bool
    by_cpu: bool
    number: float
    aim_met: bool


def spread(rounds: Sequence[Numbers], key: str) -> Spread | None:
    values = [numbers[key] for numbers in rounds if key in numbers]
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def result(rounds: Rounds, contender: str, row: Row) -> Result | None:
    """None if the contender has no number for the row."""
    value, cpu = spread(rounds[contender], row.key), spread(rounds[contender], cpu_key(row.key))
    if value is None:
        return None
    beam, beam_cpu = spread(rounds.get(BEAM, ()), row.key), spread(rounds.get(BEAM, ()), cpu_key(row.key))
    return Result(row, value, cpu, _ratio(value, beam), _ratio(cpu, beam_cpu))


def _ratio(ours: Spread | None, beam: Spread | None) -> float | None:
    """The ratio of the medians. A CPU time of the BEAM can be 0 in a very short run."""
    return ours.median / beam.median if ours is not None and beam is not None and beam.median > 0 else None


def verdict(result: Result) -> Verdict | None:
    """None if the row has no line, or there is no number to compare with it."""
    row, line = result.row, result.row.line
    number = result.value.median if row.absolute else result.ratio
    if line is None or row.aim is None:
        return None if line is None or number is None else _compare(row, number, line, line)
    if row.decided_by == CPU:
        return None if result.cpu_ratio is None else _by_cpu(result.cpu_ratio, line, row.aim)
    if number is None:
        return None
    by_value = _compare(row, number, line, row.aim)
    if by_value.met or row.decided_by == "value" or result.cpu_ratio is None:
        return by_value
    by_cpu = _by_cpu(result.cpu_ratio, *((1 / line, 1 / row.aim) if row.more_is_better else (line, row.aim)))
    return by_cpu if by_cpu.met else by_value


def _compare(row: Row, number: float, line: float, aim: float) -> Verdict:
    sign = 1 if row.more_is_better else -1
    return Verdict(sign * number >= sign * line, False, number, sign * number >= sign * aim)


def _by_cpu(ratio: float, line: float, aim: float) -> Verdict:
    return Verdict(ratio <= line, True, ratio, ratio <= aim)


def table(rounds: Rounds, judged: str | None) -> str:
    """The medians of all contenders, the ratios to the BEAM, and the verdict on the ``judged`` contender."""
    others = [name for name in rounds if name != BEAM]
    lines = [["", "", BEAM, *(cell for name in others for cell in (name, "ratio", "CPU")), "line", ""]]
    for row in ROWS:
        results = {name: result(rounds, name, row) for name in rounds}
        if not any(results.values()):
            continue  # only some measurements were selected, or all failed
        beam, ours = results[BEAM], results.get(judged or "")
        cells = [row.label, row.unit, format_number(beam and beam.value.median)]
        for name in others:
            one = results[name]
            cells += [format_number(one and one.value.median)]
            cells += [format_ratio(one and one.ratio), format_ratio(one and one.cpu_ratio)]
        lines.append([*cells, line_text(row), verdict_text(ours)])
    return _aligned(lines)


def spread_table(rounds: Rounds) -> str:
    """Least, median and most of all rounds, and the CPU time of one operation."""
    lines = [["", "", *(cell for name in rounds for cell in (name, "min - max", "CPU µs"))]]
    for row in ROWS:
        results = [result(rounds, name, row) for name in rounds]
        if any(results):
            cells = [row.label, row.unit]
            for one in results:
                value, cpu = one and one.value, one and one.cpu
                extremes = f"{format_number(value.least)} - {format_number(value.most)}" if value else ""
                cells += [format_number(value and value.median), extremes, format_number(cpu and cpu.median)]
            lines.append(cells)
    return _aligned(lines)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 or column == len(widths) - 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def format_number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def format_ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def line_text(row: Row) -> str:
    """``≥ 1.20``, ``≤ 55 ms``, or ``CPU ≤ 1.50``."""
    if row.line is None:
        return ""
    if row.decided_by == CPU:
        return f"CPU ≤ {row.line:.2f}"
    return f"{'≥' if row.more_is_better else '≤'} " + (
        f"{format_number(row.line)} {row.unit}" if row.absolute else f"{row.line:.2f}"
    )


def verdict_text(result: Result | None) -> str:
    found = verdict(result) if result is not None else None
    if found is None:
        return ""
    if not found.met:
        return "missed"
    return ("met by CPU" if found.by_cpu and result and result.row.decided_by != CPU else "met") + (
        ", aim" if found.aim_met else ""
    )


def summary(rounds: Rounds, judged: str) -> tuple[list[str], int]:
    """The rows that the ``judged`` contender misses, worst first, one sentence each, and how many rows have a line."""
    missed, count = [], 0
    for row in ROWS:
        one = result(rounds, judged, row)
        found = verdict(one) if one is not None else None
        if found is None or one is None or row.line is None:
            continue
        count += 1
        if not found.met:
            shortfall = row.line / found.number if row.more_is_better and not found.by_cpu else found.number / row.line
            number = format_number(found.number) if row.absolute else f"{found.number:.2f}"
            missed.append((shortfall, f"{row.label}: {number}, must be {line_text(row)}; a factor of {shortfall:.2f}"))
    return [sentence for _, sentence in sorted(missed, reverse=True)], count


def to_json(rounds: Rounds, machine: dict[str, Any], failures: Sequence[str]) -> str:
    """Everything: the machine, the rows, medians with least and most, ratios, verdicts, and all rounds."""
    rows = []
    for row in ROWS:
        by_contender = {}
        for name in rounds:
            one = result(rounds, name, row)
            if one is not None:
                by_contender[name] = {
                    "value": vars(one.value),
                    "cpu_us": vars(one.cpu) if one.cpu else None,
                    "ratio": one.ratio,
                    "cpu_ratio": one.cpu_ratio,
                    "verdict": verdict_text(one),
                }
        if by_contender:
            rows.append({**vars(row), "contenders": by_contender})
    document = {"machine": machine, "failures": list(failures), "rows": rows, "rounds": rounds}
    return json.dumps(document, indent=1) + "\n"


def write_json(path: Path, rounds: Rounds, machine: dict[str, Any], failures: Sequence[str]) -> None:
    path.write_text(to_json(rounds, machine, failures), encoding="utf-8")
