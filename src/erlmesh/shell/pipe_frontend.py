"""The shell without a terminal: lines from a pipe or file, results on stdout, errors on stderr, nothing else.

With a terminal but without prompt_toolkit it shows the prompt and leaves editing to the terminal.
"""

from __future__ import annotations

import asyncio
import io
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from erlmesh.shell.session_protocol import ShellSession

__all__ = ["run"]

INTERRUPTED: Final = "** interrupted"


async def run(session: ShellSession, *, source: TextIO | None = None) -> None:
    """Runs what comes from ``source`` (stdin) until it ends or a line leaves. An error ends its line only."""
    source = source or sys.stdin or io.StringIO()  # it may have been closed
    prompts = source.isatty()
    lines = _LineReader(source)
    if prompts:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lines.interrupt)
    try:
        await _read_all(session, lines, prompts=prompts)
    finally:
        lines.close()


async def _read_all(session: ShellSession, lines: _LineReader, *, prompts: bool) -> None:
    text, ahead = "", None
    while session.exit_code is None:
        if prompts and ahead is None:
            session_prompt = "..> ".rjust(len(session.prompt)) if text else session.prompt
            print(session_prompt, end="", flush=True)
        line = ahead if ahead is not None else await lines.read_line()
        ahead = None
        if line is None:
            break
        if line is INTERRUPTED:
            print()
            text = ""
            continue
        if text and not _continues_statement(line) and session.is_complete(text + "\n"):
            await session.run(text)
            text, ahead = "", line
            continue
        text = f"{text}\n{line}" if text else line
        if session.is_complete(text):
            await session.run(text)
            text = ""
    if text.strip() and session.exit_code is None:
        await session.run(text)
    if prompts and session.exit_code is None:
        print()


def _continues_statement(line: str) -> bool:
    """Whether ``line`` can belong to the statement before it: it is indented, or continues an ``if`` or ``try``."""
    first = line.partition(" ")[0].rstrip(":")
    return not line.strip() or line[0].isspace() or first in ("else", "elif", "except", "finally", "case")


class _LineReader:
    """Reads in a thread. :meth:`close` ends it, or the end of the program if it reads: that cannot be interrupted."""

    def __init__(self, source: TextIO) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._read_requests = threading.Semaphore(0)
        self._requested = self._closed = False
        threading.Thread(target=self._read, name="erlmesh-stdin", daemon=True).start()

    async def read_line(self) -> str | None:
        """The next line without its end; None when there are no more."""
        if not self._requested:
            self._requested = True
            self._read_requests.release()
        line = await self._queue.get()
        self._requested = line is INTERRUPTED
        return line

    def interrupt(self) -> None:
        """Ctrl-C: :meth:`next` returns INTERRUPTED; the terminal has dropped what was typed."""
        self._queue.put_nowait(INTERRUPTED)

    def close(self) -> None:
        """No line is wanted any more."""
        self._closed = True
        self._read_requests.release()

    def _read(self) -> None:
        while self._read_requests.acquire() and not self._closed:
            try:
                line = self._source.readline()
            except (OSError, ValueError):
                line = ""
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, line.rstrip("\r\n") if line else None)
            except RuntimeError:
                return  # the loop is closed
            if not line:
                return
