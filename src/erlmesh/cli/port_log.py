r"""The output of a node under a port: lines that a program reads.

What starts with the control character RS is an event, up to the end of the line. All other text is output of user code,
as it is. It may lack the end of its line, so an event may begin within a line::

    RS log LEVEL LOGGER TEXT     a record of a log; LEVEL is debug, info, warning, error or critical
    RS ready NODE PID            the node can be used; PID is that of its operating system process

Only TEXT contains blanks. In it, ``\n`` stands for the end of a line, ``\r`` for a carriage return and ``\\`` for a
backslash. So a traceback is one record, also if several threads write. ``␞`` takes the place of RS.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Final

from erlmesh.cli.log_setup import LogFormatter
from erlmesh.services.output import OutputQueue

__all__ = ["configure_port_log", "print_event", "record_line"]

RS: Final = "\x1e"
MAX_TEXT: Final = 60_000
"""Characters of one record. The rest is cut off."""
LEVELS: Final = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"))

_output = OutputQueue()
_formatter = logging.Formatter("%(message)s")
_erlmesh_formatter = LogFormatter("%(message)s")


def configure_port_log() -> None:
    """Write all logs of the process as events, from the level INFO on. Also exceptions that nobody catches."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a pipe would be written in blocks
    handler = _PortHandler()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    log = logging.getLogger("erlmesh")
    log.handlers.clear()
    log.propagate = True
    sys.excepthook = _log_exception
    threading.excepthook = lambda args: _log_exception(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def record_line(level: int, logger: str, text: str) -> str:
    """Return the event of a log record, without the end of the line."""
    name = next((name for least, name in LEVELS if level >= least), "debug")
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    text = text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace(RS, "␞")
    return f"{RS}log {name} {''.join(logger.split()) or 'root'} {text}"


def print_event(*words: str) -> None:
    """Write an event at once."""
    sys.stdout.flush()
    print(RS + " ".join(words), flush=True)


class _PortHandler(logging.Handler):
    """Writes records to stdout. What nobody reads waits in a bounded queue, so that the log cannot hold the loop."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            is_ours = record.name.partition(".")[0] == "erlmesh"
            text = (_erlmesh_formatter if is_ours else _formatter).format(record)
            _output.write(sys.stdout, record_line(record.levelno, record.name, text) + "\n")
        except Exception:
            self.handleError(record)


def _log_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the exception directly: the process may end before a queue is empty."""
    text = "".join(traceback.format_exception(kind, error, trace)).rstrip()
    print(record_line(logging.ERROR, "python", text), flush=True)
