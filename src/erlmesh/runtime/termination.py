"""Ends: of a process, of a connection, and of a signal that cannot be sent; and who is told of them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.errors import Exit
from erlmesh.proto.control import Down, ExitLink, Link, Monitor, Signal, SpawnRequest, Unlink
from erlmesh.runtime.process import Process
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.runtime.router import Router

__all__ = ["Termination"]

log = logging.getLogger("erlmesh")

NOCONNECTION: Final = Atom("noconnection")


class Termination:
    """The part of a router that says what ends. What it says are signals as any other, into the same router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.node_stopping = False
        """The node stops: no process that ends is followed by another."""
        self._exit_signals: deque[tuple[Atom, Signal]] = deque()
        self._restarts: deque[Callable[[], object]] = deque()
        self._sending = False

    def terminate(self, process: Process, reason: Term) -> None:
        """Ends a process: at once for everybody else; its task is cancelled and may still tidy up.

        ``reason`` is a term. When this returns all who are to hear of it have been told, except when it is called from
        one who is being told of a death: then those who come first are told first.
        """
        if not process.alive:
            return
        process.alive = False
        process.exit_reason = reason
        process._handler = None
        self._router.registry.remove(process)
        for answer in process._pending_calls.values():
            if not answer.done():
                answer.set_exception(Exit(reason))
        process._pending_calls.clear()
        if process._task is not None:
            process._task.cancel()
        if process._on_end is not None:
            self._restarts.append(process._on_end)
        self._queue_exit_signals(process, reason)
        if not self._sending:  # the deaths it causes take their turn: a chain of links may be long
            self._sending = True
            try:
                self._send_exit_signals()
            finally:
                self._sending = False

    def _queue_exit_signals(self, process: Process, reason: Term) -> None:
        router, words = self._router, self._exit_signals
        downs, taken_back = router.monitors.process_exited(process.pid, reason)
        downs.sort(
            key=lambda down: down.to.node is router.atom
        )  # what others say of this death must not come before it
        words += [
            (link.to.node, link) for link in router.links.process_exited(process.pid, reason)
        ]  # first, as a BEAM does
        words += [(down.to.node, down) for down in downs]
        words += [(watch.node, demonitor) for watch, demonitor in taken_back]

    def _send_exit_signals(self) -> None:
        words, successions = self._exit_signals, self._restarts
        while words or successions:
            while words:
                self._router.send_if_connected(*words.popleft())
            if successions:
                self._restart(successions.popleft())

    def _restart(self, restart: Callable[[], object]) -> None:
        if not self.node_stopping:
            try:
                restart()
            except Exception:
                log.exception("what was to follow the end of a server failed")

    def connection_lost(self, node: Atom) -> None:
        """The connection to ``node`` is gone."""
        router = self._router
        exits = router.links.connection_lost(node, NOCONNECTION)
        downs = router.monitors.connection_lost(
            node, NOCONNECTION
        )  # before anybody who hears of it watches that node anew
        unborn = router.spawn_client.pending_on(node)
        for exit_signal in exits:
            router.apply(exit_signal, node)
        for down in downs:
            router.apply(down, node)
        for ref in unborn:
            router.spawn_client.request_undeliverable(ref)

    def undeliverable(self, signal: Signal, node: Atom) -> None:
        """A signal that was held could not be sent: its node cannot be reached."""
        router = self._router
        if isinstance(signal, Unlink):
            router.links.unlink_undeliverable(signal)
        elif isinstance(signal, Link):
            router.apply(ExitLink(signal.to, signal.sender, NOCONNECTION), node)
        elif isinstance(signal, Monitor):
            router.apply(Down(signal.target, signal.sender, signal.ref, NOCONNECTION), node)
        elif isinstance(signal, SpawnRequest):
            router.spawn_client.request_undeliverable(signal.ref)
