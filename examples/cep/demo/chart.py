"""Draw the chart of a demo: the owner of each symbol over time, and the delay of results. Needs matplotlib.

``python -m cep.demo.chart RECORD.json CHART.svg`` draws it again from the record that the demo has written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cep.demo.record import Record

__all__ = ["ChartUnavailable", "draw"]

COLOURS = {"socrates": "#2f81f7", "plato": "#d29922", "aristotle": "#3fb950"}
NOBODY, SEVERAL, OTHER = "#ffffff", "#f85149", "#8957e5"


class ChartUnavailable(Exception):
    """matplotlib is not installed. The text says what to do."""


def draw(record: Record, *paths: Path) -> None:
    """Write the chart to each path. Its suffix is the format: ``.svg``, ``.png``, ``.pdf``.

    Raises ChartUnavailable, and ValueError for an unknown format or an empty record.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError:
        raise ChartUnavailable("the chart needs matplotlib: pip install 'erlmesh[chart]'") from None
    if not record.owners:
        raise ValueError("the record is empty: there is nothing to draw")
    figure = Figure(figsize=(13, 8), layout="constrained")
    owners, delays = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    times = [
        *(row[0] for row in record.owners),
        *(row[0] for row in record.scenes),
        *(row[0] for row in record.latencies),
    ]
    start, end = min(times), max(times)
    _draw_owners(owners, record, start, end)
    _draw_delays(delays, record, start)
    for axes in (owners, delays):
        for time, _ in record.scenes:
            axes.axvline(time - start, color="#57606a", linewidth=0.8, linestyle=":")
    for number, (time, title) in enumerate(record.scenes):
        owners.annotate(
            title,
            (time - start, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 4 + 11 * (number % 3)),
            textcoords="offset points",
            fontsize=8,
        )
    delays.set_xlim(0, end - start)
    for path in paths:
        figure.savefig(path, dpi=120)


def _draw_owners(axes: Any, record: Record, start: float, end: float) -> None:
    symbols = sorted({symbol for _, symbol, _ in record.owners})
    for row, symbol in enumerate(symbols):
        changes = [(time, nodes) for time, name, nodes in record.owners if name == symbol]
        ends = [time for time, _ in changes[1:]] + [end]
        for (time, nodes), until in zip(changes, ends, strict=True):
            axes.barh(row, until - time, left=time - start, height=0.9, color=_colour(nodes))
    axes.set_yticks(range(len(symbols)), symbols, fontsize=7)
    axes.set_ylabel("owner of each symbol")
    axes.invert_yaxis()
    shown = {**COLOURS, "two owners": SEVERAL}
    handles = [axes.barh(0, 0, color=colour, label=name) for name, colour in shown.items()]
    axes.legend(handles=handles, loc="lower right", fontsize=8, ncols=len(handles), bbox_to_anchor=(1, -0.08))


def _draw_delays(axes: Any, record: Record, start: float) -> None:
    times = [row[0] - start for row in record.latencies]
    for column, label in ((1, "median"), (2, "greatest")):
        axes.plot(times, [max(1e-4, row[column]) for row in record.latencies], ".", markersize=3, label=label)
    axes.set_yscale("log")
    axes.set_ylabel("seconds from a tick's time\nto its mean at the sink")
    axes.set_xlabel("seconds")
    axes.legend(loc="upper right", fontsize=8)


def _colour(nodes: list[str]) -> str:
    if len(nodes) == 1:
        return COLOURS.get(nodes[0].partition("@")[0], OTHER)
    return SEVERAL if nodes else NOBODY


if __name__ == "__main__":
    try:
        draw(Record.read(Path(sys.argv[1])), *map(Path, sys.argv[2:]))
    except (ChartUnavailable, OSError, ValueError, IndexError) as error:
        sys.exit(f"python -m cep.demo.chart RECORD.json CHART.svg …: {error}")
