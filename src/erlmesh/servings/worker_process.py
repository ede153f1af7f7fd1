"""The program of a worker process: it imports the function, and runs it for each batch that comes through the pipe.

::

    worker ── (READY, None) ──▶ parent        the function is imported
    parent ── [Input, ...] ──▶ worker
    worker ── (True, Outputs) ──▶ parent
    worker ── (FAILED, Exception) ──▶ parent  the function has raised it, or it could not be imported
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

__all__ = ["FAILED", "READY", "run_worker"]

READY: Final = "ready"
FAILED: Final = "failed"


def run_worker(pipe: Connection, module: str, qualname: str) -> None:
    """Work until the pipe closes."""
    # The node decides when its workers end. Ctrl-C and some init systems signal all processes of a group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function = _find(module, qualname)
    except Exception as error:
        pipe.send((FAILED, _sendable(error)))
        return
    pipe.send((READY, None))
    while True:
        try:
            inputs = pipe.recv()
        except EOFError:
            return
        try:
            _send(pipe, True, function(inputs))
        except (Exception, SystemExit) as error:
            _send(pipe, FAILED, _sendable(error))


def _end_with_parent() -> None:
    """End at once when the parent ends, also in the middle of a batch. ``kill -9`` gives it no time to say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _find(module: str, qualname: str) -> Callable[[list[Any]], Any]:
    """Return the function, also if the decorator has put a Serving in its place."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    function: Callable[[list[Any]], Any] = getattr(found, "function", found)
    return function


def _send(pipe: Connection, kind: object, value: object) -> None:
    """Raises what pickle raises for a value that cannot be sent; then nothing was sent."""
    pipe.send_bytes(pickle.dumps((kind, value), protocol=pickle.HIGHEST_PROTOCOL))


def _sendable(error: BaseException) -> Exception:
    """Return an exception that can be sent, with the same text. ``worker_line`` of it says where it was raised."""
    if isinstance(error, Exception):
        for frame in traceback.extract_tb(error.__traceback__)[-1:]:
            error.worker_line = f"{frame.filename}, line {frame.lineno}, in {frame.name}"  # type: ignore[attr-defined]
        try:
            if type(pickle.loads(pickle.dumps(error))) is type(error):  # noqa: S301 - its own exception
                return error
        except Exception:  # noqa: S110 - the next line is for it
            pass
    return RuntimeError(f"{type(error).__name__}: {error}")
