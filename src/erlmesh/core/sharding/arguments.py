"""Checks of what users pass to shards, outboxes and inboxes. Each function returns the value, or raises. No I/O."""

from __future__ import annotations

from types import FunctionType
from typing import Any, Final

from erlmesh.core.sharding.messages import NAME_LIMIT

__all__ = ["MAX_SECONDS", "checked_count", "checked_keeper", "checked_name", "checked_seconds"]

MAX_SECONDS: Final = 1_000_000_000
"""Some 30 years: every event loop has timers that are so long."""
_KEEPER_FUNCTIONS: Final = ("new", "apply", "merge", "dump", "load")

_ASYNC_FLAGS: Final = 0x80 | 0x200
"""CO_COROUTINE and CO_ASYNC_GENERATOR. The module ``inspect``, which names them, makes the start slower."""


def checked_name(name: str | bytes, what: str) -> bytes:
    """Return a name as it is on the wire. ``what`` is "an outbox", for example. Raises TypeError and ValueError."""
    if not isinstance(name, str | bytes):
        raise TypeError(f"the name of {what} is a str or bytes, not {type(name).__name__}")
    encoded = name.encode() if isinstance(name, str) else name
    if not 1 <= len(encoded) <= NAME_LIMIT:
        raise ValueError(f"the name of {what} has 1 to {NAME_LIMIT} bytes, not {len(encoded)}")
    return encoded


def checked_count(value: int, text: str, least: int, most: int | None = None) -> int:
    """Return a whole number in a range. ``text`` says what it is. Raises ValueError, also for another type."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        raise ValueError(f"{text}, not {value!r}")
    return value


def checked_seconds(value: float, text: str) -> float:
    """Return a time of 0 to :data:`MAX_SECONDS` seconds. Raises ValueError, also for another type and for infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"{text}, not {value!r}")
    return value


def checked_keeper(keeper: Any) -> None:
    """Raise TypeError if an object is not a :class:`~erlmesh.core.sharding.keeper.Keeper`, as far as one can see it."""
    for name in _KEEPER_FUNCTIONS:
        function = getattr(keeper, name, None)
        if not callable(function):
            raise TypeError(f"a keeper has the functions new, apply, merge, dump and load: {keeper!r} has no {name}")
        if isinstance(keeper, type) and _is_method_of(keeper, name):
            raise TypeError(f"a keeper is an object, and {keeper.__name__} is a class: pass {keeper.__name__}()")
        if _is_async(function):
            raise TypeError(f"the functions of a keeper run at once: {name} of {keeper!r} must not be async")


def _is_method_of(kind: type, name: str) -> bool:
    """Whether a function of a class needs an object of it. A static method or a class method does not."""
    found = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
    return isinstance(found, FunctionType)


def _is_async(function: Any) -> bool:
    code = getattr(function, "__code__", None)  # A method has the one of its function.
    return code is not None and bool(code.co_flags & _ASYNC_FLAGS)
