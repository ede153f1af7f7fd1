"""Signals, and people, that wait for a connection which is not there yet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from erlmesh.proto.control import Signal

__all__ = ["Waiting"]

log = logging.getLogger("erlmesh")


@dataclass(slots=True)
class Waiting:
    """For one node."""

    signals: list[Signal] = field(default_factory=list)
    done: list[Callable[[bool], None]] = field(default_factory=list)
    dial: bool = False
    """Somebody wants the connection; otherwise there are only signals that will go with one that comes by itself."""

    def tell(self, up: bool) -> None:
        """To those who asked for the connection."""
        for done in self.done:
            try:
                done(up)
            except Exception:
                log.exception("a callback of connect_nowait failed")
