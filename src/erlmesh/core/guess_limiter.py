"""How fast other addresses may guess the cookie. No I/O: time is an argument.

A digest that is checked is a guess. After some wrong ones, an address gets one check per delay, and the delay doubles
with each further failure up to a limit. Checks that come earlier wait. If they would have to wait too long, they are
refused unchecked, so an attacker learns nothing from them.

A node that has proved the cookie before is counted apart from the other names at its address. So a guesser on the same
host, or behind the same NAT, does not keep it out.
"""

from __future__ import annotations

from typing import Final

from erlmesh.proto.bounded_dict import BoundedDict
from erlmesh.records import record

__all__ = ["GUESS_DELAY", "GuessLimiter"]

GUESS_DELAY: Final = 0.5
"""Default of the longest delay between two checks, in seconds."""
FREE_FAILURES: Final = 3
"""Wrong digests without a delay: typing errors, and nodes of another cluster."""
FIRST_DELAY: Final = 0.1
"""Seconds of the first delay."""
LONGEST_WAIT: Final = 3.0
"""Seconds that a check may have to wait. The whole handshake has 7 s."""
FORGET_AFTER: Final = 300.0
"""Seconds without a failure after which an address starts anew."""
MAX_KEYS: Final = 1024
"""Addresses, and nodes that have proved the cookie, that are remembered."""


@record
class _Guesses:
    failures: int = 0
    last_failure: float = 0.0
    next_check: float = 0.0
    """When the next digest may be checked."""


class GuessLimiter:
    """The failures of all addresses. ``longest_delay`` is in seconds; 0 limits nothing."""

    def __init__(self, longest_delay: float = GUESS_DELAY) -> None:
        self._longest_delay = longest_delay
        self._guesses: BoundedDict[tuple[str, str], _Guesses] = BoundedDict(MAX_KEYS)
        self._proved: BoundedDict[tuple[str, str], None] = BoundedDict(MAX_KEYS)

    def wait_before_check(self, address: str, name: str, now: float) -> float | None:
        """A digest of the node ``name`` at ``address`` is there. Return the seconds until it may be checked.

        None means: refuse it unchecked. Each call that returns a number reserves one check.
        """
        guesses = self._guesses.get(self._key(address, name))
        if guesses is None or guesses.failures < FREE_FAILURES or now - guesses.last_failure > FORGET_AFTER:
            return 0.0
        at = max(now, guesses.next_check)
        if at - now > LONGEST_WAIT:
            return None
        guesses.next_check = at + self._delay(guesses)
        return at - now

    def failed(self, address: str, name: str, now: float) -> None:
        """The digest was wrong."""
        key = self._key(address, name)
        guesses = self._guesses.get(key)
        if guesses is None or now - guesses.last_failure > FORGET_AFTER:
            guesses = _Guesses()
            self._guesses.store(key, guesses)
        guesses.failures += 1
        guesses.last_failure = now
        guesses.next_check = max(guesses.next_check, now + self._delay(guesses))

    def proved(self, address: str, name: str) -> None:
        """The digest was right."""
        self._proved.store((address, name), None)

    def _key(self, address: str, name: str) -> tuple[str, str]:
        return (address, name if (address, name) in self._proved else "")

    def _delay(self, guesses: _Guesses) -> float:
        doublings = min(guesses.failures - FREE_FAILURES, 20)
        return 0.0 if doublings < 0 else min(self._longest_delay, FIRST_DELAY * 2.0**doublings)
