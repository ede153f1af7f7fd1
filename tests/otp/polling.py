"""Waits for a condition, with a deadline. Only this module of these tests sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["HANG", "run", "wait_until", "wait_until_async"]

T = TypeVar("T")
POLL_INTERVAL = 0.005
"""Seconds between two polls."""
HANG = 40.0
"""Seconds after which a test hangs: enough for the start of a node on a loaded machine, and less than the 45 s after
which a silent node is lost with the default tick time.
"""


def wait_until(
    condition: Callable[[], T], timeout: float = HANG, *, what: str = "", details: Callable[[], Any] = str
) -> T:
    """Poll ``condition()`` until it is true, and return its value.

    Raises AssertionError after ``timeout`` seconds, with the last value and ``details()`` in the message.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s still not {what or 'true'}: {value!r} {details()}")
        time.sleep(POLL_INTERVAL)
    return value


async def wait_until_async(condition: Callable[[], T | Awaitable[T]], timeout: float = HANG, *, what: str = "") -> T:
    """:func:`wait_until` for a test with a node in its own event loop. The condition may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        value: Any = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value  # type: ignore[no-any-return]
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s still not {what or 'true'}: {value!r}")
        await asyncio.sleep(POLL_INTERVAL)


def run(main: Coroutine[Any, Any, T], timeout: float = 2 * HANG) -> T:
    """Run a test's coroutine in a new event loop, for at most ``timeout`` seconds."""

    async def limited() -> T:
        async with asyncio.timeout(timeout):
            return await main

    return asyncio.run(limited())
