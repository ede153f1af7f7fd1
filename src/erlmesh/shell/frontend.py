"""Choose the frontend of a session and handle SIGTERM. ``erlmesh shell`` calls this once its node is up."""

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
    """Return true if stdin and stdout are a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


async def run(node: Node) -> int:
    """Run a shell on ``node`` until it exits. Returns the exit code: 0 for Ctrl-D, end of input and SIGTERM."""
    session = Session(node)
    await session.start()
    try:
        return await run_session(session)
    finally:
        session.close()


async def run_session(session: ShellSession) -> int:
    """Run the prompt of ``session`` until it exits. Returns the exit code."""
    prompt_task = asyncio.ensure_future(_run_frontend(session))
    with _exit_on_sigterm(session, prompt_task):
        try:
            await prompt_task
        except asyncio.CancelledError:
            if session.exit_code is None:
                raise
    return session.exit_code or 0


async def _run_frontend(session: ShellSession) -> None:
    if is_interactive() and importlib.util.find_spec("prompt_toolkit") is not None:
        # The import takes 0.2 s, so it is done only for a terminal.
        terminal = importlib.import_module("erlmesh.shell.terminal_frontend")
        await terminal.run(session, history_file(session.node_name))
    else:
        await pipe_frontend.run(session)


@contextmanager
def _exit_on_sigterm(session: ShellSession, prompt_task: asyncio.Future[None]) -> Iterator[None]:
    """Leave the shell at SIGTERM, both while the prompt waits and while a line computes."""
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
    """Return the history file of ``node`` below the XDG state directory, or None if there is no home directory."""
    state = os.environ.get("XDG_STATE_HOME") or ""
    try:
        root = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return root / "erlmesh" / "history" / re.sub(r"[^\w@.-]", "_", node)
