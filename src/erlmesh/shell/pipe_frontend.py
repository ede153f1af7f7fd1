"""The shell on a pipe or file: read lines, print results to stdout and errors to stderr, print nothing else.

On a terminal without prompt_toolkit it also prints the prompt; the terminal does the line editing.
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
    """Run the lines of ``source`` (stdin by default) until its end or ``exit()``. An error ends only its own line."""
    source = source or sys.stdin or io.StringIO()  # sys.stdin is None if it was closed
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
    """Return true if ``line`` can belong to the statement before it: indented, empty, or ``else``, ``except`` …"""
    first = line.partition(" ")[0].rstrip(":")
    return not line.strip() or line[0].isspace() or first in ("else", "elif", "except", "finally", "case")


class _LineReader:
    """Reads lines in a daemon thread, because a blocking read cannot be interrupted.

    :meth:`close` stops the thread. If it is blocked in a read, it stops with the program.
    """

    def __init__(self, source: TextIO) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._read_requests = threading.Semaphore(0)
        self._requested = self._closed = False
        threading.Thread(target=self._read, name="erlmesh-stdin", daemon=True).start()

    async def read_line(self) -> str | None:
        """Return the next line without its line end, INTERRUPTED after Ctrl-C, or None at the end of the input."""
        if not self._requested:
            self._requested = True
            self._read_requests.release()
        line = await self._queue.get()
        self._requested = line is INTERRUPTED
        return line

    def interrupt(self) -> None:
        """Handle Ctrl-C: :meth:`read_line` returns INTERRUPTED. The terminal has already discarded the typed text."""
        self._queue.put_nowait(INTERRUPTED)

    def close(self) -> None:
        """Stop the thread. No line is read after this."""
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
                return  # the event loop is closed
            if not line:
                return
