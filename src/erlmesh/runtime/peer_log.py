"""Log lines that other nodes and strangers cause: limited by :mod:`erlmesh.core.log_rate`."""

from __future__ import annotations

import logging
import time

from erlmesh.core.log_rate import LogRate

__all__ = ["PeerLog"]


class PeerLog:
    """Writes to ``log``, and counts what is left out. Each node has one for each logger."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._rate = LogRate()

    def write(self, level: int, peer: str, message: str, *arguments: object) -> None:
        """Log ``message``, formatted with ``arguments``, unless ``peer`` has caused too many lines of this message.

        An argument that others have chosen must be a :class:`~erlmesh.terms.foreign_text.ForeignText`.
        """
        if not self._log.isEnabledFor(level):
            return
        left_out = self._rate.admit(message, peer, time.monotonic())
        if left_out is None:
            return
        if left_out:
            self._log.log(level, message + " (and %s more)", *arguments, f"{left_out:,}")
        else:
            self._log.log(level, message, *arguments)
