"""The distribution header and its atom cache (``erl_dist_protocol``, "Distribution Header").

Each direction of a connection has a cache of 8 segments with 256 cells each, all empty at first. A header lists the
atoms of its frame as references. A *new* reference carries the atom's text and fills a cell. Any other reference names
a filled cell. In the terms after the header, an atom takes two bytes, a tag and the index of its reference::

    N  N + 1 flags of half a byte: one for each reference, one for all  N × (slot [length text])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from erlmesh.errors import RemoteProtocolError
from erlmesh.terms import Atom

__all__ = [
    "CACHED_HEADER_SIZE",
    "MAX_REFERENCES",
    "AtomReader",
    "AtomWriter",
    "Reference",
    "References",
    "encode_references",
]

MAX_REFERENCES: Final = 255
CELLS: Final = 8 * 256
_NEW: Final = 8  # in the flags of a reference: NewCacheEntryFlag; the other three bits are the segment
_LONG_ATOMS: Final = 1  # in the last flags: the lengths of all texts have two bytes

CACHED_HEADER_SIZE: Final = (3, *(3 + count // 2 + 1 + count for count in range(1, 256)))
"""By N: the size of a header ``131 68 N …`` with N references, none of which is new."""

Reference = tuple[int, bytes | None]
"""A cell (segment × 256 + slot), and the atom's text if the reference is new, else None."""


class AtomReader:
    """The receiving side: the cells that the peer has filled."""

    def __init__(self) -> None:
        self._cells: dict[int, Atom] = {}
        self.overwrites = 0
        """How often a filled cell got another atom. After each, results cached by header bytes are invalid."""

    def restore(self, cells: dict[int, Atom]) -> None:
        """Take over the filled cells of another implementation."""
        self._cells = cells

    def read(self, data: bytes, offset: int) -> tuple[tuple[Atom, ...], bool, int]:
        """Read the references at ``offset``, where N is. Return their atoms, whether any is new, and the next offset.

        Headers must be read in the order of their arrival, because they change the cells. Raises RemoteProtocolError.
        """
        try:
            return self._read(data, offset)
        except IndexError:
            raise RemoteProtocolError("the distribution header is truncated") from None

    def _read(self, data: bytes, offset: int) -> tuple[tuple[Atom, ...], bool, int]:
        count = data[offset]
        if not count:
            return (), False, offset + 1
        flags_at = offset + 1
        offset = flags_at + count // 2 + 1  # N + 1 half bytes, rounded up to whole bytes
        long_atoms = bool(_nibble(data, flags_at, count) & _LONG_ATOMS)
        atoms: list[Atom] = []
        has_new = False
        for index in range(count):
            flags = _nibble(data, flags_at, index)
            cell = (flags & 7) << 8 | data[offset]  # segment and slot
            offset += 1
            if flags & _NEW:
                has_new = True
                offset = self._fill(cell, data, offset, long_atoms=long_atoms)
            elif cell not in self._cells:
                raise RemoteProtocolError(f"the distribution header refers to the empty atom cache cell {cell}")
            atoms.append(self._cells[cell])
        return tuple(atoms), has_new, offset

    def _fill(self, cell: int, data: bytes, offset: int, *, long_atoms: bool) -> int:
        size = data[offset]
        offset += 1
        if long_atoms:
            size = size << 8 | data[offset]
            offset += 1
        text = data[offset : offset + size]
        if len(text) < size:
            raise IndexError  # `read` reports it as a truncated header
        try:
            atom = Atom(text.decode())
        except ValueError as error:
            raise RemoteProtocolError(f"the distribution header has an invalid atom: {error}") from None
        if self._cells.get(cell, atom) is not atom:
            self.overwrites += 1
        self._cells[cell] = atom
        return offset + size


def _nibble(data: bytes, flags_at: int, index: int) -> int:
    """Return the flags with this index: the low half of a byte first, then the high half."""
    byte = data[flags_at + index // 2]
    return byte >> 4 if index & 1 else byte & 15


def encode_references(references: Sequence[Reference], *, long_atoms: bool = False) -> bytes:
    """Return a header, from N on, with at most 255 references.

    ``long_atoms`` writes all lengths in two bytes even if none needs it. A BEAM does so if a long atom is among the
    references that are not new.
    """
    count = len(references)
    if not count:
        return b"\x00"
    long_atoms = long_atoms or any(text is not None and len(text) > 255 for _, text in references)
    nibbles = [cell >> 8 | (_NEW if text is not None else 0) for cell, text in references]
    nibbles += [_LONG_ATOMS if long_atoms else 0, 0]  # the second 0 fills the last byte if N is even
    out = bytearray([count])
    out += bytes(nibbles[index] | nibbles[index + 1] << 4 for index in range(0, count + 1, 2))
    for cell, text in references:
        out.append(cell & 0xFF)
        if text is not None:
            out += len(text).to_bytes(2 if long_atoms else 1, "big")
            out += text
    return bytes(out)


class References(dict[Atom, int]):
    """The references of a header under construction: a dict from an atom to the index of its reference.

    ``get`` adds the atom if it has a cell, or if a free cell is left for it. (A plain ``dict`` copy never adds.) So the
    encoder, which calls ``get`` for every atom, collects the references of a frame.

    While ``encoding_message`` is true, new atoms may use only the first half of all cells. The other half is for atoms
    of control tuples: names of nodes and processes, which recur in many frames.
    """

    def __init__(self, cells: dict[Atom, int], *, limit: int) -> None:
        super().__init__()
        self._cells = cells
        self._limit = limit
        self.encoding_message = False

    def get(self, atom: Atom, default: Any = None) -> Any:
        number = super().get(atom, default)
        if number is None and len(self) < self._limit and (atom in self._cells or self._may_fill()):
            number = self[atom] = len(self)
        return number

    def _may_fill(self) -> bool:
        return len(self._cells) + len(self) < (CELLS // 2 if self.encoding_message else CELLS)


class AtomWriter:
    """The sending side: the cells that we fill.

    Cells are filled in order and never overwritten, so every header that was sent once keeps its meaning. When all
    cells are used, further atoms are written in full.
    """

    def __init__(self) -> None:
        self._cells: dict[Atom, int] = {}

    def new_header(self, *, limit: int = MAX_REFERENCES) -> References:
        """Start a header with at most ``limit`` references. It has no effect on the cells until :meth:`write`."""
        return References(self._cells, limit=limit)

    def write(self, references: Iterable[Atom]) -> tuple[bytes, bool]:
        """Return the header, from N on, and whether it fills cells. If it does, it must be sent exactly once."""
        entries: list[Reference] = []
        has_new = False
        for atom in references:
            cell = self._cells.get(atom)
            if cell is None:
                has_new = True
                cell = self._cells[atom] = len(self._cells)
                entries.append((cell, atom.name.encode()))
            else:
                entries.append((cell, None))
        return encode_references(entries), has_new
