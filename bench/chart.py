"""An SVG chart of a run: for each row, how many times as good as a BEAM each contender is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from bench.contenders import BEAM
from bench.report import Rounds, result
from bench.rows import ROWS, Row

__all__ = ["chart", "write_chart"]

LABELS, PLOT_LEFT, PLOT, RIGHT = 290, 324, 420, 60
"""The labels end at LABELS. A number left of the longest bar fits before PLOT_LEFT."""
BAR, GAP, TOP = 11, 9, 58
AXIS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
COLOURS = ("#8b95a5", "#2f81f7", "#b08800", "#8957e5")
STYLE = """\
text { font-size: 12px; font-family: system-ui, "DejaVu Sans", sans-serif; fill: #57606a }
.title { font-weight: 600; font-size: 14px; fill: #24292f } .number { font-size: 10.5px }
.grid { stroke: #d0d7de } .beam { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 } .title { fill: #e6edf3 } .grid { stroke: #3d444d } .beam { stroke: #e6edf3 }
}"""


def write_chart(path: Path, rounds: Rounds, machine: Mapping[str, object]) -> None:
    path.write_text(chart(rounds, machine), encoding="utf-8")


def chart(rounds: Rounds, machine: Mapping[str, object]) -> str:
    """The whole SVG. A bar to the right of the line 1 is better than the BEAM, also for times."""
    names = [name for name in rounds if name not in (BEAM, "beam-quiet")][: len(COLOURS)]
    rows = [(row, factors) for row in ROWS if row.in_chart and (factors := _factors(rounds, names, row))]
    height = TOP + len(rows) * (len(names) * BAR + GAP) + 46
    parts = [_text(0, 18, "erlmesh beside a BEAM: how many times as good", "title"), *_legend(names)]
    parts += _axis(height - 46)
    top = TOP
    for row, factors in rows:
        parts.append(_text(LABELS - 8, top + len(names) * BAR / 2 + 4, row.label, anchor="end"))
        for position, name in enumerate(names):
            if name in factors:
                parts += _bar(top + position * BAR, factors[name], COLOURS[position])
        top += len(names) * BAR + GAP
    foot = f"{machine['date']}, OTP {machine['otp']}, Python {machine['python']}, {machine['processor']}"
    parts.append(_text(0, height - 6, f"Medians of one run. Right of 1 is better than the BEAM. {foot}", "number"))
    body = "\n".join(parts)
    width = PLOT_LEFT + PLOT + RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img">\n<title>erlmesh beside a BEAM</title>\n<style>\n{STYLE}\n</style>\n{body}\n</svg>\n'
    )


def _factors(rounds: Rounds, names: list[str], row: Row) -> dict[str, float]:
    """By contender, how many times as good as the BEAM it is: for a time, the inverse of the ratio."""
    found = {}
    for name in names:
        one = result(rounds, name, row)
        if one is not None and one.ratio:
            found[name] = one.ratio if row.more_is_better else 1 / one.ratio
    return found


def _position(factor: float) -> float:
    """The x of a factor on the logarithmic axis. A factor beyond the axis is drawn at its end."""
    low, high = math.log(AXIS[0]), math.log(AXIS[-1])
    share = (math.log(factor) - low) / (high - low)
    return PLOT_LEFT + PLOT * min(1.0, max(0.0, share))


def _bar(top: float, factor: float, colour: str) -> list[str]:
    start, end = _position(1.0), _position(factor)
    left, width = min(start, end), max(1.0, abs(end - start))
    bar = f'<rect x="{left:.1f}" y="{top + 1:.1f}" width="{width:.1f}" height="{BAR - 2}" rx="1.5" fill="{colour}"/>'
    outside, anchor = (end + 4, "start") if factor >= 1 else (end - 4, "end")
    return [bar, _text(outside, top + BAR - 1.5, f"{factor:.2f}", "number", anchor)]


def _axis(bottom: float) -> list[str]:
    parts = []
    for factor in AXIS:
        x, kind = _position(factor), "beam" if factor == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 16, "BEAM" if factor == 1 else f"{factor:g}×", "number", "middle"))
    return parts


def _legend(names: list[str]) -> list[str]:
    parts, x = [], PLOT_LEFT
    for name, colour in zip(names, COLOURS, strict=False):
        parts.append(f'<rect x="{x}" y="30" width="10" height="10" rx="1.5" fill="{colour}"/>')
        parts.append(_text(x + 15, 39, name))
        x += 28 + 7 * len(name)
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}{where}>{escape(text)}</text>'
