"""The process of a stage: a handler, and a second process that notices that the node stops.

A handler gets the peer of each message, so a stage can compare it with the node that the message names. It has no task
that the node could cancel. So its guard has one, and ends it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from erlmesh.core.exit_reasons import KILL, NORMAL, SHUTDOWN
from erlmesh.errors import NodeNotAlive
from erlmesh.node import Node, Process
from erlmesh.terms import Atom, Term

__all__ = ["StageProcess"]


class StageProcess:
    """Starts both. ``on_end(reason)`` is called once, when one of them has terminated."""

    def __init__(
        self,
        node: Node,
        receive: Callable[[Term], None],
        on_end: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        label: str,
    ) -> None:
        """Raises ValueError if ``name`` is taken."""
        self._node = node
        self._on_end: Callable[[Term], None] | None = on_end
        self.process: Process = node.spawn_handler(receive, name=name, on_end=lambda: self.end(SHUTDOWN))
        self.process.trap_exit = False  # An exit signal ends the stage, as in OTP.

        async def guard(me: Process) -> None:
            try:
                await me.receive(lambda _: False)
            finally:
                self.end(SHUTDOWN)

        guard.__qualname__ = label
        self._guard = node.spawn(guard)

    def end(self, reason: Term = NORMAL) -> None:
        """Terminate with ``reason``. A second call does nothing."""
        if self._on_end is None:
            return
        on_end, self._on_end = self._on_end, None
        if self.process.alive:
            self.process.stop(reason)
        else:
            reason = self.process.exit_reason
        with contextlib.suppress(NodeNotAlive):  # The node has stopped, and the guard with it.
            self._node.exit(self._guard, KILL)
        on_end(reason)
