"""What ``erlmesh top`` shows: which table, in which order, from which row. Keys change it. No I/O."""

from __future__ import annotations

from typing import Final

from erlmesh.core.cluster_view.tables import TABLES, Column, Row, TableShape, cell_text, sorted_rows
from erlmesh.core.cluster_view.texts import columns_of, fitting

__all__ = ["KEYS", "TopView"]

KEYS: Final = "q quit  n nodes  l links  p processes  g groups  </> sort column  r reverse  up/down scroll  space pause"
SHAPES: Final = {shape.name: shape for shape in TABLES}
MAX_CELL: Final = 48
"""Columns of a cell on the terminal."""


class TopView:
    """The state of the screen. It begins with the table ``name``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.offset = 0
        """The first row that is shown."""
        self.is_paused = False
        self._orders = {shape.name: shape.order for shape in TABLES}
        self._reversed = dict.fromkeys(SHAPES, False)

    @property
    def shape(self) -> TableShape:
        """The table that is shown."""
        return SHAPES[self.name]

    def sort_by(self, key: str) -> None:
        """Sort the table that is shown by a column. Raises ValueError if there is no such column."""
        keys = [column.key for column in self.shape.columns]
        if key not in keys:
            raise ValueError(f"the table of {self.name} has no column {key}: it has {', '.join(keys)}")
        self._orders[self.name] = key

    def press(self, key: str, page: int = 1) -> bool:
        """Handle a key. ``page`` is the number of rows on the screen. Return False for the key that ends it."""
        tables = {name[0]: name for name in SHAPES}
        match key:
            case "q":
                return False
            case "n" | "l" | "p" | "g":
                self.name, self.offset = tables[key], 0
            case "<" | "left":
                self._move_order(-1)
            case ">" | "right":
                self._move_order(1)
            case "r":
                self._reversed[self.name] = not self._reversed[self.name]
            case " ":
                self.is_paused = not self.is_paused
            case _:
                self.offset = max(0, self.offset + _SCROLLS.get(key, 0) * (page if key.startswith("page") else 1))
                if key == "home":
                    self.offset = 0
        return True

    def _move_order(self, step: int) -> None:
        keys = [column.key for column in self.shape.columns]
        position = keys.index(self._orders[self.name]) + step
        self._orders[self.name] = keys[position % len(keys)]
        self._reversed[self.name] = False

    def sorted(self, name: str, rows: list[Row]) -> list[Row]:
        """Return the rows of a table in its order."""
        columns = {column.key: column for column in SHAPES[name].columns}
        return sorted_rows(rows, columns[self._orders[name]], reverse=self._reversed[name])

    def clamp(self, count: int, page: int) -> None:
        """Scroll back if the table has become shorter: ``count`` rows, of which ``page`` fit."""
        self.offset = max(0, min(self.offset, count - page))

    def lines(self, name: str, rows: list[Row], *, mark_order: bool = False) -> list[str]:
        """Return the titles and the rows as aligned lines. With ``mark_order``, "*" is at the column of the order."""
        columns = SHAPES[name].columns
        order = self._orders[name] if mark_order else None
        titles = [column.title + ("*" if column.key == order else "") for column in columns]
        cells = [[_cut(cell_text(row[column.key], column.kind)) for column in columns] for row in rows]
        widths = [max(map(columns_of, column)) for column in zip(titles, *cells, strict=True)]
        return [
            "  ".join(
                _padded(cell, width, column) for cell, width, column in zip(line, widths, columns, strict=True)
            ).rstrip()
            for line in (titles, *cells)
        ]


_SCROLLS: Final = {"down": 1, "up": -1, "pagedown": 1, "pageup": -1}


def _cut(text: str) -> str:
    return text if columns_of(text) <= MAX_CELL else fitting(text, MAX_CELL - 1) + "…"


def _padded(cell: str, width: int, column: Column) -> str:
    blanks = " " * (width - columns_of(cell))
    return blanks + cell if column.is_number else cell + blanks
