"""The screen of ``erlmesh top``: curses draws, the event loop reads keys. Only this module needs a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from erlmesh.cli.map import connect_to_all
from erlmesh.cli.output import shown
from erlmesh.cli.top_view import KEYS, TopView
from erlmesh.core.cluster_view.tables import make_table
from erlmesh.core.cluster_view.texts import columns_of, fitting
from erlmesh.errors import NodeStartError
from erlmesh.node import Node
from erlmesh.services.viewing.collector import Collector
from erlmesh.services.viewing.process_watch import ProcessWatch

if TYPE_CHECKING:
    from erlmesh.core.cluster_view.processes import ProcessSample
    from erlmesh.core.cluster_view.shapes import Report
    from erlmesh.runtime.config import NodeConfig

__all__ = ["show"]

REDRAW: Final = 1.0
"""Seconds between two drawings, if nothing else causes one."""
SETTLE: Final = 0.1
"""Seconds in which changes come together."""
FRAME_LINES: Final = 4
"""The two lines above the table, the titles, and the line of keys."""
CTRL_L: Final = "\x0c"
ESCAPE_DELAY_MS: Final = 25
"""How long curses waits whether an escape character begins the code of a key."""


async def show(stop: asyncio.Event, config: NodeConfig, peers: list[str], view: TopView, interval: float) -> int:
    """Show the cluster until the user ends it or ``stop`` is set. Return the exit code."""
    async with Node.from_config(config) as node:
        changed = asyncio.Event()
        collector = Collector(node.internals, node.pg, None)
        collector.add_listener(lambda _: changed.set())
        watch = ProcessWatch(node.internals, collector, interval=interval, changed=changed.set)
        with Screen() as screen:
            top = _Top(watch, view, screen, changed, stop)
            connecting = asyncio.ensure_future(connect_to_all(node, peers, top.tell))
            try:
                async with collector, watch:
                    await top.run()
            finally:
                connecting.cancel()
    return 0


class Screen:
    """The terminal as a screen. What it showed before is there again afterwards. Raises NodeStartError on entry."""

    def __enter__(self) -> Self:
        try:
            import curses  # noqa: PLC0415 - missing in some builds of Python
        except ImportError:
            raise NodeStartError("this Python has no module curses: add --once to print the tables once") from None
        self._curses = curses
        if hasattr(curses, "set_escdelay"):
            curses.set_escdelay(ESCAPE_DELAY_MS)
        try:
            self._window = curses.initscr()
        except curses.error as error:
            raise NodeStartError(f"the terminal cannot show it ({error}): set TERM, or add --once") from None
        self._handlers = _LogLines.install()
        curses.noecho()
        curses.cbreak()  # Ctrl-C stays a signal
        self._window.keypad(True)
        self._window.nodelay(True)
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._curses.endwin()
        self._handlers.remove()

    @property
    def last_log(self) -> str:
        """The newest line of the log, which cannot be printed here."""
        return self._handlers.last

    @property
    def size(self) -> tuple[int, int]:
        """Lines and columns."""
        lines, columns = self._window.getmaxyx()
        return lines, columns

    def key(self) -> str | None:
        """Return the next key that was pressed, or None."""
        curses = self._curses
        code = self._window.getch()
        if code == -1:
            return None
        names = {
            curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_LEFT: "left", curses.KEY_RIGHT: "right",
            curses.KEY_PPAGE: "pageup", curses.KEY_NPAGE: "pagedown", curses.KEY_HOME: "home",
        }  # fmt: skip
        return names.get(code) or (chr(code) if 0 <= code < 128 else "")

    def resize(self) -> None:
        """The terminal has another size."""
        with contextlib.suppress(OSError, self._curses.error):
            size = os.get_terminal_size(sys.stdout.fileno())
            self._curses.resizeterm(max(1, size.lines), max(1, size.columns))

    def repaint(self) -> None:
        """Write everything again with the next drawing: another program may have written to the terminal."""
        self._window.clearok(True)

    def draw(self, lines: list[str], titles: int) -> None:
        """Show ``lines``, with the last of them on the last line. The line ``titles`` is in reverse video."""
        height, width = self.size
        self._window.erase()
        places = [*range(len(lines) - 1), height - 1]
        for place, text in zip(places, lines, strict=True):
            if place < height:
                style = self._curses.A_REVERSE if place in (titles, height - 1) else self._curses.A_NORMAL
                shown = fitting(text, width - 1)
                self._write(place, shown + " " * (width - 1 - columns_of(shown)) if style else shown, style)
        self._window.refresh()

    def _write(self, line: int, text: str, style: int) -> None:
        with contextlib.suppress(self._curses.error):  # the last cell of a tiny terminal
            try:
                self._window.addstr(line, 0, text, style)
            except UnicodeEncodeError:  # the terminal's encoding has not all characters
                self._window.addstr(line, 0, text.encode("ascii", "replace").decode(), style)


class _LogLines(logging.Handler):
    """Keeps the last line of the log, while nothing else may write to the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._log = logging.getLogger("erlmesh")
        self._before: list[logging.Handler] = []

    @classmethod
    def install(cls) -> _LogLines:
        lines = cls()
        lines._before, lines._log.handlers = lines._log.handlers, [lines]
        return lines

    def remove(self) -> None:
        self._log.handlers = self._before

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self.last = shown(record.getMessage()).partition("\n")[0]


class _Top:
    """Draws when something has changed, and each second. Reads keys when there are some."""

    def __init__(
        self,
        watch: ProcessWatch,
        view: TopView,
        screen: Screen,
        changed: asyncio.Event,
        stop: asyncio.Event,
    ) -> None:  # fmt: skip
        self._watch = watch
        self._view = view
        self._screen = screen
        self._changed = changed
        self._stop = stop
        self._status = "connecting …"
        self._seen: tuple[dict[str, Report], dict[str, ProcessSample], float] | None = None

    def tell(self, text: str) -> None:
        """Show a sentence in the second line, until there is something to show."""
        self._status = shown(text)
        self._changed.set()

    async def run(self) -> None:
        """Draw until the user ends it."""
        loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
        loop.add_reader(keyboard, self._read_keys, keyboard)
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        try:
            while not self._stop.is_set():
                self._draw()
                await self._wait()
        finally:
            loop.remove_reader(keyboard)
            loop.remove_signal_handler(signal.SIGWINCH)

    async def _wait(self) -> None:
        """Wait for a change, for a signal, or for a second."""
        waits = [asyncio.ensure_future(each.wait()) for each in (self._changed, self._stop)]
        try:
            await asyncio.wait(waits, timeout=REDRAW, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if self._changed.is_set() and not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE):
                    await self._stop.wait()
        self._changed.clear()

    def _read_keys(self, keyboard: int) -> None:
        found = False
        while (key := self._screen.key()) is not None:
            found = True
            if key == CTRL_L:
                self._screen.repaint()
            if not self._view.press(key, self._page()):
                self._stop.set()
        if not found and not _is_open(keyboard):
            self._stop.set()  # the terminal is gone
        self._draw()

    def _resized(self) -> None:
        self._screen.resize()
        self._draw()

    def _page(self) -> int:
        return max(1, self._screen.size[0] - FRAME_LINES)

    def _draw(self) -> None:
        view, now = self._view, time.time()
        if not view.is_paused or self._seen is None:
            self._seen = self._watch.collector.cluster.reports(), dict(self._watch.samples), now
        rows = view.sorted(view.name, make_table(view.name, *self._seen))
        page = self._page()
        view.clamp(len(rows), page)
        table = view.lines(view.name, rows[view.offset : view.offset + page], mark_order=True)
        self._screen.draw([self._summary(len(rows), page, now), self._news(), *table, KEYS], 2)

    def _summary(self, count: int, page: int, now: float) -> str:
        reports = self._watch.collector.cluster.reports().values()
        alive = sum(report["alive"] for report in reports)
        down = len(reports) - alive
        rows = f"{self._view.name} {self._view.offset + 1}-{min(count, self._view.offset + page)} of {count}"
        states = f"{alive} nodes up" + (f", {down} down" if down else "")
        paused = "  PAUSED" if self._view.is_paused else ""
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        return f"erlmesh top  {clock}  {states}  {rows if count else 'no rows'}{paused}"

    def _news(self) -> str:
        if self._screen.last_log:
            return self._screen.last_log
        events = self._watch.collector.cluster.history.events()
        return events[-1]["text"] if events else self._status


def _is_open(descriptor: int) -> bool:
    """Whether a descriptor that was readable, but had no key, still is a terminal."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return not any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poller.poll(0))
