"""Makes of a message between local processes what a receiver on another node would get."""

from __future__ import annotations

from erlmesh.errors import EncodeError
from erlmesh.etf import decode, encode
from erlmesh.terms import Term
from erlmesh.terms.copying import copy_term

__all__ = ["through_wire"]


def through_wire(message: Term) -> Term:
    """Return ``message`` encoded and decoded. Raises EncodeError if it is not a term.

    Messages that erlmesh's own parts send to each other may contain objects of theirs, and are only copied.
    """
    try:
        return decode(encode(message))
    except EncodeError:
        if _has_own_object(message):
            return copy_term(message)
        raise


def _has_own_object(message: object) -> bool:
    if isinstance(message, (tuple, list)):
        return any(map(_has_own_object, message))
    return type(message).__module__.startswith("erlmesh.") and not type(message).__module__.startswith("erlmesh.terms")
