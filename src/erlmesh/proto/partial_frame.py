"""The start of a frame that has not arrived completely. It is joined once, when the frame is complete."""

from __future__ import annotations

from typing import Final

__all__ = ["PartialFrame"]

SHORT: Final = 16 * 1024
"""Pieces of fewer bytes are collected in one buffer, so that a frame in single bytes costs no more memory."""


class PartialFrame:
    """Pieces of received data. A long piece is kept as it is: copying it twice would cost as much as decoding it."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self.size = 0
        """Bytes of all pieces."""

    def append(self, data: bytes) -> None:
        """Add the data that follows."""
        self.size += len(data)
        if len(data) >= SHORT:
            self._pieces.append(data)
        elif self._pieces and type(self._pieces[-1]) is bytearray:
            self._pieces[-1] += data
        else:
            self._pieces.append(bytearray(data))

    def take(self) -> bytes:
        """Remove and return everything."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return data
