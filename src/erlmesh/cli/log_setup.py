"""What the log says at the command line, and where it says it."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

__all__ = ["configure_log"]


def configure_log(verbose: int) -> None:
    """Warnings to stderr; with ``verbose`` who comes and goes, with more of it everything."""
    handler = _StderrHandler()
    handler.setFormatter(_LogFormatter("%(message)s"))
    log = logging.getLogger("erlmesh")
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel((logging.WARNING, logging.INFO)[verbose] if verbose < 2 else logging.DEBUG)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at the time: a prompt puts its own there, to keep the line being typed."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _LogFormatter(logging.Formatter):
    """An exception's one line and the user's own frames, never ours."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        match ei:
            case (_, BaseException() as error, _):
                from erlmesh.shell.display import format_error  # noqa: PLC0415 - it is large, and seldom needed

                return format_error(error)
        return ""
