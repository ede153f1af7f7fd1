"""Log lines that other nodes and strangers cause: limited by :mod:`erlmesh.core.log_rate`."""

from __future__ import annotations

import logging
import time

from erlmesh.core.log_rate import LogRate
from erlmesh.terms.foreign_text import loggable_error

__all__ = ["PeerLog"]


class PeerLog:
    """Writes to ``log``, and counts what is left out. Each node has one for each logger."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._rate = LogRate()

    def write(
        self, level: int, peer: str, message: str, *arguments: object, error: BaseException | None = None
    ) -> None:
        """Log ``message``, formatted with ``arguments``, unless ``peer`` has caused too many lines of this message.

        An argument that others have chosen must be a :class:`~erlmesh.terms.foreign_text.ForeignText`. The stack of
        ``error`` is logged, too.
        """
        if not self._log.isEnabledFor(level):
            return
        left_out = self._rate.admit(message, peer, time.monotonic())
        if left_out is None:
            return
        if left_out:
            message, arguments = message + " (and %s more)", (*arguments, f"{left_out:,}")
        self._log.log(level, message, *arguments, exc_info=None if error is None else loggable_error(error))

    def debug(self, message: str, *arguments: object) -> None:
        """Log what another node has sent and this node ignores. All peers share the lines of ``message``."""
        self.write(logging.DEBUG, "", message, *arguments)
