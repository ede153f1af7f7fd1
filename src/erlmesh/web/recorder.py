"""Writes what a map shows to a file, as JSON lines that ``erlmesh map FILE`` opens.

The first line is a snapshot; each further line is one change. The file is made beside its place and moved there when
the snapshot is written. Each line is one write. So a reader finds whole lines, but for the last one after a crash. When
the file is half of ``limit`` long, it becomes ``FILE.1``, and a new one starts. An older file of that name goes the
same way. A thread writes, because a disk may be slow.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from erlmesh.core.cluster_view.cluster import Updates
from erlmesh.core.cluster_view.shapes import Report
from erlmesh.errors import NodeStartError
from erlmesh.net.event_log import event_log
from erlmesh.web.encodings import without_slow_parts

__all__ = ["RECORDING_LIMIT", "Recorder"]

log = event_log("erlmesh.map")

RECORDING_LIMIT: Final = 64 << 20
"""Bytes of both files together."""
MAX_WAITING: Final = 256
"""Pieces that wait for the disk. More are dropped, and a snapshot follows."""
CLOSE_TIMEOUT: Final = 2.0


class Recorder:
    """Records into ``path``. ``snapshot()`` and ``report(name)`` return what is known; ``clock()`` is the time."""

    def __init__(
        self,
        path: Path,
        snapshot: Callable[[], dict[str, Any]],
        report: Callable[[str], Report | None],
        clock: Callable[[], float],
        limit: int = RECORDING_LIMIT,
    ) -> None:
        self._path = path
        self._snapshot = snapshot
        self._report = report
        self._clock = clock
        self._limit = limit // 2
        self._pieces: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._has_failed = False
        self._needs_snapshot = False
        """Something was dropped, or a new file starts."""
        self._written = 0
        self._descriptor = -1
        self._thread = threading.Thread(target=self._run, name="erlmesh map recording", daemon=True)

    def start(self) -> None:
        """Start the file. Raises NodeStartError if it cannot be written."""
        try:
            self._open(self._snapshot_line())
        except OSError as error:
            raise NodeStartError(f"cannot write the recording {self._path}: {error.strerror or error}") from error
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and close the file."""
        try:
            self._pieces.put(None, timeout=CLOSE_TIMEOUT)
        except queue.Full:
            log.warning(
                "recording_incomplete", "the end of the recording %s is missing: the disk is too slow", self._path
            )
        else:
            self._thread.join(CLOSE_TIMEOUT)

    def add(self, updates: Updates) -> None:
        """Record changes. The event loop calls this."""
        if self._has_failed:
            return
        if self._needs_snapshot:
            piece = self._snapshot_line()
        else:
            at = round(self._clock(), 3)
            lines: list[dict[str, Any]] = [{"at": at, "type": "gone", "node": name} for name in updates.gone]
            for name, is_slow in updates.reports.items():
                if (report := self._report(name)) is not None:
                    shown = report if is_slow else without_slow_parts(report)
                    lines.append({"at": at, "type": "report", "report": shown})
            lines += [{"at": at, "type": "event", "event": event} for event in updates.events]
            piece = b"".join(map(_line, lines))
        try:
            self._pieces.put_nowait(piece)
            self._needs_snapshot = False
        except queue.Full:
            self._needs_snapshot = True

    def _snapshot_line(self) -> bytes:
        return _line({"at": round(self._clock(), 3), "type": "snapshot", "snapshot": self._snapshot()})

    # In the thread, and before it starts

    def _run(self) -> None:
        try:
            while (piece := self._pieces.get()) is not None:
                if self._written + len(piece) <= self._limit:
                    self._write(piece)
                elif b'"type":"snapshot"' in piece[:80]:
                    self._open(piece)
                else:  # The new file must start with a snapshot, which the event loop makes with the next change.
                    self._needs_snapshot = True
                    self._written = self._limit
        except OSError as error:
            self._has_failed = True
            log.error(  # noqa: TRY400 - the disk is full or gone
                "recording_failed", "the recording %s ends: %s", self._path, error.strerror or error, reason=error
            )
        finally:
            os.close(self._descriptor)

    def _open(self, snapshot: bytes) -> None:
        """Start a new file. The one before becomes ``FILE.1``."""
        part = self._path.with_name(self._path.name + ".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._descriptor, old = descriptor, self._descriptor
        if old >= 0:
            os.close(old)
        self._written = 0
        self._write(snapshot)
        if self._path.exists():
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        part.replace(self._path)

    def _write(self, piece: bytes) -> None:
        self._written += len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
