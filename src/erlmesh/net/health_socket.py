"""Where a node tells of its health, and how it is asked. It imports little: containers ask every few seconds."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["read_health", "short_socket_path", "socket_folders"]

MAX_RESPONSE_BYTES: Final = 1 << 16


def socket_folders(environment: Mapping[str, str]) -> list[Path]:
    """Where the socket may be, the likeliest first: ERLMESH_STATE, or else XDG's runtime and state folders."""
    if state := environment.get("ERLMESH_STATE"):
        return [Path(state)]
    home = environment.get("HOME")
    named = [
        environment.get("XDG_RUNTIME_DIR"),
        environment.get("XDG_STATE_HOME"),
        f"{home}/.local/state" if home else None,
    ]
    return [Path(root) / "erlmesh" for root in named if root and Path(root).is_absolute()]


def read_health(path: Path, timeout: float) -> dict[str, Any]:
    """What the node with the socket ``path`` tells. Raises ``OSError``; refused means that it has been killed."""
    with short_socket_path(path) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout)
        link.connect(short)
        data = b""
        while len(data) < MAX_RESPONSE_BYTES and (piece := link.recv(MAX_RESPONSE_BYTES)):
            data += piece
    try:
        told = json.loads(data)
    except ValueError:
        raise ConnectionAbortedError("the answer breaks off") from None
    return told if isinstance(told, dict) else {}


@contextlib.contextmanager
def short_socket_path(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket's address, which has room for 107 bytes."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
