"""Tells the end of a task from the cancellation of something that its code has awaited."""

from __future__ import annotations

import asyncio

__all__ = ["require_cancelled_task"]


def require_cancelled_task() -> None:
    """Call this after a CancelledError. Raises RuntimeError if nobody cancels the current task.

    Then its code has awaited a task or a future that was cancelled, which is an error like any other.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        raise RuntimeError("it awaited a task or a future that was cancelled")
