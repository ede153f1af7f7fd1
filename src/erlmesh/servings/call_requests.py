"""Requests that come as ``GenServer`` calls, and those of exposed functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from erlmesh.core.gen import reply_to
from erlmesh.errors import ErlangError
from erlmesh.etf import encode_term
from erlmesh.node import Process
from erlmesh.servings.requests import Request
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["CallRequest", "FunctionRequest", "StreamRequest"]

OK: Final = Atom("ok")
ERROR: Final = Atom("error")
EVENT: Final = Atom("event")
DONE: Final = Atom("done")


class _Server(Protocol):
    """The GenServer of the serving, as a call needs it."""

    me: Process

    def reply(self, caller: tuple[Pid, Term], answer: Any) -> None: ...

    def is_waiting(self, caller: tuple[Pid, Term]) -> bool: ...


class CallRequest(Request):
    """``GenServer.call(serving, {:run, input})``. The caller monitors the serving while it waits."""

    def __init__(self, server: _Server, caller: tuple[Pid, Term], term: Term) -> None:
        super().__init__(term)
        self._server = server
        self._caller = caller
        # In OTP 23 and before the tag is the monitor's reference itself. Another tag says nothing.
        target = reply_to(caller)
        self._ref = target if type(target) is Ref else caller[1]
        self._can_tell = type(self._ref) is Ref and server.me._ops.monitors_with(self._ref)

    def caller_waits(self) -> bool:
        """See :class:`Request`."""
        return not self._can_tell or self._server.me._ops.monitors_with(self._ref)

    def send_result(self, term: Term) -> None:
        """See :class:`Request`."""
        self._server.reply(self._caller, (OK, term))

    def send_failure(self, reason: Term) -> None:
        """See :class:`Request`."""
        self._server.reply(self._caller, (ERROR, reason))


class StreamRequest(Request):
    """``GenServer.call(serving, {:stream, input})``. The serving monitors the caller, and calls ``on_end()``."""

    def __init__(self, me: Process, caller: Pid, ref: Ref, term: Term, on_end: Callable[[], object]) -> None:
        super().__init__(term)
        self._me = me
        self._caller = caller
        self._on_end = on_end
        self._is_cancelled = False
        self.ref = ref
        """The reference of all events: the monitor of the caller."""

    def cancel(self) -> None:
        """The caller is gone, or needs no more events."""
        self._is_cancelled = True

    def caller_waits(self) -> bool:
        """See :class:`Request`."""
        return not self._is_cancelled

    def send_result(self, term: Term) -> None:
        """Send the output of a function that does not stream as the only event."""
        self.send_event(term)
        self.end_stream()

    def send_event(self, term: Term) -> None:
        """See :class:`Request`."""
        self._me.send(self._caller, (self.ref, EVENT, term), False)

    async def drain(self) -> None:
        """See :class:`Request`."""
        await self._me.drain()

    def end_stream(self) -> None:
        """See :class:`Request`."""
        self._me.send(self._caller, (self.ref, DONE), False)
        self._on_end()

    def send_failure(self, reason: Term) -> None:
        """See :class:`Request`."""
        self._me.send(self._caller, (self.ref, ERROR, reason), False)
        self._on_end()


class FunctionRequest(Request):
    """A call of the exposed function, as by ``erpc``. It runs in a process ``me`` of its own."""

    def __init__(self, me: Process, term: Term) -> None:
        super().__init__(term)
        self._me = me
        # A process that nobody monitors is a cast, or a call of `rex`, which always waits.
        self._was_monitored = me.node.internals.is_monitored(me.pid)
        self.answer: asyncio.Future[Term] = asyncio.get_running_loop().create_future()
        """The output. It raises ErlangError with the reason if there is none."""
        self.answer.add_done_callback(_mark_as_seen)

    def caller_waits(self) -> bool:
        """See :class:`Request`."""
        me = self._me
        return me.alive and (not self._was_monitored or me.node.internals.is_monitored(me.pid))

    def send_result(self, term: Term) -> None:
        """See :class:`Request`."""
        encode_term(term)  # Raises here, so that the error is told as one of the function.
        if not self.answer.done():
            self.answer.set_result(term)

    def send_failure(self, reason: Term) -> None:
        """See :class:`Request`."""
        if not self.answer.done():
            self.answer.set_exception(ErlangError(reason, []))


def _mark_as_seen(answer: asyncio.Future[Term]) -> None:
    """Nobody awaits the answer of a process that was killed. asyncio would log its exception."""
    if not answer.cancelled():
        answer.exception()
