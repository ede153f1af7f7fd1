"""Log lines that other nodes and strangers cause: limited by :mod:`erlmesh.core.log_rate`."""

from __future__ import annotations

import logging
import time

from erlmesh.core.log_rate import LogRate
from erlmesh.net.event_log import EventLog
from erlmesh.terms.foreign_text import loggable_error

__all__ = ["PeerLog"]


class PeerLog:
    """Writes to ``log``, and counts what is left out. Each node has one for each logger."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._rate = LogRate()

    def write(
        self,
        level: int,
        event: str,
        cause: str,
        message: str,
        /,
        *arguments: object,
        error: BaseException | None = None,
        **fields: object,
    ) -> None:
        """Log ``event`` with ``message``, unless ``cause`` has caused too many lines of this message.

        ``cause`` is the name of a peer, an address or another text. The name of a peer is the field ``peer``, if that
        is not among the ``fields``. An argument that others have chosen must be a
        :class:`~erlmesh.terms.foreign_text.ForeignText`. The stack of ``error`` is logged, too.
        """
        self._write(level, (event, cause, message), arguments, error, fields)

    def debug(self, event: str, message: str, /, *arguments: object, **fields: object) -> None:
        """Log what another node has sent and this node ignores. All peers share the lines of ``message``."""
        self._write(logging.DEBUG, (event, "", message), arguments, None, fields)

    def _write(
        self,
        level: int,
        texts: tuple[str, str, str],
        arguments: tuple[object, ...],
        error: BaseException | None,
        fields: dict[str, object],
    ) -> None:
        event, cause, message = texts
        if not self._log.logger.isEnabledFor(level):
            return
        left_out = self._rate.admit(message, cause, time.monotonic())
        if left_out is None:
            return
        if left_out:
            message, arguments = message + " (and %s more)", (*arguments, f"{left_out:,}")
            fields["left_out"] = left_out
        if "@" in cause:
            fields.setdefault("peer", cause)
        exc_info = None if error is None else loggable_error(error)
        self._log.write(level, event, message, arguments, fields, exc_info=exc_info, depth=2)
