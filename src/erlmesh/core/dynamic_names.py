"""Dynamic node names: the names that this node gives to nodes that connect without one. No I/O.

``erl -sname undefined``, a remote shell without a name and ``erl_call -R`` are such nodes. They listen on no port. OTP
keeps the names of those that have left and uses them again, because its atoms live for ever (``generate_node_name/2``
in net_kernel.erl). Here each name is used once, so nothing is kept for nodes that have left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["dynamic_name"]

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FIRST_CREATION: Final = 4
"""The smaller creations are those of nodes older than OTP 23."""
_CREATIONS: Final = (1 << 32) - _FIRST_CREATION


def dynamic_name(host: str, random_32_bits: Callable[[], int]) -> tuple[str, int]:
    """Return a new node name at ``host``, and a creation for its node.

    The alive name has 64 random bits in base 36, as in OTP. So it is the name of no other node.
    """
    number = random_32_bits() << 32 | random_32_bits()
    return f"{_base_36(number)}@{host}", _FIRST_CREATION + random_32_bits() % _CREATIONS


def _base_36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits
