"""How many bytes a term keeps in memory, as an estimate that is quick. Queues are bounded by it."""

from __future__ import annotations

from typing import Any, Final

from erlmesh.terms.maps import Map
from erlmesh.terms.values import BitString, Fun, ImproperList, Term

__all__ = ["term_size"]

PART: Final = 48
"""Bytes of an object without its contents, with the place that refers to it."""
_TEXTS: Final = frozenset({bytes, str, bytearray})


def term_size(term: Term) -> int:
    """Return about how many bytes ``term`` occupies. The contents of binaries count exactly, and nothing is copied.

    It takes as long as the term has elements. Objects that are not terms count as one element.
    """
    if type(term) is bytes:  # most large messages
        return PART + len(term)
    total = 0
    left: list[Any] = [term]
    while left:
        part = left.pop()
        total += PART
        kind = type(part)
        if kind in _TEXTS:
            total += len(part)
        elif kind is tuple or kind is list:
            left.extend(part)
        elif kind is Map or kind is dict:
            for pair in part.items():
                left.extend(pair)
        elif kind is int:
            total += part.bit_length() >> 3
        elif kind is memoryview:
            total += part.nbytes
        elif kind is BitString:
            total += len(part.data)
        elif kind is ImproperList:
            left.extend((*part.elements, part.tail))
        elif kind is Fun:
            left.extend(part.free)
    return total
