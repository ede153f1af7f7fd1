"""The wait of a node that stops for what is still queued for its peers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

__all__ = ["flush"]

FLUSH_INTERVAL: Final = 0.001
"""Seconds until the first look whether all is delivered. They double up to 16 times this."""
FLUSH_STALL: Final = 0.25
"""Seconds without progress after which this node closes its connections all the same."""


async def flush(undelivered: Callable[[], int], deadline: float) -> None:
    """Wait until the machines of all peers have what is queued for them: until ``undelivered()`` bytes are none.

    Give up at ``deadline``, and earlier if no peer has taken anything for a while. A close with unread data in the
    socket resets the connection, and what the peer has not received then is lost.
    """
    loop, pause, least = asyncio.get_running_loop(), FLUSH_INTERVAL, math.inf
    end = deadline
    while (left := undelivered()) and (now := loop.time()) < min(end, deadline):
        if left < least:
            least, end = left, now + FLUSH_STALL
        await asyncio.sleep(pause)
        pause = min(2 * pause, 16 * FLUSH_INTERVAL)
