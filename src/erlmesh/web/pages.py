"""The files of the page. They are read once, so a request names a file of a table and never a path."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

__all__ = ["INDEX", "load_pages"]

INDEX: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
    ".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".json": "application/json",
    ".ico": "image/x-icon", ".woff2": "font/woff2",
}  # fmt: skip


def load_pages() -> dict[str, tuple[bytes, str]]:
    """Return the contents and the type of each file below ``static``, by its path there."""
    found: dict[str, tuple[bytes, str]] = {}
    root = resources.files("erlmesh.web") / "static"
    if root.is_dir():
        _load(root, "", found)
    return found


def _load(folder: Traversable, prefix: str, found: dict[str, tuple[bytes, str]]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _load(entry, f"{prefix}{entry.name}/", found)
        elif (kind := _TYPES.get("." + entry.name.rpartition(".")[2])) is not None:
            found[prefix + entry.name] = entry.read_bytes(), kind
