"""The current stack of another thread."""

from __future__ import annotations

import asyncio
import sys
import traceback

__all__ = ["innermost_call", "stack_of_thread"]

MAX_DEPTH: int = 12
"""Calls of a stack to keep, counted from the innermost."""
_ASYNCIO = asyncio.__file__.removesuffix("__init__.py")


def stack_of_thread(thread_id: int) -> traceback.StackSummary:
    """Return the calls of the thread with this identifier, innermost last. Empty if there is no such thread.

    The stack starts at the first call after those of the event loop. The source lines are read only when the stack is
    formatted.
    """
    frame = sys._current_frames().get(thread_id)
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame) if frame else iter(()), lookup_lines=False)
    stack.reverse()
    loop_calls = [index for index, call in enumerate(stack) if call.filename.startswith(_ASYNCIO)]
    # If only calls of the event loop are on the stack, the loop itself is at work: then keep its calls.
    if loop_calls and loop_calls[-1] + 1 < len(stack):
        del stack[: loop_calls[-1] + 1]
    del stack[:-MAX_DEPTH]
    return stack


def innermost_call(stack: traceback.StackSummary) -> str:
    """Return the innermost call as ``train (/app/model.py:12)``; an empty string for an empty stack."""
    return f"{stack[-1].name} ({stack[-1].filename}:{stack[-1].lineno})" if stack else ""
