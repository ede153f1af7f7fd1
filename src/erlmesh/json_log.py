"""Log records as lines of JSON. ::

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())

A line has ``time`` (UTC), ``level``, ``logger`` and ``message``. It also has every field of the record: ``event``,
``node``, ``peer``, ``pid``, ``reason`` and others of erlmesh, and what a program gives as ``extra``. With an exception
it has ``exception``, the traceback. A line contains ASCII only, so it cannot change what a terminal shows.
"""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any, Final

from erlmesh.terms.foreign_text import foreign_text

__all__ = ["JsonFormatter"]

MAX_TEXT: Final = 60_000
"""Characters of one message or traceback. The rest is cut off."""
STANDARD: Final = frozenset(
    (*logging.LogRecord("", 0, "", 0, None, None, None).__dict__, "message", "asctime", "taskName")
)
"""The attributes that every record has."""
FIRST: Final = ("event", "node", "peer", "pid", "reason")
"""Fields that stand before the others."""


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON. It never raises for a field: what JSON does not have becomes text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        own = {name: value for name, value in record.__dict__.items() if name not in STANDARD}
        line |= {name: _value(own[name]) for name in FIRST if name in own}
        line["message"] = record.getMessage()[:MAX_TEXT]
        line |= {name: _value(value) for name, value in own.items() if name not in line}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)[:MAX_TEXT]
        return json.dumps(line)


def _value(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and value.bit_length() <= 64:
        return value
    return str.__str__(value)[:MAX_TEXT] if isinstance(value, str) else foreign_text(value)
