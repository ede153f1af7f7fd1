"""The port of EPMD that the environment names. A module of its own, because a session without asyncio needs it too."""

from __future__ import annotations

import os

from erlmesh.errors import NodeStartError
from erlmesh.proto.epmd import DEFAULT_PORT

__all__ = ["default_port"]


def default_port() -> int:
    """Return ``ERL_EPMD_PORT``, or 4369 if it is not set. Raises NodeStartError if it is not a port number."""
    text = os.environ.get("ERL_EPMD_PORT", "")
    if not text:
        return DEFAULT_PORT
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise NodeStartError(f"ERL_EPMD_PORT is {text!r}, which is not a port number")
    return int(text)
