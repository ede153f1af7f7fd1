"""The client of a node's health server.

It imports little, not even pathlib, because containers check their health every few seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["read_health", "short_socket_path", "socket_folders"]

MAX_RESPONSE_BYTES: Final = 1 << 16


def socket_folders(environment: Mapping[str, str]) -> list[str]:
    """Return the folders that may contain the socket, most likely first.

    It is ERLMESH_STATE if that is set, otherwise XDG's runtime folder and state folder.
    """
    if state := environment.get("ERLMESH_STATE"):
        return [state]
    home = environment.get("HOME")
    named = [
        environment.get("XDG_RUNTIME_DIR"),
        environment.get("XDG_STATE_HOME"),
        f"{home}/.local/state" if home else None,
    ]
    return [os.path.join(root, "erlmesh") for root in named if root and os.path.isabs(root)]  # noqa: PTH117, PTH118


def read_health(path: str | os.PathLike[str], timeout: float) -> dict[str, Any]:
    """Return the report of the node with the socket ``path``.

    Raises ``OSError``. ``ConnectionRefusedError`` means that the node was killed and left its socket file behind.
    """
    with short_socket_path(path) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(short)
        data = b""
        while len(data) < MAX_RESPONSE_BYTES and (piece := connection.recv(MAX_RESPONSE_BYTES)):
            data += piece
    try:
        report = json.loads(data)
    except ValueError:
        raise ConnectionAbortedError("the response is truncated") from None
    return report if isinstance(report, dict) else {}


@contextlib.contextmanager
def short_socket_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give a short name for ``path``. A Unix socket's address has room for 107 bytes only."""
    parent, name = os.path.split(path)
    folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)
