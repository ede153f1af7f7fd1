"""Answers library requests for processes that do not: see :mod:`erlmesh.core.library_requests`, which decides.

While a process has an open request, a :class:`ReplyWatch` stands in the place of its ``_signals`` and looks at what it
sends. So no message of other processes costs anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from erlmesh.core.gen import is_library_request
from erlmesh.core.library_requests import PATIENCE, OpenRequests, refusal
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.process import LocalProcess, SignalOps
from erlmesh.runtime.process_types import Destination
from erlmesh.runtime.system_messages import system_of, update_hold
from erlmesh.terms import Term
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["handle_request", "refuse", "refuse_overdue", "request_arrived", "request_taken", "settle"]

log = event_log("erlmesh.sys")


class ReplyWatch:
    """The ``_signals`` of a process with open requests: passes everything on, and notices the replies."""

    def __init__(self, process: LocalProcess, signals: SignalOps, requests: OpenRequests) -> None:
        self._process = process
        self._requests = requests
        self.signals = signals
        self.link = signals.link
        self.unlink = signals.unlink
        self.exit_signal = signals.exit_signal
        self.monitor = signals.monitor
        self.demonitor = signals.demonitor
        self.flush_down = signals.flush_down

    def send(
        self, sender: LocalProcess, to: Destination, message: Term, connect: bool = True, strict: bool = True
    ) -> None:
        """See :class:`SignalOps`."""
        self.signals.send(sender, to, message, connect, strict)
        self._sent(message)

    def try_send(self, sender: LocalProcess, to: Destination, message: Term, connect: bool) -> bool:
        """See :class:`SignalOps`."""
        sent = self.signals.try_send(sender, to, message, connect)
        if sent:
            self._sent(message)
        return sent

    def _sent(self, message: Term) -> None:
        self._requests.sent(message)
        if not self._requests:
            _stop_watching(self._process)


def request_taken(process: LocalProcess, request: Term) -> None:
    """The process has received a library request. From now on look whether it answers."""
    if process.handles_library_requests:
        return
    requests = system_of(process).requests
    requests.taken(request)
    if not isinstance(process._signals, ReplyWatch):
        process._signals = ReplyWatch(process, process._signals, requests)
    update_hold(process)


def settle(process: LocalProcess, match: Callable[[Term], bool] | None) -> None:
    """The process receives. Refuse the open requests that this receive would take again."""
    requests = system_of(process).requests
    for request in requests.unanswered(match):
        refuse(process, request)
    if not requests:
        _stop_watching(process)


def handle_request(process: LocalProcess, request: Term) -> None:
    """Pass a library request to the handler of a process. Refuse it if the handler returns without an answer."""
    handler = process._handler
    if handler is None:
        return
    request_taken(process, request)
    try:
        handler(request)
    finally:
        settle(process, None)


def request_arrived(process: LocalProcess) -> None:
    """A library request was put into the mailbox. Look later whether it is still there."""
    system = system_of(process)
    if not process.handles_library_requests and not system.looks_later:
        system.looks_later = True
        asyncio.get_running_loop().call_later(PATIENCE, _look, process)


def refuse(process: LocalProcess, request: Term) -> None:
    """Log a request that the process does not understand, and tell its caller."""
    answer = refusal(request)
    if answer is None:
        return
    system = system_of(process)
    if system.peer_log is None:
        system.peer_log = PeerLog(log)
    peer = answer[0].node.name
    system.peer_log.write(
        logging.WARNING,
        "request_refused",
        peer,
        "%s: unknown request: %s",
        process.label,
        ForeignText(request),
        pid=process.pid,
        request=request,
    )
    process._signals.send(process, *answer, connect=False)


def _look(process: LocalProcess) -> None:
    """Refuse the library requests that the process does not take."""
    system = system_of(process)
    system.looks_later = False
    if not process.alive or process.handles_library_requests or system.requests or system.requests.serves:
        return
    if process._suspended:  # It takes them when it is resumed.
        request_arrived(process)
        return
    waiting = process._mailbox.waiting
    if waiting is None:
        refuse_overdue(process)
        return
    # It has examined the messages that wait, and knows them by their number. So they change in its own step only.
    system.overdue = True
    process._mailbox.waiting = None
    waiting.set_result(None)


def refuse_overdue(process: LocalProcess) -> None:
    """Take the library requests out of the mailbox, and refuse them. The process does not wait meanwhile."""
    system_of(process).overdue = False
    mailbox, overdue = process._mailbox, []
    for _ in range(len(mailbox)):  # One pass, however many requests there are.
        message = mailbox.scan(None, True)
        if is_library_request(message):
            overdue.append(message)
        else:
            mailbox.put(message)
    for request in overdue:
        refuse(process, request)


def _stop_watching(process: LocalProcess) -> None:
    if isinstance(process._signals, ReplyWatch):
        process._signals = process._signals.signals
    update_hold(process)
