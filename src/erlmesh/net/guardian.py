"""Speaks for nodes while somebody's code holds their event loop: ticks, and a word about why nothing else comes.

One thread a loop, for as long as there are nodes on it. It wakes once a second (more often for tick times below eight
seconds), asks the loop for an answer, and looks whether a peer must hear us; what it makes of that is decided in
:mod:`erlmesh.core.loop_watchdog`. It needs the interpreter now and then: a C function that keeps it to itself silences the
guardian, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from traceback import StackSummary
from typing import Final, Protocol

from erlmesh.core.loop_watchdog import SAMPLE_INTERVAL, LoopWatchdog, Sample, is_tick_due, sample_interval
from erlmesh.net.stacks import stack_of
from erlmesh.proto.control import Signal

__all__ = ["Guardian", "Spoken", "Ward"]

log = logging.getLogger("erlmesh")

LOGGING: Final = 0.2
"""Seconds that whoever leaves waits for the last line of the log, which may hang."""
OVERSLEPT: Final = 1.5
"""Periods after which somebody has kept this thread from waking."""
HELD: Final = "%s: the event loop has not turned for %.1f s, and nothing but ticks goes out. It is held by\n%s"
FREE: Final = "%s: the event loop turns again, after %.1f s"
MUTE: Final = (
    "%s: for %.1f s no thread could run, for a C function kept the interpreter to itself (a regular expression, a huge "
    "number?); not even ticks went out. The event loop is at\n%s"
)


class Spoken(Protocol):
    """A connection, as far as a thread may use it; see :class:`erlmesh.net.pump.Pump`."""

    def silent_since(self) -> float | None: ...
    def say(self, signal: Signal | None) -> bool: ...


class Ward(Protocol):
    """A node. ``free`` is called in the loop, all else by other threads."""

    name: str
    net_ticktime: float

    def connections(self) -> Sequence[Spoken]:
        """Those that there are now."""

    def word(self, held: float) -> Signal:
        """What peers are told, once, when the loop has been held for so many seconds."""

    def is_told(self, held: float) -> bool:
        """Tells whoever has to know that the loop has been held for so many seconds; False if the log shall."""

    def free(self) -> None:
        """The loop turns again. Peers may have been told that it did not."""


_guardians: dict[asyncio.AbstractEventLoop, Guardian] = {}


class Guardian:
    """The guardian of one loop. In that loop :meth:`join` it, and :meth:`leave` it before the loop ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread_of_loop = threading.get_ident()
        self._wards: dict[Ward, None] = {}
        self._vigil = LoopWatchdog()
        self._telling = False
        self._in_log = False
        self._told: dict[Spoken, None] = {}
        self._looked = time.monotonic()
        self._turn = threading.Lock()
        """Either the thread looks and speaks, or the loop says that it turns: peers are told the two in order."""
        self._teller: threading.Thread | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="erlmesh guardian", daemon=True)

    @classmethod
    def join(cls, ward: Ward) -> Guardian:
        """Guards ``ward`` from now on."""
        loop = asyncio.get_running_loop()
        guardian = cls.of(loop)
        if guardian is None:
            guardian = _guardians[loop] = cls(loop)
            guardian._thread.start()
        guardian._wards[ward] = None
        return guardian

    def leave(self, ward: Ward) -> None:
        """No longer. With the last node the thread ends, before this returns, and what it has to say is logged."""
        self._wards.pop(ward, None)
        if not self._wards:
            self._over.set()
            self._thread.join()
            if self._teller is not None:
                self._teller.join(LOGGING)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Guardian | None:
        """The guardian of ``loop``, if it has one."""
        return _guardians.get(loop)

    def held(self) -> float:
        """For how many seconds the loop has not turned, as far as the guardian knows. For any thread."""
        return self._vigil.blocked_for(time.monotonic())

    # The thread

    def _watch(self) -> None:
        while not self._over.wait(self._period()) and not self._loop.is_closed():
            try:
                self._look()
            except Exception:
                log.exception("the guardian stumbled, and goes on")
        _guardians.pop(self._loop, None)

    def _period(self) -> float:
        return min((sample_interval(ward.net_ticktime) for ward in list(self._wards)), default=SAMPLE_INTERVAL)

    def _look(self) -> None:
        wards = list(self._wards)
        # Who has kept all threads out goes on as soon as we wait for anything: where it is must be seen before.
        late = time.monotonic() - self._looked > OVERSLEPT * self._period()
        stack = stack_of(self._thread_of_loop) if late else None
        with self._turn:
            now = self._looked = time.monotonic()
            look = self._vigil.sample(now, time.process_time())
            if look.request_ack:
                self._telling = self._in_log = False
                self._told.clear()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._answer)
            self._telling |= look.report
            for ward in wards:
                self._speak_for(ward, now, look.blocked_for)
        if look.report or look.gil_held_for:
            stack = stack or stack_of(self._thread_of_loop)
            # From a thread of its own: the log itself may be what holds the loop, and must not hold the guardian, too.
            teller = threading.Thread(target=self._tell, args=(look, wards, stack), name="erlmesh guardian's log")
            teller.daemon = True
            teller.start()
            self._teller = teller

    def _tell(self, look: Sample, wards: list[Ward], stack: StackSummary) -> None:
        shown = "".join(stack.format()).rstrip() or "  nobody: no thread runs it"
        if look.gil_held_for:
            log.warning(MUTE, _names(wards), look.gil_held_for, shown)
        if look.report and not any(ward.is_told(look.blocked_for) for ward in wards):
            self._in_log = True
            log.warning(HELD, _names(wards), look.blocked_for, shown)

    def _speak_for(self, ward: Ward, now: float, held: float) -> None:
        for connection in ward.connections():
            since = connection.silent_since()
            if since is None:
                continue
            if self._telling and connection not in self._told:
                if connection.say(ward.word(held)):
                    self._told[connection] = None
            elif is_tick_due(now - since, ward.net_ticktime, held):
                connection.say(None)

    # The loop

    def _answer(self) -> None:
        self._thread_of_loop = threading.get_ident()
        with self._turn:
            held = self._vigil.acknowledge(time.monotonic())
        if held:
            wards = list(self._wards)
            if self._in_log:
                log.warning(FREE, _names(wards), held)
            for ward in wards:
                ward.free()


def _names(wards: Iterable[Ward]) -> str:
    return ", ".join(ward.name for ward in wards)
