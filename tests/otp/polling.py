"""Waiting for a condition, with a deadline: the only place in these tests that lets time pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["run", "wait_until", "wait_until_async"]

T = TypeVar("T")
POLL_INTERVAL = 0.005
"""Seconds between two looks."""


def wait_until(
    condition: Callable[[], T], timeout: float = 15.0, *, what: str = "", details: Callable[[], Any] = str
) -> T:
    """Looks again and again until ``condition()`` is true and gives its value.

    After ``timeout`` seconds ``AssertionError`` with the last value, and with what ``seen()`` shows.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s still not {what or 'true'}: {value!r} {details()}")
        time.sleep(POLL_INTERVAL)
    return value


async def wait_until_async(condition: Callable[[], T | Awaitable[T]], timeout: float = 15.0, *, what: str = "") -> T:
    """:func:`wait_until` for a test that runs a node in its own loop; the condition may be a coroutine function."""
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


def run(main: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
    """Runs a test's coroutine in a loop of its own, for at most ``timeout`` seconds."""

    async def limited() -> T:
        async with asyncio.timeout(timeout):
            return await main

    return asyncio.run(limited())
