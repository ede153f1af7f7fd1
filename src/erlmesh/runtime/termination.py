"""Propagates exits: when a process terminates, a connection is lost, or a queued signal cannot be delivered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from erlmesh.core.exit_reasons import NOCONNECTION
from erlmesh.errors import Exit
from erlmesh.net.event_log import event_log
from erlmesh.proto.control import (
    Down,
    ExitLink,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    Signal,
    SpawnReply,
    SpawnRequest,
    Unlink,
)
from erlmesh.runtime.node_state import Dispatcher, NodeState
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.spawn_client import SpawnClient
from erlmesh.terms import Atom, Ref, Term

if TYPE_CHECKING:
    from erlmesh.core.server_restarts import ServerRestarts

__all__ = ["Termination"]

NOTSUP: Final = Atom("notsup")

SIGNALS_AT_ONCE: Final = 2_000
"""How many exit signals and DOWNs are sent before the event loop gets a turn: a few milliseconds of work."""

log = event_log("erlmesh")


class Termination:
    """Terminates processes, and breaks the links and monitors that a lost node or process had.

    The exit signals and DOWNs that follow go through the same router as all other signals.
    """

    def __init__(self, state: NodeState, dispatcher: Dispatcher, spawn_client: SpawnClient) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._spawn_client = spawn_client
        self.node_stopping = False
        """True while the node ends its last processes: a server that terminates is not restarted."""
        self.on_terminated: Callable[[LocalProcess], None] | None = None
        """Called with each process that has terminated. Set while the node stops."""
        self._exit_signals: deque[tuple[Atom, Signal]] = deque()
        """Signals caused by terminations that are still to be sent, each with its node."""
        self._restarts: deque[Callable[[], object]] = deque()
        """The ``on_end`` callbacks of terminated servers. They run when no exit signal is left to send."""
        self._server_restarts: ServerRestarts | None = None
        """When servers of the node start again. It exists after the first has ended."""
        self._sending = False
        """True while the two queues are being emptied, or will be in the next iteration of the event loop. A
        termination within that only adds to them.
        """
        self._lost_nodes: dict[Atom, Iterator[None]] = {}
        """The nodes whose links and monitors are not all broken yet. Each item of the iterator is a slice of them."""

    @property
    def is_stopping(self) -> bool:
        """True while the processes of a node that stops finish their work."""
        return self.on_terminated is not None

    def terminate(self, process: LocalProcess, reason: Term) -> None:
        """Terminate a process. Other processes see it as dead at once; its task is cancelled and may still clean up.

        ``reason`` is a term. When this returns, all exit signals and DOWNs have been sent, with two exceptions. In a
        call from a process that handles such a signal itself, the signals that were queued first are sent first. Of
        more than SIGNALS_AT_ONCE signals, the rest is sent in the next iterations of the event loop, in order.
        """
        if not process.alive:
            return
        process.alive = False
        process.exit_reason = reason
        process._handler = None
        self._state.registry.remove(process)
        if process._pending_calls:
            for answer in process._pending_calls.values():
                answer.set_exception(Exit(reason))
            process._pending_calls.clear()
        if process._task is not None:
            process._task.cancel()
        if process._on_end is not None:
            self._restarts.append(process._on_end)
        if self.on_terminated is not None:
            self.on_terminated(process)
        self._queue_exit_signals(process, reason)
        # Terminations that this one causes are queued, not nested: a chain of links may be very long.
        if not self._sending:
            self._send_exit_signals()

    def _queue_exit_signals(self, process: LocalProcess, reason: Term) -> None:
        state, queue = self._state, self._exit_signals
        local = state.identifiers.node
        downs, demonitors = state.monitors.process_exited(process.pid, reason)
        # Exit signals of links precede DOWNs, as on a BEAM.
        for link in state.links.process_exited(process.pid, reason):
            queue.append((link.to.node, link))
        if len(downs) > 1:
            # DOWNs to other nodes go first: a message that a local process sends on its DOWN must not overtake them.
            downs.sort(key=lambda down: down.to.node is local)
        for down in downs:
            queue.append((down.to.node, down))
        for entry, demonitor in demonitors:
            queue.append((entry.node, demonitor))

    def _send_exit_signals(self) -> None:
        self._sending = True
        more_follows = False
        try:
            more_follows = self._send_slice()
            if more_follows:
                asyncio.get_running_loop().call_soon(self._send_exit_signals)
        finally:
            self._sending = more_follows

    def _send_slice(self) -> bool:
        """Send what is queued. Return True if too much is queued for one iteration of the event loop."""
        queue, restarts, left = self._exit_signals, self._restarts, SIGNALS_AT_ONCE
        while queue or restarts:
            while queue:
                if not left and not self.node_stopping:
                    return True
                left -= 1
                self._dispatcher.send_if_connected(*queue.popleft())
            if restarts:
                self._restart(restarts.popleft())
        return False

    def _restart(self, restart: Callable[[], object]) -> None:
        if not self.node_stopping and not _loop_is_ending():
            try:
                restart()
            except Exception:
                log.exception("server_restart_failed", "the restart of a terminated server failed")

    def restart_server(self, name: str, restart: Callable[[], object]) -> None:
        """A server of the node has ended. Start it again, at once or later: see :mod:`erlmesh.core.server_restarts`."""
        if self._server_restarts is None:  # Few nodes ever need the module.
            from erlmesh.core.server_restarts import ServerRestarts  # noqa: PLC0415

            self._server_restarts = ServerRestarts()
        loop = asyncio.get_running_loop()
        delay = self._server_restarts.ended(name, loop.time())
        if not delay:
            restart()
            return
        log.error("server_restart_delayed", "%s ended too often: it starts again in %g s", name, delay, seconds=delay)
        loop.call_later(delay, self._restart, restart)

    def connection_lost(self, node: Atom, then: Callable[[], None] | None = None) -> None:
        """Break all links, monitors and spawn requests over the lost connection to ``node``, with ``noconnection``.

        Then call ``then``. More than SIGNALS_AT_ONCE are broken in several iterations of the event loop, so that a peer
        with many of them does not hold it. Call :meth:`finish_lost` before anything of a new connection is applied.
        """
        state = self._state
        exits = state.links.connection_lost(node, NOCONNECTION)
        # All tables are emptied before any signal is applied: a process that gets one may monitor that node again.
        downs = state.monitors.connection_lost(node, NOCONNECTION)
        pending = self._spawn_client.pending_on(node)
        for ref, callback in list(state.demonitor_callbacks.items()):
            if not state.monitors.has_target(ref):
                callback()
        self._lost_nodes[node] = self._break(node, chain(exits, downs), pending, then)
        self._break_slice(node)

    def finish_lost(self, node: Atom) -> None:
        """Break at once what :meth:`connection_lost` has left: ``node`` has connected again, or this node ends."""
        self._break_slice(node, is_last=True)

    def finish(self) -> None:
        """Do at once what is left to do in later iterations of the event loop, because the node ends."""
        for node in list(self._lost_nodes):
            self.finish_lost(node)

    def _break(
        self, node: Atom, signals: Iterator[Signal], spawns: list[Ref], then: Callable[[], None] | None
    ) -> Iterator[None]:
        apply = self._dispatcher.apply
        for count, signal in enumerate(signals, 1):
            apply(signal, node)
            if not count % SIGNALS_AT_ONCE:
                yield
        for ref in spawns:
            self._spawn_client.request_undeliverable(ref)
        if then is not None:
            then()

    def _break_slice(self, node: Atom, *, is_last: bool = False) -> None:
        slices = self._lost_nodes.get(node)
        if slices is None:  # `finish_lost` has been called since
            return
        for _ in slices:
            if not is_last:
                asyncio.get_running_loop().call_soon(self._break_slice, node)
                return
        del self._lost_nodes[node]

    def undeliverable(self, signal: Signal, node: Atom) -> None:
        """Answer a queued signal whose node could not be reached as if the connection had been lost.

        Signals that are not listed here, such as messages, are dropped.
        """
        apply = self._dispatcher.apply
        if isinstance(signal, Unlink):
            self._state.links.unlink_undeliverable(signal)
        elif isinstance(signal, Link):
            apply(ExitLink(signal.to, signal.sender, NOCONNECTION), node)
        elif isinstance(signal, Monitor):
            apply(Down(signal.target, signal.sender, signal.ref, NOCONNECTION), node)
        elif isinstance(signal, SpawnRequest):
            self._spawn_client.request_undeliverable(signal.ref)
        elif isinstance(signal, (Send, SendName, SendAlias)):
            self._state.counters.add("dropped", "no_connection")

    def no_answer(self, signal: Signal, node: Atom) -> None:
        """Answer a signal in place of the connected ``node``, which does not know it or does not answer it.

        A SPAWN_REQUEST fails with ``notsup``, as on a BEAM. An UNLINK is complete without its acknowledgement.
        """
        if isinstance(signal, SpawnRequest):
            self._dispatcher.apply(SpawnReply(signal.ref, signal.sender, 0, NOTSUP), node)
        elif isinstance(signal, Unlink):
            self._state.links.unlink_undeliverable(signal)


def _loop_is_ending() -> bool:
    """Return whether ``asyncio.run`` is cancelling all tasks, because the program ends without stopping the node.

    A server that was started then would never run, and the log would report a failure that is none.
    """
    tasks = asyncio.all_tasks()
    return bool(tasks) and all(task.cancelling() for task in tasks)
