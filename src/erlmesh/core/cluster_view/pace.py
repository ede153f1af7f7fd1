"""How often a node tells its view if nothing changes."""

from __future__ import annotations

from typing import Final

__all__ = ["VIEW_INTERVAL", "view_interval"]

VIEW_INTERVAL: Final = 2.0
LINKS_A_SECOND: Final = 30


def view_interval(links: int) -> float:
    """Return the seconds between two views of a node with so many links.

    All nodes of a mesh together tell n² links each time. So the views of large meshes come less often: what an observer
    gets grows with n.
    """
    return max(VIEW_INTERVAL, links / LINKS_A_SECOND)
