"""The distribution header and its atom cache (``erl_dist_protocol``, "Distribution Header").

Each direction of a connection has 8 segments of 256 cells, all empty at first. A header lists the atoms of its frame as
references: ``new`` ones carry their text and fill a cell, the others name a cell that is filled. In the terms that
follow an atom is then two bytes, the number of its reference::

    N  flags for N references and one for all, half a byte each  N × (slot [length text])
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
_NEW: Final = 8
_LONG_ATOMS: Final = 1

CACHED_HEADER_SIZE: Final = (3, *(3 + count // 2 + 1 + count for count in range(1, 256)))
"""How long ``131 68 N …`` is for N references none of which is new."""

Reference = tuple[int, bytes | None]
"""A cell (segment × 256 + slot) and, when the cell is filled anew, the atom's text."""


class AtomReader:
    """The cells that the peer has filled."""

    def __init__(self) -> None:
        self._cells: dict[int, Atom] = {}
        self.overwrites = 0
        """How often a filled cell was given another atom: what was remembered about references is then void."""

    def read(self, data: bytes, offset: int) -> tuple[tuple[Atom, ...], bool, int]:
        """The references at ``offset`` (where N stands): their atoms, whether any was new, and the offset after them.

        Headers must be read in the order of their arrival. Raises RemoteProtocolError.
        """
        try:
            return self._read(data, offset)
        except IndexError:
            raise RemoteProtocolError("the distribution header is cut short") from None

    def _read(self, data: bytes, offset: int) -> tuple[tuple[Atom, ...], bool, int]:
        count = data[offset]
        if not count:
            return (), False, offset + 1
        flags_at = offset + 1
        offset = flags_at + count // 2 + 1
        long_atoms = bool(_nibble(data, flags_at, count) & _LONG_ATOMS)
        atoms: list[Atom] = []
        fresh = False
        for index in range(count):
            flags = _nibble(data, flags_at, index)
            cell = (flags & 7) << 8 | data[offset]
            offset += 1
            if flags & _NEW:
                fresh = True
                offset = self._fill(cell, data, offset, long_atoms=long_atoms)
            elif cell not in self._cells:
                raise RemoteProtocolError(f"the distribution header refers to the empty atom cache cell {cell}")
            atoms.append(self._cells[cell])
        return tuple(atoms), fresh, offset

    def _fill(self, cell: int, data: bytes, offset: int, *, long_atoms: bool) -> int:
        size = data[offset]
        offset += 1
        if long_atoms:
            size = size << 8 | data[offset]
            offset += 1
        text = data[offset : offset + size]
        if len(text) < size:
            raise IndexError
        try:
            atom = Atom(text.decode())
        except ValueError as error:
            raise RemoteProtocolError(f"the distribution header has an invalid atom: {error}") from None
        if self._cells.get(cell, atom) is not atom:
            self.overwrites += 1
        self._cells[cell] = atom
        return offset + size


def _nibble(data: bytes, flags_at: int, index: int) -> int:
    byte = data[flags_at + index // 2]
    return byte >> 4 if index & 1 else byte & 15


def encode_references(references: Sequence[Reference], *, long_atoms: bool = False) -> bytes:
    """A header from N on. At most 255 references. ``long_atoms`` writes all lengths in two bytes, needed or not, as a
    BEAM does when an atom referred to is long and not new.
    """
    count = len(references)
    if not count:
        return b"\x00"
    long_atoms = long_atoms or any(text is not None and len(text) > 255 for _, text in references)
    nibbles = [cell >> 8 | (_NEW if text is not None else 0) for cell, text in references]
    nibbles += [_LONG_ATOMS if long_atoms else 0, 0]
    out = bytearray([count])
    out += bytes(nibbles[index] | nibbles[index + 1] << 4 for index in range(0, count + 1, 2))
    for cell, text in references:
        out.append(cell & 0xFF)
        if text is not None:
            out += len(text).to_bytes(2 if long_atoms else 1, "big")
            out += text
    return bytes(out)


class References(dict[Atom, int]):
    """The references of a header in the making, each with its number. Asked for an atom, with ``get``, it takes that in
    if it has a cell or there is one left for it; a plain ``dict`` made of it only answers.

    Atoms of messages may use only half of the cells (``learning``): names, which last, come first.
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
    """The cells that we fill: one after the other, none twice, so that what the peer remembers stays true.

    When all are used, further atoms must be written where they stand.
    """

    def __init__(self) -> None:
        self._cells: dict[Atom, int] = {}

    def new_header(self, *, limit: int = MAX_REFERENCES) -> References:
        """A header of at most ``most`` references. Nothing is said with it until it is written."""
        return References(self._cells, limit=limit)

    def write(self, references: Iterable[Atom]) -> tuple[bytes, bool]:
        """The header from N on, and whether it fills cells: then it must be sent, and not twice."""
        entries: list[Reference] = []
        fresh = False
        for atom in references:
            cell = self._cells.get(atom)
            if cell is None:
                fresh = True
                cell = self._cells[atom] = len(self._cells)
                entries.append((cell, atom.name.encode()))
            else:
                entries.append((cell, None))
        return encode_references(entries), fresh
