"""A recording as a source of the page: no node is needed to look at it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from erlmesh.core.cluster_view.cluster import SCHEMA
from erlmesh.errors import NodeStartError
from erlmesh.web.viewers import Viewer

__all__ = ["LARGEST_RECORDING", "Recording"]

LARGEST_RECORDING: Final = 256 << 20
MAX_LINE: Final = 64 << 20


class Recording:
    """The recording in ``path``. Raises NodeStartError if it is none."""

    def __init__(self, path: Path) -> None:
        self.recording: Path | None = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                first = file.readline(MAX_LINE)
        except OSError as error:
            raise NodeStartError(f"cannot read the recording {path}: {error.strerror or error}") from error
        if size > LARGEST_RECORDING:
            raise NodeStartError(f"{path} has {size >> 20} MiB: a recording has at most {LARGEST_RECORDING >> 20}")
        self._first = _snapshot_of(first, path)

    def new_viewer(self) -> tuple[Viewer, Callable[[], None]]:
        """Return a viewer of the beginning. The page gets the rest by itself."""
        return Viewer(self._snapshot, lambda _: None), lambda: None

    def _snapshot(self) -> dict[str, Any]:
        return {**self._first, "now": round(time.time(), 3), "control": False, "csrf": None, "recorded": True}


def _snapshot_of(line: bytes, path: Path) -> dict[str, Any]:
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        first = None
    match first:
        case {"type": "snapshot", "snapshot": {"schema": schema, "reports": dict()} as snapshot}:
            if schema == SCHEMA:
                return dict(snapshot)
            raise NodeStartError(f"{path} was recorded by another version of erlmesh: its schema is {schema!r}")
    raise NodeStartError(f"{path} is no recording: its first line is no snapshot. `erlmesh map --record` makes one")
