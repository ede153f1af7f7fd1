"""The log of erlmesh: each record has the name of its event and fields, beside its text.

Every record has the attribute ``event``, a name of :data:`erlmesh.log_events.EVENTS`. It may have ``node``, ``peer``,
``pid``, ``reason`` and others. A formatter or a filter reads them from the record. Nothing is made while the level is
off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from erlmesh.terms import Pid
from erlmesh.terms.foreign_text import foreign_text
from erlmesh.terms.node_numbers import only_local_node

if TYPE_CHECKING:
    from logging import _ExcInfoType

__all__ = ["EventLog", "event_log"]


def event_log(name: str) -> EventLog:
    """Return the log of the logger with this name."""
    return EventLog(logging.getLogger(name))


class EventLog:
    """Writes events to ``logger``.

    ``message`` is formatted with ``arguments`` if a handler wants it. An argument that others have chosen must be a
    :class:`~erlmesh.terms.foreign_text.ForeignText`. A field may be any term or text: it becomes printable text of
    bounded length here. A field that is None is left out.
    """

    __slots__ = ("logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger

    def debug(self, event: str, message: str, *arguments: object, **fields: object) -> None:
        self.write(logging.DEBUG, event, message, arguments, fields)

    def info(self, event: str, message: str, *arguments: object, **fields: object) -> None:
        self.write(logging.INFO, event, message, arguments, fields)

    def warning(self, event: str, message: str, *arguments: object, **fields: object) -> None:
        self.write(logging.WARNING, event, message, arguments, fields)

    def error(
        self, event: str, message: str, *arguments: object, exc_info: _ExcInfoType | None = None, **fields: object
    ) -> None:
        self.write(logging.ERROR, event, message, arguments, fields, exc_info=exc_info)

    def exception(
        self, event: str, message: str, *arguments: object, exc_info: _ExcInfoType = True, **fields: object
    ) -> None:
        """An error, with the stack of the exception that is handled now."""
        self.write(logging.ERROR, event, message, arguments, fields, exc_info=exc_info)

    def write(
        self,
        level: int,
        event: str,
        message: str,
        arguments: tuple[object, ...],
        fields: dict[str, object],
        *,
        exc_info: _ExcInfoType | None = None,
        depth: int = 1,
    ) -> None:
        """Write an event. ``depth`` is the number of calls between this one and the place that the record names."""
        if self.logger.isEnabledFor(level):
            extra = _extra(event, fields)
            self.logger.log(level, message, *arguments, exc_info=exc_info, extra=extra, stacklevel=depth + 2)


def _extra(event: str, fields: dict[str, object]) -> dict[str, Any]:
    extra: dict[str, Any] = {"event": event}
    node = fields.pop("node", None)
    if node is None:
        pid = fields.get("pid")
        node = pid.node if isinstance(pid, Pid) else only_local_node()
    if node is not None:
        extra["node"] = foreign_text(node)
    for name, value in fields.items():
        if value is not None:
            extra[name] = value if _is_number(value) else foreign_text(value)
    return extra


def _is_number(value: object) -> bool:
    # Another node may have chosen the number, and a long one takes long to print.
    return isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64)
