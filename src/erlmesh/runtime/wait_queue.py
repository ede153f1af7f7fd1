"""Tasks that wait in turn for the items of one queue, or for its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erlmesh.runtime.wakeups import Wait

__all__ = ["WaitQueue"]


class WaitQueue:
    """The tasks that wait for ``items``. ``create_wait`` is that of the runtime.

    Call :meth:`wake` after each new item, and :meth:`wake_all` at the end.
    """

    __slots__ = ("_create_wait", "_items", "_waiters")

    def __init__(self, create_wait: Callable[[], Wait], items: Sized) -> None:
        self._create_wait = create_wait
        self._items = items
        self._waiters: deque[Wait] = deque()

    async def wait(self) -> None:
        """Wait until there may be an item, or the end. The caller must look again."""
        waiter = self._create_wait()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif self._items:  # It was woken and cancelled in the same iteration of the event loop: wake another one.
                self.wake()
            raise

    def wake(self) -> None:
        """Wake the task that waits for longest, if there is one."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Wake all tasks that wait."""
        while self._waiters:
            self.wake()
