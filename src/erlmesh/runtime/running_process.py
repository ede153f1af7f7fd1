"""Which process runs, so that the one that fills a connection is the one that waits.

A process with a handler cannot wait. If it sends on behalf of a body, as ``pg.publish`` does, the body waits instead.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Final

from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_types import Backpressure

__all__ = ["RUNNING", "suspend_later"]

RUNNING: Final[ContextVar[LocalProcess | None]] = ContextVar("erlmesh running process", default=None)
"""The process whose body runs in this context. Callbacks that the body has scheduled may see it, too."""


def suspend_later(sender: LocalProcess, filled: Backpressure) -> None:
    """Let ``sender`` wait for ``filled`` in its next ``receive``, ``call`` or ``drain``."""
    if sender._handler is None:
        sender._blocked_on = filled
        return
    process = RUNNING.get()
    # Only the task of the body itself: its context is also that of callbacks which were scheduled in it.
    if process is not None and process._task is not None and process._task is asyncio.current_task():
        process._blocked_on = filled
