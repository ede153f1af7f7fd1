"""The normal form of a group's name.

This is a module of its own because both pg and pg2 need it, and neither depends on the other.
"""

from __future__ import annotations

from erlmesh import etf
from erlmesh.terms import Atom, Term

__all__ = ["normalize_group_name"]


def normalize_group_name(name: Term) -> Term:
    """Return ``name`` as the other nodes will see it. For example, ``str`` becomes ``bytes``.

    The result is a copy, so later changes of a mutable ``name`` do not reach the group. Raises ``EncodeError`` if
    ``name`` is not a term.
    """
    return name if isinstance(name, Atom) else etf.decode(etf.encode(name))
