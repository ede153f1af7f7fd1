"""Times that users write."""

from __future__ import annotations

from erlmesh.errors import NodeStartError

__all__ = ["positive_seconds"]


def positive_seconds(text: str, source: str) -> float:
    """Raises NodeStartError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise NodeStartError(f"{source} is {text!r}: it must be a positive number of seconds")
    return seconds
