"""Why a connection did not come, or how it ended: the last word about each node, for a bounded number of nodes."""

from __future__ import annotations

from typing import Final

__all__ = ["Reasons"]

KEPT: Final = 256


class Reasons:
    """The nodes that were heard of longest ago are forgotten."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def of(self, name: str) -> str | None:
        return self._of.get(name)

    def note(self, name: str, why: str) -> None:
        self._of.pop(name, None)
        self._of[name] = why
        if len(self._of) > KEPT:
            del self._of[next(iter(self._of))]

    def forget(self, name: str) -> None:
        self._of.pop(name, None)
