"""Pids and references of one life of a node: given out, never twice."""

from __future__ import annotations

from collections.abc import Container

from erlmesh.terms import Atom, Pid, Ref

__all__ = ["Identifiers"]

# Peers without DFLAG_V4_NC (OTP 23 and before) read 15 bits of id, 13 of serial and 18 of a reference's first word.
ID_BITS = 15
SERIAL_BITS = 13
FIRST_WORD_BITS = 18
FIRST_PROCESS = 64  # the post's own <0.64.0>: below it a BEAM keeps its system processes, and so do we


class Identifiers:
    """Gives out pids and references for ``node`` in the life ``creation`` (32 bits, never 0)."""

    def __init__(self, node: Atom, creation: int) -> None:
        self.node = node
        self.creation = creation
        self._system = 0
        self._process = FIRST_PROCESS - 1
        self._reference = 0

    def system_pid(self) -> Pid:
        """A pid for one of the node's own services; there are at most 63."""
        self._system += 1
        if self._system >= FIRST_PROCESS:
            raise RuntimeError("a node has at most 63 services of its own")
        return Pid(self.node, self._system, 0, self.creation)

    def pid(self, taken: Container[int]) -> Pid:
        """The next pid whose :func:`number` is not in ``taken``. After 2²⁸ processes the numbers start anew."""
        while True:
            self._process = self._process + 1 & (1 << ID_BITS + SERIAL_BITS) - 1 or FIRST_PROCESS
            pid = Pid(self.node, self._process & (1 << ID_BITS) - 1, self._process >> ID_BITS, self.creation)
            if pid.id | pid.serial << 32 not in taken:
                return pid

    def ref(self) -> Ref:
        """A reference that no other in this life is equal to."""
        self._reference = n = self._reference + 1
        words = (n & (1 << FIRST_WORD_BITS) - 1, n >> FIRST_WORD_BITS & 0xFFFFFFFF, n >> FIRST_WORD_BITS + 32)
        return Ref(self.node, self.creation, words)
