"""Counts and decodes a long message in slices, so that the event loop gets turns in between.

A slice takes some milliseconds in either build. With the native part it is a reader in Rust. What this reader finds
invalid is decoded again in Python, in slices too, and raises the error there.
"""

from __future__ import annotations

from collections.abc import Generator

from erlmesh import native
from erlmesh.etf.decode import SLICE_ITEMS
from erlmesh.etf.decode import decode_in_slices as decode_in_python
from erlmesh.etf.decode_leaves import Atoms
from erlmesh.etf.element_count import first_beyond_in_slices
from erlmesh.terms import Term

__all__ = ["count_in_slices", "decode_in_slices"]


def decode_in_slices(data: bytes, offset: int, atoms: Atoms = ()) -> Generator[None, None, tuple[Term, int]]:
    """Do the same as ``decode_term``, and yield after each slice."""
    if native.module is not None:
        reader = native.module.TermReader(data, offset, tuple(atoms))
        while (found := reader.read(SLICE_ITEMS)) is None:
            yield
        if found is not NotImplemented:
            return found  # type: ignore[no-any-return]
    return (yield from decode_in_python(data, offset, atoms))


def count_in_slices(data: bytes, offset: int, limit: int) -> Generator[None, None, int | None]:
    """Do the same as ``first_beyond``, and yield after each slice. In Rust it is quick, and is one slice."""
    if native.module is not None:
        return native.module.first_beyond(data, offset, limit)  # type: ignore[no-any-return]
    return (yield from first_beyond_in_slices(data, offset, limit))
