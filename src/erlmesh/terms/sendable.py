"""The type of what can be sent, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from erlmesh.terms.atoms import Atom
from erlmesh.terms.maps import Map
from erlmesh.terms.values import BitString, Export, Fun, ImproperList, Pid, Port, Ref

__all__ = ["SendableTerm"]

SendableTerm: TypeAlias = (
    Atom | int | float | str | bytes | bytearray | memoryview | BitString | Pid | Port | Ref | Fun | Export
    | ImproperList | Map | Sequence["SendableTerm"] | Mapping[Any, "SendableTerm"]
)  # fmt: skip
"""A value that can be sent: see the table in :mod:`erlmesh.terms`. None, sets and other objects are not terms.

What arrives is a ``Term``, which is ``Any``: match it. ``Sequence`` stands for ``tuple`` and ``list``, ``Mapping`` for
``dict``: a type checker accepts a ``list[int]`` for them.
"""
