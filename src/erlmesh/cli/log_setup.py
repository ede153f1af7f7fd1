"""Logging of the command line, to stderr."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from typing import TextIO

from erlmesh.cli import output
from erlmesh.net.event_log import event_log
from erlmesh.runtime.option_parsers import parse_log_format
from erlmesh.services.output import OutputQueue

__all__ = ["LogFormatter", "add_verbose", "chosen_format", "configure_log"]

_output = OutputQueue()


def add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log nodes that connect and disconnect; -vv logs more"
    )


def configure_log(verbose: int, log_format: str = "text") -> None:
    """Logs to stderr: warnings; nodes that connect and disconnect if ``verbose`` is 1; everything if it is more.

    With the format ``json``, all logs of the process are lines of JSON, also the errors of the command.
    """
    handler = _StderrHandler()
    log = logging.getLogger("erlmesh")
    if log_format == "json":
        from erlmesh.json_log import JsonFormatter  # noqa: PLC0415 - few use it

        handler.setFormatter(JsonFormatter())
        logging.getLogger().handlers[:] = [handler]
        command_log = event_log("erlmesh")
        output.write_error = lambda text: command_log.error("command_failed", "%s", text)
    else:
        handler.setFormatter(LogFormatter("%(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel((logging.WARNING, logging.INFO)[verbose] if verbose < 2 else logging.DEBUG)


def chosen_format(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """The format that the command line or else the environment gives. Raises NodeStartError.

    Commands without the option, such as ``erlmesh ping``, are for a person: they have the format ``text``.
    """
    if not hasattr(options, "log_format"):
        return "text"
    text, source = options.log_format, "--log-format"
    if text is None:
        text, source = environment.get("ERLMESH_LOG_FORMAT", "").strip() or "text", "ERLMESH_LOG_FORMAT"
    return parse_log_format(text, source)


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
