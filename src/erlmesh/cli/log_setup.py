"""Logging of the command line, to stderr."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TextIO

from erlmesh.services.output import OutputQueue

__all__ = ["LogFormatter", "add_verbose", "configure_log"]

_output = OutputQueue()


def add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log nodes that connect and disconnect; -vv logs more"
    )


def configure_log(verbose: int) -> None:
    """Logs to stderr: warnings; nodes that connect and disconnect if ``verbose`` is 1; everything if it is more."""
    handler = _StderrHandler()
    handler.setFormatter(LogFormatter("%(message)s"))
    log = logging.getLogger("erlmesh")
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel((logging.WARNING, logging.INFO)[verbose] if verbose < 2 else logging.DEBUG)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current ``sys.stderr``. A prompt replaces it, to keep the line that is being typed.

    A line that nobody reads waits in a bounded queue, so that the log cannot hold the event loop.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _output.write(sys.stderr, self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)


class LogFormatter(logging.Formatter):
    """Shows an exception as one line and the frames of the user's code, without those of erlmesh."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        match ei:
            case (_, BaseException() as error, _):
                from erlmesh.shell.display import format_error  # noqa: PLC0415 - it is large, and seldom needed

                return format_error(error)
        return ""
