"""A recording as a source of the page: no node is needed to look at it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from erlmesh.core.cluster_view.cluster import SCHEMA
from erlmesh.errors import NodeStartError
from erlmesh.web.encodings import Encodings, encode_event
from erlmesh.web.viewers import Viewer

__all__ = ["LARGEST_RECORDING", "Recording"]

LARGEST_RECORDING: Final = 256 << 20
"""Bytes of all its files."""
MAX_LINE: Final = 64 << 20
SAME_RECORDING: Final = 60.0
"""Seconds between the end of ``FILE.1`` and the start of ``FILE``, at most, if they are of one recording."""
STEP: Final = 64 * 1024


class Recording:
    """The recording in ``path``, with the file before it if that is of the same recording.

    Raises NodeStartError if it is none.
    """

    def __init__(self, path: Path) -> None:
        started, self._first = _read_start(path)
        self._paths = [path]
        before = path.with_name(path.name + ".1")
        if before.is_file() and abs(before.stat().st_mtime - started) < SAME_RECORDING:
            _, self._first = _read_start(before)
            self._paths.insert(0, before)
        size = sum(each.stat().st_size for each in self._paths)
        if size > LARGEST_RECORDING:
            raise NodeStartError(
                f"{path} has {size >> 20} MiB: the page opens at most {LARGEST_RECORDING >> 20}. Copy its first lines"
            )

    def recording_parts(self) -> list[tuple[Path, int]]:
        """See :class:`erlmesh.web.server.Source`. A line that is not complete is left out."""
        return [(path, _length_of_lines(path)) for path in self._paths]

    def new_viewer(self) -> tuple[Viewer, Callable[[], None]]:
        """Return a viewer of the beginning. The page gets the rest by itself."""
        return Viewer(self._snapshot, lambda _: None, Encodings()), lambda: None

    def _snapshot(self) -> bytes:
        more = {"now": round(time.time(), 3), "control": False, "csrf": None, "recorded": True}
        return encode_event("snapshot", {**self._first, **more})


def _read_start(path: Path) -> tuple[float, dict[str, Any]]:
    """Return when the recording starts, and its first snapshot."""
    try:
        with path.open("rb") as file:
            line = file.readline(MAX_LINE)
    except OSError as error:
        raise NodeStartError(f"cannot read the recording {path}: {error.strerror or error}") from error
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        first = None
    match first:
        case {
            "type": "snapshot",
            "at": int() | float() as at,
            "snapshot": {"schema": schema, "reports": dict()} as found,
        }:
            if schema == SCHEMA:
                return float(at), dict(found)
            raise NodeStartError(f"{path} was recorded by another version of erlmesh: its schema is {schema!r}")
    raise NodeStartError(f"{path} is no recording: its first line is no snapshot. `erlmesh map --record` makes one")


def _length_of_lines(path: Path) -> int:
    """Return the bytes up to the end of the last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - STEP)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
