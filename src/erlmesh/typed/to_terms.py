"""Python values → terms, for values that are not terms themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from erlmesh.errors import EncodeError
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, Term
from erlmesh.typed.calendar_types import calendar_to_term
from erlmesh.typed.collection_types import decimal_to_term, map_set_to_term, range_to_term
from erlmesh.typed.duration import duration_to_term
from erlmesh.typed.exceptions import ElixirException
from erlmesh.typed.plain_objects import object_to_term
from erlmesh.typed.structs import STRUCT, struct_options

__all__ = ["AtomEnum", "keyword_list", "to_term"]

_NIL: Final = Atom("nil")


class AtomEnum(Enum):
    """An enumeration whose values are names of atoms, as Elixir and Erlang write enumerations. ::

        class Side(AtomEnum):
            BUY = "buy"  # the atom :buy

    The value of each member is a ``str``.
    """


def to_term(value: object) -> Term:
    """Return the term for a Python value. What is a term stays as it is, also inside of containers.

    ==========================================  ==============================================================
    Python                                      Elixir
    ==========================================  ==============================================================
    ``None``                                    ``nil``
    ``str``, ``bytes``                          binary
    ``dict``, ``list``, ``tuple``               map, list, tuple, with their elements converted
    class with ``elixir_struct``                the struct, with all fields
    other dataclass, other ``msgspec.Struct``   a map with atoms as keys
    ``datetime``, ``date``, ``time``            ``DateTime`` or ``NaiveDateTime``, ``Date``, ``Time``
    ``timedelta``                               ``Duration`` of Elixir 1.17 and later, in seconds
    ``Decimal``                                 ``Decimal``
    ``UUID``; ``Path``                          binary: its text; its bytes as the file system has them
    ``IPv4Address``, ``IPv6Address``            the tuple of ``inet:ip_address()``
    ``set``, ``frozenset``                      ``MapSet``
    ``range``                                   ``Range``
    ``AtomEnum``; other ``Enum``                the atom; its value
    ``ElixirException``                         the exception
    NumPy scalar                                integer, float or boolean
    NumPy array, ``memoryview``                 binary: the elements in C order, without the shape and the type
    ==========================================  ==============================================================

    Raises EncodeError for any other value, and for a value that Elixir does not have, with the path to it.
    """
    try:
        return _convert(value, "$")
    except RecursionError:
        raise EncodeError("the value is nested too deeply, or contains itself") from None


def keyword_list(values: Mapping[str, object]) -> list[tuple[Atom, Term]]:
    """Return a keyword list: ``keyword_list({"limit": 5})`` is ``[limit: 5]``. The values are converted, too."""
    return [(Atom(key), _convert(value, f"$.{key}")) for key, value in values.items()]


def _convert(value: Any, path: str) -> Term:
    converter = _CONVERTERS.get(type(value))
    if converter is not None:
        return _checked(converter, value, path)
    for kind, convert in _BASES.items():
        if isinstance(value, kind):
            return _checked(convert, value, path)
    return _convert_object(value, path)


def _checked(converter: Callable[[Any, str], Term], value: Any, path: str) -> Term:
    try:
        return converter(value, path)
    except EncodeError:
        raise
    except (ValueError, OverflowError) as error:
        raise EncodeError(f"{error} - at `{path}`") from None


def _convert_object(value: Any, path: str) -> Term:
    cls: Any = type(value)
    fields = _fields_of(cls)
    if fields is not None:
        return _convert_fields(value, fields, path)
    if hasattr(value, "dtype") and hasattr(value, "item"):  # NumPy and its like, which are not imported here
        return _convert_array(value, path)
    return _checked(object_to_term, value, path)


@lru_cache(maxsize=1024)
def _fields_of(cls: Any) -> tuple[tuple[str, str], ...] | None:
    """Return the attributes of a dataclass or a ``msgspec.Struct`` and their names in a term; else None."""
    if hasattr(cls, "__struct_fields__"):  # `rename=` gives a field another name outside of Python
        return tuple(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    if not hasattr(cls, "__dataclass_fields__"):
        return None
    from dataclasses import fields  # noqa: PLC0415 - whoever has a dataclass has loaded it

    return tuple((each.name, each.name) for each in fields(cls))


def _convert_fields(value: Any, names: tuple[tuple[str, str], ...], path: str) -> Term:
    options = struct_options(type(value))
    rest = None if options is None else options.rest
    made: list[tuple[Any, Term]] = _header(type(value))
    for attribute, name in names:
        field = getattr(value, attribute)
        if attribute == rest:
            made += field.items()
        elif not _is_unset(field):
            made.append((Atom(name), _convert(field, f"{path}.{name}")))
    return Map(made)


def _header(cls: type) -> list[tuple[Any, Term]]:
    """Return the field that names the class: the struct, or the tag of a ``msgspec.Struct``."""
    options = struct_options(cls)
    if options is not None:
        return [(STRUCT, options.module)]
    config: Any = getattr(cls, "__struct_config__", None)
    return [] if config is None or config.tag is None else [(Atom(config.tag_field), config.tag)]


def _is_unset(value: Any) -> bool:
    """True for ``msgspec.UNSET``: the field is not there. msgspec is not imported here."""
    return type(value).__name__ == "UnsetType" and type(value).__module__ == "msgspec"


def _convert_array(value: Any, path: str) -> Term:
    if getattr(value, "ndim", 0) == 0:
        return _convert(value.item(), path)
    if value.dtype.hasobject:
        raise EncodeError(f"an array of Python objects is not a term - at `{path}`")
    view = memoryview(value)
    return view.cast("B") if view.c_contiguous and view.nbytes else view


def _convert_mapping(value: Mapping[Any, Any], path: str) -> Map:
    return Map((_convert(key, f"{path}.key"), _convert(item, f"{path}[{key!r}]")) for key, item in value.items())


def _convert_each(value: Iterable[Any], path: str) -> list[Term]:
    return [_convert(item, f"{path}[{index}]") for index, item in enumerate(value)]


def _unchanged(value: Term, _path: str) -> Term:
    return value


def _finite(value: float, _path: str) -> Term:
    if isfinite(value):
        return value
    raise ValueError(f"Erlang has no float {value}: send an atom, or Decimal({str(value)!r}) to Elixir's Decimal")


_CONVERTERS: Final[dict[type, Callable[[Any, str], Term]]] = {
    type(None): lambda _value, _path: _NIL,
    bool: _unchanged,
    int: _unchanged,
    float: _finite,
    str: _unchanged,
    bytes: _unchanged,
    Atom: _unchanged,
    list: _convert_each,
    tuple: lambda value, path: tuple(_convert_each(value, path)),
    dict: _convert_mapping,
    Map: _convert_mapping,
    **dict.fromkeys((ImproperList, BitString, Pid, Port, Ref, Fun, Export, bytearray, memoryview), _unchanged),
    Decimal: lambda value, _path: decimal_to_term(value),
    set: lambda value, path: map_set_to_term(_convert_each(value, path)),
    frozenset: lambda value, path: map_set_to_term(_convert_each(value, path)),
    range: lambda value, _path: range_to_term(value),
    datetime: lambda value, _path: calendar_to_term(value),
    date: lambda value, _path: calendar_to_term(value),
    time: lambda value, _path: calendar_to_term(value),
    timedelta: lambda value, _path: duration_to_term(value),
}
_BASES: Final[dict[type, Callable[[Any, str], Term]]] = {
    AtomEnum: lambda value, _path: Atom(value.value),
    IntEnum: lambda value, _path: int(value),
    Enum: lambda value, path: _convert(value.value, path),
    ElixirException: lambda value, _path: value.term,
    datetime: _CONVERTERS[datetime],  # subclasses, for example those of pandas
    date: _CONVERTERS[date],
    time: _CONVERTERS[time],
    timedelta: _CONVERTERS[timedelta],
    tuple: _CONVERTERS[tuple],  # named tuples
    list: _CONVERTERS[list],
    Mapping: _convert_mapping,
    int: _unchanged,
    str: _unchanged,
    bytes: _unchanged,
    bytearray: _unchanged,
}
"""What subclasses become. The first one that fits counts."""
