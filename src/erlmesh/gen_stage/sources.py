"""The events of a producer: a plain or async iterable, or a function of the demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from itertools import islice
from typing import Any, TypeAlias

from erlmesh.terms import Term

__all__ = ["EventSource", "pull"]

EventSource: TypeAlias = (
    "Iterable[Term] | AsyncIterable[Term] | Callable[[int], Iterable[Term] | Awaitable[Iterable[Term] | None] | None]"
)
"""What produces events: an iterable, an async iterable, or ``handle_demand(count)``. This function, plain or ``async``,
returns at most ``count`` events. ``[]`` means that there are none now, and None that there are no more.
"""

TURN = 1_000
"""Events of a plain iterable after which other tasks get a turn."""
IDLE = 0.1
"""Seconds after which a function that has returned ``[]`` is called again."""


async def pull(source: EventSource, demand: Callable[[], Awaitable[int]], push: Callable[[list[Term]], object]) -> None:
    """Pass the events of ``source`` to ``push(events)`` until it has no more. Call only for as many as are wanted.

    ``await demand()`` waits until events are wanted, and returns how many.
    """
    if isinstance(source, AsyncIterable):
        await _pull_async(aiter(source), demand, push)
    elif isinstance(source, Iterable):
        iterator = iter(source)
        while events := list(islice(iterator, min(await demand(), TURN))):
            push(events)
            await asyncio.sleep(0)
    else:
        await _pull_function(source, demand, push)


async def _pull_function(
    handle_demand: Callable[[int], Any], demand: Callable[[], Awaitable[int]], push: Callable[[list[Term]], object]
) -> None:
    while True:
        count = await demand()
        result = handle_demand(count)
        produced = await result if isinstance(result, Awaitable) else result
        if produced is None:
            return
        events = list(produced)
        if len(events) > count:
            raise ValueError(f"handle_demand({count}) has returned {len(events)} events")
        push(events)
        await asyncio.sleep(0 if events else IDLE)


async def _pull_async(
    iterator: AsyncIterator[Term], demand: Callable[[], Awaitable[int]], push: Callable[[list[Term]], object]
) -> None:
    """Take events one by one, and push together those that come without a pause in between."""
    loop = asyncio.get_running_loop()
    waiting: list[Term] = []
    errors: list[Exception] = []

    def flush() -> None:
        events = waiting.copy()
        waiting.clear()
        if events:
            push(events)

    def flush_soon() -> None:
        try:
            flush()
        except Exception as error:
            errors.append(error)

    try:
        while True:
            # Look at the demand before each event: its consumers may have gone while the last event was awaited.
            if len(waiting) >= min(await demand(), TURN):
                flush()
                await asyncio.sleep(0)
                continue
            event = await anext(iterator)
            if errors:
                raise errors[0]
            if not waiting:
                loop.call_soon(flush_soon)
            waiting.append(event)
    except StopAsyncIteration:
        flush()
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
