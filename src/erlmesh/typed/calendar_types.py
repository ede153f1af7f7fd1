"""Elixir's ``DateTime``, ``NaiveDateTime``, ``Date`` and ``Time`` ↔ Python's ``datetime``, ``date`` and ``time``.

Python counts microseconds and has no precision, so every time that is sent has the precision 6, which Ecto's ``*_usec``
types require. In Elixir, compare with ``DateTime.compare/2``: ``==`` also compares the precision.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from erlmesh.terms import Atom, Map
from erlmesh.typed.structs import STRUCT

__all__ = ["CALENDAR_TYPES", "calendar_to_term", "date_from_term", "datetime_from_term", "time_from_term"]

DATETIME, NAIVE_DATETIME, DATE, TIME = (
    Atom(f"Elixir.{name}") for name in ("DateTime", "NaiveDateTime", "Date", "Time")
)
CALENDAR_TYPES: Final = (datetime, date, time)
_ISO: Final = Atom("Elixir.Calendar.ISO")
_CALENDAR: Final = Atom("calendar")
_DATE_FIELDS: Final = ("year", "month", "day")
_TIME_FIELDS: Final = ("hour", "minute", "second")
_PRECISION: Final = 6
_UTC_NAME: Final = "Etc/UTC"


def calendar_to_term(value: date | time) -> Map:
    """Return the Elixir struct of a date, a time, or a date with a time.

    An aware ``datetime`` becomes a ``DateTime`` in its time zone if that is a ``zoneinfo.ZoneInfo``. With any other
    offset from UTC it becomes the same moment in UTC, because Elixir requires the name of a time zone. Raises
    ValueError for an aware ``time``, which Elixir does not have.
    """
    if isinstance(value, datetime):
        return _datetime_to_term(value)
    if isinstance(value, date):
        return _struct(DATE, _fields(value, _DATE_FIELDS))
    if value.tzinfo is not None:
        raise ValueError("Elixir has no time with a time zone: send a datetime, or a time without tzinfo")
    return _struct(TIME, _time_fields(value))


def _datetime_to_term(value: datetime) -> Map:
    if value.tzinfo is None:
        return _struct(NAIVE_DATETIME, [*_fields(value, _DATE_FIELDS), *_time_fields(value)])
    if not isinstance(value.tzinfo, ZoneInfo) or value.tzinfo.key is None:
        value = value.astimezone(UTC)
    name = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else _UTC_NAME
    if name == "UTC":
        name = _UTC_NAME
    total, saving = value.utcoffset() or timedelta(), value.dst() or timedelta()
    zone: list[tuple[Atom, Any]] = [
        (Atom("time_zone"), name.encode()),
        (Atom("zone_abbr"), (value.tzname() or name).encode()),
        (Atom("utc_offset"), int((total - saving).total_seconds())),
        (Atom("std_offset"), int(saving.total_seconds())),
    ]
    return _struct(DATETIME, [*_fields(value, _DATE_FIELDS), *_time_fields(value), *zone])


def _struct(module: Atom, fields: list[tuple[Atom, Any]]) -> Map:
    return Map([(STRUCT, module), (_CALENDAR, _ISO), *fields])


def _fields(value: date | time, names: tuple[str, ...]) -> list[tuple[Atom, Any]]:
    return [(Atom(name), getattr(value, name)) for name in names]


def _time_fields(value: datetime | time) -> list[tuple[Atom, Any]]:
    return [*_fields(value, _TIME_FIELDS), (Atom("microsecond"), (value.microsecond, _PRECISION))]


def date_from_term(term: Map) -> date:
    """Return the date of a ``Date``. Raises ValueError for another calendar, and for a year outside 1 to 9999."""
    year, month, day = _date_numbers(term)
    return date(year, month, day)


def time_from_term(term: Map) -> time:
    """Return the time of a ``Time``. Raises ValueError for another calendar."""
    _require_iso(term)
    hour, minute, second = _numbers(term, _TIME_FIELDS)
    return time(hour, minute, second, _microsecond(term))


def datetime_from_term(term: Map) -> datetime:
    """Return the datetime of a ``DateTime`` (aware) or ``NaiveDateTime`` (naive). Raises ValueError, as above.

    The time zone is a ``ZoneInfo`` if this machine knows the name and agrees about the offset. Otherwise it is a
    ``timezone`` with the offset that Elixir gave, so the moment is the same in any case.
    """
    naive = datetime.combine(date_from_term(term), time_from_term(term))
    if term[STRUCT] is NAIVE_DATETIME:
        return naive
    offset = timedelta(seconds=sum(_numbers(term, ("utc_offset", "std_offset"))))
    name, abbreviation = _text(term, "time_zone"), _text(term, "zone_abbr")
    return naive.replace(tzinfo=UTC) if name == _UTC_NAME else _in_zone(naive, name, offset, abbreviation)


def _in_zone(naive: datetime, name: str, offset: timedelta, abbreviation: str) -> datetime:
    zone = _zone_info(name)
    if zone is not None:
        for fold in (0, 1):  # the hour that a change of the clock repeats is there twice, with two offsets
            value = naive.replace(tzinfo=zone, fold=fold)
            if value.utcoffset() == offset:
                return value
    return naive.replace(tzinfo=timezone(offset, abbreviation))


def _zone_info(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # also a name that is a path, or not a file of time zones
        return None


def _require_iso(term: Map) -> None:
    if term.get(_CALENDAR, _ISO) is not _ISO:
        raise ValueError("its calendar is not Calendar.ISO")


def _date_numbers(term: Map) -> list[int]:
    _require_iso(term)
    numbers = _numbers(term, _DATE_FIELDS)
    if not 1 <= numbers[0] <= 9999:
        raise ValueError(f"its year is {numbers[0]}; Python's dates have the years 1 to 9999")
    return numbers


def _numbers(term: Map, names: tuple[str, ...]) -> list[int]:
    return [_number(term, name) for name in names]


def _number(term: Map, name: str) -> int:
    value = term.get(Atom(name))
    if type(value) is int:
        return value
    raise ValueError(f"its field {name} is not an integer")


def _microsecond(term: Map) -> int:
    match term.get(Atom("microsecond")):
        case (int() as microsecond, int()):
            return microsecond
    raise ValueError("its field microsecond is not {Microsecond, Precision}")


def _text(term: Map, name: str) -> str:
    value = term.get(Atom(name))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise ValueError(f"its field {name} is not a string")
