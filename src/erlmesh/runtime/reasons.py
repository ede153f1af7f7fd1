"""Why a connection did not come, or how it ended: the last word about each node, for a bounded number of nodes."""

from __future__ import annotations

from typing import Final

__all__ = ["LastErrors"]

MAX_NODES: Final = 256


class LastErrors:
    """The nodes that were heard of longest ago are forgotten."""

    def __init__(self) -> None:
        self._by_node: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self._by_node.get(name)

    def record(self, name: str, reason: str) -> None:
        self._by_node.pop(name, None)
        self._by_node[name] = reason
        if len(self._by_node) > MAX_NODES:
            del self._by_node[next(iter(self._by_node))]

    def discard(self, name: str) -> None:
        self._by_node.pop(name, None)
