"""Allocates pids and references for one incarnation of a node, each one once."""

from __future__ import annotations

from collections.abc import Container

from erlmesh.terms import Atom, Pid, Ref
from erlmesh.terms.values import unchecked_pid, unchecked_ref

__all__ = ["Identifiers", "pid_number"]

# Peers without DFLAG_V4_NC (OTP 23 and before) read 15 bits of id, 13 of serial and 18 of a reference's first word.
ID_BITS = 15
SERIAL_BITS = 13
FIRST_WORD_BITS = 18
FIRST_PROCESS = 64  # a BEAM has its system processes below <0.64.0>, and so has a node here


def pid_number(pid: Pid) -> int:
    """The key of a local process in tables: it tells all pids of one incarnation apart."""
    return pid.id | pid.serial << 32


class Identifiers:
    """Allocates pids and references for ``node`` in the incarnation ``creation`` (32 bits, never 0)."""

    def __init__(self, node: Atom, creation: int) -> None:
        self.node = node
        self.creation = creation
        self._system = 0
        self._process = FIRST_PROCESS - 1
        self._reference = 0

    def system_pid(self) -> Pid:
        """Return a pid for a service of the node. There are at most 63. Raises RuntimeError above."""
        self._system += 1
        if self._system >= FIRST_PROCESS:
            raise RuntimeError("a node has at most 63 services of its own")
        return Pid(self.node, self._system, 0, self.creation)

    def pid(self, taken: Container[int]) -> Pid:
        """Return the next pid that is not in use. After 2²⁸ processes the numbers start from the beginning.

        ``taken`` contains the :func:`pid_number` of each process that is alive.
        """
        while True:
            self._process = n = self._process + 1 & (1 << ID_BITS + SERIAL_BITS) - 1 or FIRST_PROCESS
            number, serial = n & (1 << ID_BITS) - 1, n >> ID_BITS
            if number | serial << 32 not in taken:  # as pid_number, without a call
                return unchecked_pid(self.node, number, serial, self.creation)

    def ref(self) -> Ref:
        """Return a reference that differs from all others of this incarnation."""
        self._reference = n = self._reference + 1
        words = (n & (1 << FIRST_WORD_BITS) - 1, n >> FIRST_WORD_BITS & 0xFFFFFFFF, n >> FIRST_WORD_BITS + 32)
        return unchecked_ref(self.node, self.creation, words)
