"""Threads for blocking look-ups: host names, and files of discovery.

Each look-up runs in a thread of its own, which ends with it. The default executor of the event loop belongs to the
user: a look-up there would wait behind the user's work, and a slow name server would delay that work.

Callers that ask for the same key at the same time share one look-up. A caller that stops waiting does not stop the
thread, because nothing can stop ``getaddrinfo``. So the threads of each key and of each event loop are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["MAX_THREADS", "MAX_THREADS_PER_KEY", "look_up"]

T = TypeVar("T")

MAX_THREADS_PER_KEY: Final = 2
"""Look-ups of one key that run at the same time. The second one starts when no caller waits for the first any more."""
MAX_THREADS: Final = 64
"""Look-ups of one event loop that run at the same time. Further ones wait."""


async def look_up(key: str, function: Callable[[], T]) -> T:
    """Return ``function()``, called in a thread. Raises what it raises, and ``OSError`` if no thread can start.

    ``function`` may be called for several callers with the same ``key``, so it must depend on nothing else. There is no
    time limit: the caller sets one.
    """
    loop = asyncio.get_running_loop()
    lookups = _lookups_by_loop.setdefault(loop, _Lookups())
    result: T = await lookups.run(key, function, loop)
    return result


class _Lookup:
    """One call of ``function``, and the callers that wait for it."""

    __slots__ = ("function", "key", "waiters")

    def __init__(self, key: str, function: Callable[[], Any]) -> None:
        self.key = key
        self.function = function
        self.waiters: dict[asyncio.Future[Any], None] = {}


class _Lookups:
    """The look-ups of one event loop. Only the thread of the loop uses it."""

    def __init__(self) -> None:
        self._running: dict[str, list[_Lookup]] = {}
        """The look-ups that have a thread, by key, oldest first."""
        self._waiting: dict[str, _Lookup] = {}
        """The look-ups that wait for a thread, by key, oldest first."""
        self._thread_count = 0

    async def run(self, key: str, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> Any:
        lookup = self._find(key)
        if lookup is None:
            lookup = self._waiting[key] = _Lookup(key, function)
        waiter = loop.create_future()
        lookup.waiters[waiter] = None
        self._start_threads(loop)
        try:
            return await waiter
        finally:
            lookup.waiters.pop(waiter, None)
            if not lookup.waiters and self._waiting.get(key) is lookup:
                del self._waiting[key]

    def _find(self, key: str) -> _Lookup | None:
        """Return the look-up to wait for; None if a new one must start."""
        running = self._running.get(key)
        if key in self._waiting or running is None:
            return self._waiting.get(key)
        # A look-up that nobody waits for any more may hang for minutes. A newer one may get an answer at once.
        newest = running[-1]
        return newest if newest.waiters or len(running) >= MAX_THREADS_PER_KEY else None

    def _start_threads(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._thread_count < MAX_THREADS:
            key = next(iter(self._waiting))
            lookup = self._waiting.pop(key)
            name = f"erlmesh look-up of {key}"
            # A daemon thread does not keep the program from ending.
            thread = threading.Thread(target=self._work, args=(lookup, loop), name=name, daemon=True)
            self._thread_count += 1
            self._running.setdefault(key, []).append(lookup)
            try:
                thread.start()
            except RuntimeError as error:  # the system refuses another thread
                self._finished(lookup, None, OSError(errno.EAGAIN, f"no thread for the look-up of {key!r}: {error}"))

    def _work(self, lookup: _Lookup, loop: asyncio.AbstractEventLoop) -> None:
        """Run in the thread."""
        result, failure = None, None
        try:
            result = lookup.function()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits
            loop.call_soon_threadsafe(self._thread_finished, lookup, result, failure, loop)

    def _thread_finished(
        self, lookup: _Lookup, result: Any, failure: BaseException | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._finished(lookup, result, failure)
        self._start_threads(loop)

    def _finished(self, lookup: _Lookup, result: Any, failure: BaseException | None) -> None:
        self._thread_count -= 1
        running = self._running[lookup.key]
        running.remove(lookup)
        if not running:
            del self._running[lookup.key]
        for waiter in lookup.waiters:
            if waiter.done():
                continue  # its caller was cancelled and runs later
            if failure is None:
                waiter.set_result(result)
            else:
                waiter.set_exception(failure)


_lookups_by_loop: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Lookups]] = WeakKeyDictionary()
