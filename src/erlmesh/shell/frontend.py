"""Chooses the front for a session and answers SIGTERM; what ``erlmesh shell`` calls once its node is up."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from erlmesh.shell import pipe_frontend
from erlmesh.shell.session import Session

if TYPE_CHECKING:
    from erlmesh.node import Node
    from erlmesh.shell.session_protocol import ShellSession

__all__ = ["history_file", "is_interactive", "run", "run_session"]


def is_interactive() -> bool:
    """Whether a person sits in front of it."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


async def run(node: Node) -> int:
    """The shell on ``node``, until it is left. Returns the exit code: 0 for Ctrl-D, end of input and SIGTERM."""
    session = Session(node)
    await session.start()
    try:
        return await run_session(session)
    finally:
        session.close()


async def run_session(session: ShellSession) -> int:
    """A prompt for ``session`` until it is left; the exit code."""
    front = asyncio.ensure_future(_run_frontend(session))
    with _exit_on_sigterm(session, front):
        try:
            await front
        except asyncio.CancelledError:
            if session.exit_code is None:
                raise
    return session.exit_code or 0


async def _run_frontend(session: ShellSession) -> None:
    if is_interactive() and importlib.util.find_spec("prompt_toolkit") is not None:
        terminal = importlib.import_module("erlmesh.shell.terminal_frontend")  # 0.2 s that a pipe need not pay
        await terminal.run(session, history_file(session.node_name))
    else:
        await pipe_frontend.run(session)


@contextmanager
def _exit_on_sigterm(session: ShellSession, prompt_task: asyncio.Future[None]) -> Iterator[None]:
    """SIGTERM leaves, whether the prompt waits or a line computes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def leave(*_: object) -> None:
        session.exit_code = 0
        loop.call_soon_threadsafe(prompt_task.cancel)
        session.interrupt()

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def history_file(node: str) -> Path | None:
    """Where the lines typed on ``node`` are kept (XDG base directories, state); None if there is no home for them."""
    state = os.environ.get("XDG_STATE_HOME") or ""
    try:
        root = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return root / "erlmesh" / "history" / re.sub(r"[^\w@.-]", "_", node)
