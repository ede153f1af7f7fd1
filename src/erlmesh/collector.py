"""Pauses Python's garbage collector while many objects are made that all stay alive.

The collector runs after a number of new objects. While a large message is decoded, each run finds nothing to free.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["without_collector"]

P = ParamSpec("P")
T = TypeVar("T")


def without_collector(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Return ``function(*arguments, **options)``. The collector does not run meanwhile.

    It is enabled again only if it was enabled. ``function`` must not call code of the user, which may need the
    collector, enable it or disable it.
    """
    if not gc.isenabled():
        return function(*arguments, **options)
    gc.disable()
    try:
        return function(*arguments, **options)
    finally:
        gc.enable()
