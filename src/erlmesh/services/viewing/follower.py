"""Follows one node for a collector: it subscribes to the views of a Python node, and asks a BEAM from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from erlmesh.core.cluster_view.pace import view_interval
from erlmesh.core.cluster_view.shapes import NodeView
from erlmesh.core.exit_reasons import KILL
from erlmesh.errors import CallError, ErlangError
from erlmesh.runtime.process import LocalProcess
from erlmesh.services.rpc.client import call
from erlmesh.services.viewing.beam_poll import CALL_TIMEOUT, poll_view
from erlmesh.terms import Atom, Pid

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Follower"]

GROUPS_EVERY: Final = 5
"""Each fifth look asks for groups, too. A change that this node hears of is asked for at once."""
SOON: Final = 0.2
"""Seconds between two looks that changes cause."""
AGAIN: Final = 0.5
"""Seconds after the end of a process that told views. Somebody may end it again and again."""
RETRY: Final = 5.0
"""Seconds after a look that has failed."""
TICKS: Final = 4
"""How often a node must hear something in its net tick time, as in OTP."""
KEEP_ALIVE: Final = Atom("keep_alive")


class Follower:
    """Follows the connected node ``name`` until :meth:`stop`. ``process`` gets its views and monitors who tells them.

    ``local(pid)`` subscribes if it is this node itself; None for another one. ``polled(name, view)`` gets what a BEAM
    answers.
    """

    def __init__(
        self,
        runtime: Runtime,
        process: LocalProcess,
        name: str,
        local: Callable[[Pid], Pid] | None,
        polled: Callable[[str, NodeView], None],
    ) -> None:
        self._runtime = runtime
        self._process = process
        self._name = name
        self._local = local
        self._polled = polled
        self._server: Pid | None = None
        self._wake = asyncio.Event()
        self._with_groups = True
        self._is_beam: bool | None = None
        self._kept_alive_at = 0.0
        self.is_subscribed = False
        """The node was asked to tell its views."""
        self._pid = runtime.spawn_service(self._follow)

    def stop(self) -> None:
        """Follow no more. A call that is under way is not waited for."""
        if self._runtime.is_stopping or not self._runtime.is_alive(self._pid):
            return
        self._process.exit(self._pid, KILL)

    def ask_soon(self, *, with_groups: bool) -> None:
        """Something has changed: if this is a BEAM, ask it now."""
        self._with_groups |= with_groups
        self._wake.set()

    def keep_alive(self, tick_time: float, now: float) -> None:
        """Send something now and then to a node whose net tick time is shorter than that of this node.

        This node ticks too seldom for it, and only receives its views. So the node would end the connection. ``now``
        is in seconds, on any clock. A BEAM hears the questions.
        """
        is_due = not 0 <= now - self._kept_alive_at < tick_time / TICKS
        if self._server is not None and is_due and tick_time < self._runtime.net_ticktime:
            self._kept_alive_at = now
            self._process.send(self._server, KEEP_ALIVE, connect=False)

    def server_ended(self, pid: Pid) -> None:
        """The process that tells the views has ended, or the connection has."""
        if pid == self._server:
            self._server = None
            self._wake.set()

    async def _follow(self, me: LocalProcess) -> None:
        while me.alive:
            with suppress(CallError, ErlangError):  # this node itself raises the second
                if self._local is not None:
                    await self._subscribe_until_end(self._local(self._process.pid))
                    await self._pause(AGAIN)
                    continue
                if await self._tells_views():
                    self.is_subscribed = True  # the first view may come before the answer
                    await self._subscribe_until_end(await self._subscribe())
                    await self._pause(AGAIN)
                    continue
                await self._poll_forever()
            await self._pause(RETRY)

    async def _tells_views(self) -> bool:
        if self._is_beam is None:
            machine = await self._call("erlang", "system_info", Atom("machine"))
            self._is_beam = machine != [*map(ord, "PYTHON")]
        return not self._is_beam

    async def _call(self, module: str, function: str, argument: Atom | Pid) -> object:
        return await call(self._runtime, self._name, module, function, [argument], timeout=CALL_TIMEOUT)

    async def _subscribe(self) -> Pid:
        server = await self._call("erlmesh", "subscribe_view", self._process.pid)
        if not isinstance(server, Pid) or server.node.name != self._name:
            raise CallError(f"{self._name} does not tell its views")
        return server

    async def _subscribe_until_end(self, server: Pid) -> None:
        self.is_subscribed = True
        self._server = server
        self._process.monitor(server)
        while self._server is not None:
            self._wake.clear()
            await self._wake.wait()

    async def _poll_forever(self) -> None:
        looks = 0
        while True:
            with_groups = self._with_groups or looks % GROUPS_EVERY == 0
            self._with_groups, looks = False, looks + 1
            self._wake.clear()
            try:
                view = await poll_view(self._runtime, self._name, with_groups=with_groups)
            except CallError:
                self._with_groups = True  # what has changed meanwhile is not known
                raise
            self._polled(self._name, view)
            await asyncio.sleep(SOON)
            with suppress(TimeoutError):
                async with asyncio.timeout(view_interval(len(view["links"])) - SOON):
                    await self._wake.wait()

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
