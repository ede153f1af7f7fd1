"""What a group is called."""

from __future__ import annotations

from erlmesh import etf
from erlmesh.terms import Atom, Term

__all__ = ["normalize_group_name"]


def normalize_group_name(name: Term) -> Term:
    """``name`` as other nodes would name the group (a ``str`` as ``bytes``), and as nobody can change it afterwards.

    Raises ``EncodeError`` for what is no term.
    """
    return name if isinstance(name, Atom) else etf.decode(etf.encode(name))
