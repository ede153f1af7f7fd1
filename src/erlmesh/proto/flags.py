"""The 64 capability bits of the handshake, under OTP's names (``dist.hrl``, DFLAG_…).

A connection may use the capabilities that both ends have: ``OFFERED & peer_flags.expanded()``. Only
:attr:`Flags.PUBLISHED` is not a capability. It describes the node that sends it: a node without it is hidden.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

__all__ = ["HIDDEN", "MANDATORY_25", "OFFERED", "REQUIRED", "Flags"]


class Flags(IntFlag):
    """The bits, under OTP's names. Unknown bits are kept and have no effect."""

    PUBLISHED = 1 << 0
    ATOM_CACHE = 1 << 1
    EXTENDED_REFERENCES = 1 << 2
    DIST_MONITOR = 1 << 3
    FUN_TAGS = 1 << 4
    DIST_MONITOR_NAME = 1 << 5
    HIDDEN_ATOM_CACHE = 1 << 6
    NEW_FUN_TAGS = 1 << 7
    EXTENDED_PIDS_PORTS = 1 << 8
    EXPORT_PTR_TAG = 1 << 9
    BIT_BINARIES = 1 << 10
    NEW_FLOATS = 1 << 11
    UNICODE_IO = 1 << 12
    DIST_HDR_ATOM_CACHE = 1 << 13
    SMALL_ATOM_TAGS = 1 << 14
    UTF8_ATOMS = 1 << 16
    MAP_TAG = 1 << 17
    BIG_CREATION = 1 << 18
    SEND_SENDER = 1 << 19
    BIG_SEQTRACE_LABELS = 1 << 20
    EXIT_PAYLOAD = 1 << 22
    FRAGMENTS = 1 << 23
    HANDSHAKE_23 = 1 << 24
    UNLINK_ID = 1 << 25
    MANDATORY_25_DIGEST = 1 << 26
    SPAWN = 1 << 32
    NAME_ME = 1 << 33
    V4_NC = 1 << 34
    ALIAS = 1 << 35
    ALTACT_SIG = 1 << 37

    def expanded(self) -> Flags:
        """Return the flags, with all bits that ``MANDATORY_25_DIGEST`` stands for if it is set.

        OTP 25 and later may send it instead of these bits.
        """
        return self | MANDATORY_25 if self & Flags.MANDATORY_25_DIGEST else self

    def missing(self, required: Flags) -> list[str]:
        """Return the names of the ``required`` bits that are not set here, lowest bit first."""
        return [flag.name or hex(flag) for flag in required & ~self]


MANDATORY_25: Final = (
    Flags.EXTENDED_REFERENCES
    | Flags.FUN_TAGS
    | Flags.NEW_FUN_TAGS
    | Flags.EXTENDED_PIDS_PORTS
    | Flags.EXPORT_PTR_TAG
    | Flags.BIT_BINARIES
    | Flags.NEW_FLOATS
    | Flags.UTF8_ATOMS
    | Flags.MAP_TAG
    | Flags.BIG_CREATION
    | Flags.HANDSHAKE_23
)
"""The bits that ``MANDATORY_25_DIGEST`` stands for. OTP 25 requires them of its peers."""

OFFERED: Final = (
    MANDATORY_25
    | Flags.PUBLISHED
    | Flags.DIST_MONITOR
    | Flags.DIST_MONITOR_NAME
    | Flags.UNICODE_IO
    | Flags.DIST_HDR_ATOM_CACHE
    | Flags.SMALL_ATOM_TAGS
    | Flags.SEND_SENDER
    | Flags.BIG_SEQTRACE_LABELS
    | Flags.EXIT_PAYLOAD
    | Flags.FRAGMENTS
    | Flags.UNLINK_ID
    | Flags.MANDATORY_25_DIGEST
    | Flags.SPAWN
    | Flags.V4_NC
    | Flags.ALIAS
)
"""The flags that a visible node sends. They are exactly those of OTP 25, which OTP 23 to 28 accept."""

HIDDEN: Final = OFFERED & ~Flags.PUBLISHED
"""The flags that a hidden node sends."""

REQUIRED: Final = (
    Flags.EXTENDED_REFERENCES
    | Flags.EXTENDED_PIDS_PORTS
    | Flags.UTF8_ATOMS
    | Flags.NEW_FUN_TAGS
    | Flags.BIG_CREATION
    | Flags.HANDSHAKE_23
)
"""The flags that we require of a peer: only those that OTP 23 requires."""
