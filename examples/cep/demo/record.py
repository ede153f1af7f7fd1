"""What the demo remembers: who owned a symbol when, how long results took, and which scenes there were. Plain JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Record"]


@dataclass
class Record:
    """Times are in seconds since 1970."""

    owners: list[tuple[float, str, list[str]]] = field(default_factory=list)
    """A time, a symbol, and the nodes that hold it from then on."""
    latencies: list[tuple[float, float, float]] = field(default_factory=list)
    """A time, and the median and the greatest delay of the means that arrived in the tenth of a second before it."""
    scenes: list[tuple[float, str]] = field(default_factory=list)
    """When a scene began, and its title."""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Record:
        """Raises OSError and ValueError."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
