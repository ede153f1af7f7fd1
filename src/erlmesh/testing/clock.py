"""An event loop whose clock is a number: asked to wait, it adds to the number and goes on at once.

Whole nodes run on it unchanged, an idle hour in milliseconds, and the same way every time. What cannot go on is an error
instead of a hang: :class:`Deadlock` when everybody waits for ever, :class:`Livelock` when an instant does not end.

*Machines* share the loop and can be paused one by one, as SIGSTOP does: what a paused machine should do, timers
included, is kept and done when it resumes, late.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Final, TypeVar

__all__ = ["Clock", "Deadlock", "Livelock", "run"]

_T = TypeVar("_T")

TURNS_AN_INSTANT: Final = 100_000

_machine: ContextVar[str | None] = ContextVar("machine", default=None)


class Deadlock(AssertionError):
    """Everybody waits, and nothing will ever happen."""


class Livelock(AssertionError):
    """The loop turned 100,000 times without a moment passing."""


class _Jump(selectors.BaseSelector):
    """No file is ever ready; waiting is jumping."""

    def __init__(self) -> None:
        self.clock: Clock | None = None
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> dict[int, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.clock is not None:
            self.clock.jump(timeout)
        return []


class Clock(asyncio.SelectorEventLoop):
    """The loop. ``time()`` starts at 0 and passes only when nobody has anything to do."""

    def __init__(self) -> None:
        self._now = 0.0
        self._turns = 0
        self._paused: dict[str, list[tuple[Callable[..., object], tuple[Any, ...], Context | None]]] = {}
        jump = _Jump()
        super().__init__(jump)
        jump.clock = self

    def time(self) -> float:
        return self._now

    def jump(self, timeout: float | None) -> None:
        if timeout is None:
            raise Deadlock(f"at {self._now:.3f} s everybody waits for ever")
        if timeout > 0:
            self._now += timeout
            self._turns = 0
            return
        self._turns += 1
        if self._turns > TURNS_AN_INSTANT:
            raise Livelock(f"the instant {self._now:.3f} s does not end")

    # Machines

    @contextmanager
    def machine(self, name: str) -> Iterator[None]:
        """What is started inside belongs to the machine ``name``."""
        token = _machine.set(name)
        try:
            yield
        finally:
            _machine.reset(token)

    def pause(self, name: str) -> None:
        """The machine stands still until :meth:`resume`."""
        self._paused.setdefault(name, [])

    def resume(self, name: str) -> None:
        """The machine goes on, with all that has become due in the meantime, in order."""
        for callback, arguments, context in self._paused.pop(name, ()):
            self.call_soon(callback, *arguments, context=context)

    def paused(self, name: str) -> bool:
        return name in self._paused

    def _when_awake(self, callback: Callable[..., object], context: Context | None) -> Callable[..., object]:
        machine = _machine.get() if context is None else context.get(_machine)
        if machine is None:
            return callback

        def wake(*arguments: Any) -> None:
            kept = self._paused.get(machine)
            if kept is None:
                callback(*arguments)
            else:
                kept.append((callback, arguments, context))

        return wake

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        return super().call_soon(self._when_awake(callback, context), *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        return super().call_at(when, self._when_awake(callback, context), *args, context=context)


def run(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """``asyncio.run`` on a :class:`Clock`. Raises what ``main`` raises, Deadlock, or Livelock."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(main())
