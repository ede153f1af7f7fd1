"""The table of a run in Markdown, between two comments of a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bench.contenders import BEAM
from bench.report import Result, Rounds, format_number, result
from bench.rows import ROWS

__all__ = ["BEGIN", "END", "has_section", "markdown_table", "update_page"]

BEGIN = "<!-- bench: begin. `make bench ARGS='--page FILE'` writes the lines up to the end. -->"
END = "<!-- bench: end -->"
_SECTION = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)


def has_section(path: Path) -> bool:
    """True if the page has the two comments."""
    return path.is_file() and _SECTION.search(path.read_text(encoding="utf-8")) is not None


def update_page(path: Path, rounds: Rounds, machine: Mapping[str, object]) -> None:
    """Replace the lines between BEGIN and END of a page that has both."""
    section = f"{BEGIN}\n\n{markdown_table(rounds, machine)}\n{END}"
    path.write_text(_SECTION.sub(lambda _: section, path.read_text(encoding="utf-8")), encoding="utf-8")


def markdown_table(rounds: Rounds, machine: Mapping[str, object]) -> str:
    """The median of the BEAM, and for each contender its ratio and its ratio of CPU time."""
    names = [name for name in rounds if name != BEAM]
    lines = [
        f"| | BEAM |{''.join(f' {name} | CPU |' for name in names)}",
        "|---|--:|" + "--:|--:|" * len(names),
    ]
    for row in ROWS:
        results = {name: result(rounds, name, row) for name in rounds}
        if not any(results.values()):
            continue
        beam = results[BEAM]
        cells = [row.label, f"{format_number(beam.value.median)} {row.unit}" if beam else ""]
        for name in names:
            one = results[name]
            cells += [_ratio_or_value(one), f"{one.cpu_ratio:.2f}" if one and one.cpu_ratio else ""]
        lines.append(f"| {' | '.join(cells)} |")
    count = max(map(len, rounds.values()))
    foot = (
        f"{machine['date']}: medians of {count} round{'s' if count > 1 else ''}, OTP {machine['otp']}, "
        f"Python {machine['python']}, {machine['cores']} cores, load before the run {_load(machine):.1f}."
    )
    scale = machine["scale"]
    smaller = (
        "" if scale == 1 else f" The run had {scale:g} times the numbers of messages and memberships in the labels."
    )
    return "\n".join([*lines, "", foot + smaller, ""])


def _ratio_or_value(one: Result | None) -> str:
    """``1.20×``, or the number itself if there is no BEAM to compare with."""
    if one is None:
        return ""
    return f"{one.ratio:.2f}×" if one.ratio is not None else f"{format_number(one.value.median)} {one.row.unit}"


def _load(machine: Mapping[str, object]) -> float:
    load = machine["load_before"]
    return float(load[0]) if isinstance(load, list) else 0.0
