"""Signals and callers that wait for a connection that is being set up.

A BEAM suspends a process that sends to a node that is being connected to, once ``dist_buf_busy_limit`` bytes wait for
that node. Processes here are held back in the same way, but only where they await something. Handler processes, and
code that never awaits, cannot be held back. For them there is a second limit: above it, everything that waits is
dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from erlmesh.net.dist_protocol import HIGH_WATER, SEND_QUEUE_LIMIT
from erlmesh.net.event_log import event_log
from erlmesh.proto.control import Send, SendAlias, SendName, Signal
from erlmesh.terms import Atom
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["PendingSignals", "PendingTable"]

log = event_log("erlmesh")

SIGNAL_OVERHEAD: Final = 128
"""Bytes that a signal counts for in addition to its message. So small signals without end reach the limit, too."""
MESSAGE_SIGNALS: Final = (Send, SendName, SendAlias)


class PendingSignals:
    """What waits for the connection to one node, until :meth:`resolve`.

    At ``limit`` bytes everything is dropped, as it would be if the node could not be reached.
    """

    def __init__(self, limit: int = SEND_QUEUE_LIMIT) -> None:
        self._limit = limit
        self.signals: list[Signal] = []
        self.callbacks: list[Callable[[bool], None]] = []
        """Callers of ``connect``: each is called once with whether the node is connected."""
        self.dial_wanted = False
        """A caller wants the connection. Otherwise these signals only use one that the peer or another sets up."""
        self.busy = False
        """So many bytes wait that a BEAM would suspend the sender."""
        self.overflowed = False
        """The limit was reached: what waited was dropped, and what comes now is dropped, too."""
        self.size = 0
        """Bytes that wait, or that were dropped at the limit."""
        self._resolved: asyncio.Event | None = None
        """Made by the first process that is held back: most connections are set up before any is."""

    def enqueue(self, signal: Signal, size: int) -> list[Signal]:
        """Keep ``signal``, whose message has ``size`` bytes. Return the signals that cannot be delivered.

        These are at most this one and all before it. Messages are not among them: the loss of a message is not
        reported to its sender.
        """
        if self.overflowed:
            return _without_messages([signal])
        self.signals.append(signal)
        self.size += SIGNAL_OVERHEAD + size
        self.busy = self.size >= HIGH_WATER
        if self.size < self._limit:
            return []
        self.overflowed = True
        lost, self.signals = self.signals, []
        return _without_messages(lost)

    async def wait_writable(self) -> None:
        """If so much waits that the sender is to be held back, wait until the attempt to connect has ended."""
        if self.busy:
            self._resolved = self._resolved or asyncio.Event()
            await self._resolved.wait()

    def resolve(self, up: bool) -> None:
        """The connection is up, or will not come. Resume the processes that are held back, and call the callbacks."""
        self.busy = False
        if self._resolved is not None:
            self._resolved.set()
        for done in self.callbacks:
            try:
                done(up)
            except Exception:  # code of the user: the next callback must still be called
                log.exception("callback_failed", "a callback of connect_nowait failed")


class PendingTable:
    """What waits for each node.

    ``undeliverable(signal, node)`` is called for a signal that cannot be sent. ``on_overflow(name, error)`` is called
    when ``limit`` bytes wait for a node. ``on_dropped(number)`` is called with the messages that are dropped then.
    """

    def __init__(
        self,
        undeliverable: Callable[[Signal, Atom], None],
        on_overflow: Callable[[str, str], None],
        limit: int = SEND_QUEUE_LIMIT,
        on_dropped: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._limit = limit
        self._on_dropped = on_dropped
        self._undeliverable = undeliverable
        self._on_overflow = on_overflow
        self._by_node: dict[str, PendingSignals] = {}

    def __len__(self) -> int:
        return len(self._by_node)

    def names(self) -> list[str]:
        """Return the names of the nodes that something waits for."""
        return list(self._by_node)

    def size(self) -> int:
        """Return the bytes that wait for all nodes."""
        return sum(pending.size for pending in self._by_node.values())

    def get(self, name: str) -> PendingSignals | None:
        """Return what waits for ``name``; None if nothing does."""
        return self._by_node.get(name)

    def is_dial_wanted(self, name: str) -> bool:
        """Whether a caller waits for a connection to ``name``, and not only signals that do not cause one."""
        pending = self._by_node.get(name)
        return pending is not None and pending.dial_wanted

    def add_callback(self, name: str, done: Callable[[bool], None]) -> None:
        """Call ``done(up)`` when the attempt to connect to ``name`` has ended."""
        self._ensure(name, dial=True).callbacks.append(done)

    def enqueue(self, node: Atom, signal: Signal, size: int, *, dial: bool) -> PendingSignals:
        """Keep ``signal``, whose message has ``size`` bytes, for ``node``. With ``dial`` it causes a connection."""
        pending = self._ensure(node.name, dial=dial)
        had_overflowed, waited = pending.overflowed, len(pending.signals)
        lost = pending.enqueue(signal, size)
        if pending.overflowed:
            self._on_dropped(waited + 1 - len(lost))
        if pending.overflowed and not had_overflowed:  # once for each attempt to connect, not for each signal
            limit = self._limit >> 20
            log.warning(
                "connect_queue_full",
                "more than %d MiB wait for a connection to %s: they are dropped",
                limit,
                ForeignText(node),
                peer=node,
            )
            self._on_overflow(node.name, f"more than {limit} MiB waited for the connection: they were dropped")
        self.drop(node, lost)
        return pending

    def drop(self, node: Atom, signals: list[Signal]) -> None:
        """Treat ``signals`` as undeliverable, but later: the process that sends them is still running its own code."""
        for signal in signals:
            asyncio.get_running_loop().call_soon(self._undeliverable, signal, node)

    def take(self, name: str) -> PendingSignals:
        """``name`` is connected: return what waited for it. The caller sends the signals and resolves it."""
        return self._by_node.pop(name, None) or PendingSignals()

    def fail(self, name: str) -> None:
        """``name`` cannot be reached: report it for each signal and to each caller that waits."""
        pending = self._by_node.pop(name, None)
        if pending is None:
            return
        node = Atom(name)
        for signal in pending.signals:
            self._undeliverable(signal, node)
        pending.resolve(False)

    def _ensure(self, name: str, *, dial: bool) -> PendingSignals:
        pending = self._by_node.setdefault(name, PendingSignals(self._limit))
        pending.dial_wanted |= dial
        return pending


def _without_messages(signals: list[Signal]) -> list[Signal]:
    return [signal for signal in signals if not isinstance(signal, MESSAGE_SIGNALS)]
