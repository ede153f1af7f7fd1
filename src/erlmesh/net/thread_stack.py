"""What a thread is doing right now, as seen from another."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from pathlib import Path

__all__ = ["innermost_call", "stack_of_thread"]

MAX_DEPTH: int = 12
_ASYNCIO = str(Path(asyncio.__file__).parent) + os.sep


def stack_of_thread(thread: int) -> traceback.StackSummary:
    """The calls that the thread with that identity is in, the innermost last, from where the event loop made the first
    of them; the source is read when it is formatted. Empty if there is no such thread.
    """
    frame = sys._current_frames().get(thread)
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame) if frame else iter(()), lookup_lines=False)
    stack.reverse()
    loops = [place for place, call in enumerate(stack) if call.filename.startswith(_ASYNCIO)]
    if loops and loops[-1] + 1 < len(stack):
        del stack[: loops[-1] + 1]
    del stack[:-MAX_DEPTH]
    return stack


def innermost_call(stack: traceback.StackSummary) -> str:
    """``train (/app/model.py:12)``, or an empty text."""
    return f"{stack[-1].name} ({stack[-1].filename}:{stack[-1].lineno})" if stack else ""
