"""Answers system messages for every local process: ``sys:get_status``, ``GenServer.stop`` and others.

What the answers are is decided in :mod:`erlmesh.core.system_messages`. When a process answers depends on what it is:

* A body that receives answers in order: after the messages that came before and that it has taken or skipped.
* A body that has never received a message answers at once. It may never receive, and the caller may wait for ever.
* A process with a handler answers in order.

A behaviour (GenServer, Supervisor) sets ``process._system`` to a :class:`ProcessSystem` with its own callbacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from erlmesh.core.gen import is_call
from erlmesh.core.library_requests import OpenRequests, refusal
from erlmesh.core.system_messages import Answer, SystemCallbacks, SystemState, answer_request
from erlmesh.errors import ErlangError
from erlmesh.net.event_log import event_log
from erlmesh.runtime.mailbox import EMPTY
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.process import LocalProcess
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

__all__ = [
    "ProcessSystem",
    "answer_for_handler",
    "answer_now",
    "answer_system_message",
    "charlist",
    "is_observed",
    "message_observed",
    "observe",
    "refuse_newest_call",
    "status_lines",
    "system_of",
    "unhandled",
    "update_hold",
]

log = event_log("erlmesh.sys")

MODULE: Final = Atom("erlmesh")
UNDEF: Final = Atom("undef")


class ProcessSystem:
    """What answers the system messages of one process. ``terminate(reason)`` ends it, by default at once."""

    __slots__ = (
        "_handler",
        "_held_back",
        "_process",
        "callbacks",
        "looks_later",
        "overdue",
        "peer_log",
        "refuse_call",
        "requests",
        "state",
        "terminate",
    )

    def __init__(
        self,
        process: LocalProcess,
        callbacks: SystemCallbacks | None = None,
        terminate: Callable[[Term], None] | None = None,
        refuse_call: Callable[[tuple[Pid, Term]], None] | None = None,
    ) -> None:
        self.state = SystemState()
        self.requests = OpenRequests()
        self.looks_later = False
        """True while a timer runs that looks for library requests in the mailbox."""
        self.overdue = False
        """True if the process has to refuse the library requests in its mailbox in its next step."""
        self.peer_log: PeerLog | None = None
        """Limits the lines about refused requests. It exists after the first."""
        self.callbacks = callbacks or PlainCallbacks(process)
        self.terminate = terminate or process.stop
        self.refuse_call = refuse_call
        """Replies to a call that came while more messages waited than the limit of the mailbox."""
        self._process = process
        self._handler: Callable[[Term], None] | None = None
        """The handler of the process while another function is in its place."""
        self._held_back: list[tuple[Term, Atom | None]] = []
        """The messages for a handler that is suspended, each with the node that sent it."""

    def adapt_handler(self) -> list[tuple[Term, Atom | None]]:
        """Put the function that fits the state in the place of the handler.

        Return the messages that were held back, if the handler may get them now, oldest first.
        """
        process = self._process
        handler = self._handler or process._handler
        assert handler is not None
        self._handler = handler
        if self.state.suspended:
            process._handler = self._hold_back
            return []
        process._handler = self._handle_observed if self.state.observed else handler
        released, self._held_back = self._held_back, []
        return released

    def _hold_back(self, message: Term) -> None:
        self._held_back.append((message, self._process._ops.message_peer))

    def _handle_observed(self, message: Term) -> None:
        assert self._handler is not None
        message_observed(self._process, message)
        self._handler(message)


class PlainCallbacks:
    """The callbacks of a process without a behaviour: it has no state that ``sys`` could show or replace."""

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        self.module = MODULE

    @property
    def parent(self) -> Pid:
        """A plain process has no parent."""
        return self._process.pid

    def get_state(self) -> Term:
        """See :class:`SystemCallbacks`."""
        raise ErlangError(UNDEF)

    def replace_state(self, _function: Term, /) -> Term:
        """See :class:`SystemCallbacks`."""
        raise ErlangError(UNDEF)

    def change_code(self, _module: Term, _old_version: Term, _extra: Term, /) -> Term:
        """See :class:`SystemCallbacks`. There is nothing to change."""
        return Atom("ok")

    def format_status(self, sys_state: Atom, events: list[Term]) -> Term:
        """See :class:`SystemCallbacks`."""
        messages = (charlist("Messages"), len(self._process._mailbox))
        return status_lines(f"Status for {self._process.label}", sys_state, self.parent, events, messages)


def status_lines(header: str, sys_state: Atom, parent: Pid, events: list[Term], *more: Term) -> Term:
    """The last element of a status as ``gen_server`` forms it. Its texts are charlists."""
    data = [(charlist("Status"), sys_state), (charlist("Parent"), parent), (charlist("Logged events"), events)]
    return [(Atom("header"), charlist(header)), (Atom("data"), data), (Atom("data"), list(more))]


def answer_now(process: LocalProcess) -> None:
    """Answer the system messages in the mailbox of a process that may never receive."""
    while process.alive and (message := process._mailbox.take_system()) is not EMPTY:
        answer_system_message(process, message)


def answer_system_message(process: LocalProcess, message: Term) -> None:
    """Answer a system message of a process, and change or terminate the process as it asks."""
    _, caller, request = message
    system = system_of(process)
    answer = answer_request(process.pid, request, system.state, system.callbacks, _local_time)
    process._suspended = system.state.suspended
    update_hold(process)
    _send_answer(process, caller, answer)
    if answer.terminates:
        system.terminate(answer.reason)


def refuse_newest_call(process: LocalProcess) -> None:
    """More messages wait than the limit of the mailbox. If the newest is a call, take it out and refuse it at once."""
    refuse = system_of(process).refuse_call
    if refuse is None:
        return
    message = process._mailbox.take_newest(is_call)
    if message is not EMPTY:
        refuse(message[1])


def answer_for_handler(process: LocalProcess, message: Term) -> list[tuple[Term, Atom | None]]:
    """Answer a system message of a process with a handler.

    Return the messages that it has to handle next, those that came while it was suspended, each with its peer.
    """
    answer_system_message(process, message)
    return system_of(process).adapt_handler() if process.alive else []


def message_observed(process: LocalProcess, message: Term) -> None:
    """Count, keep or print a message that an observed process has received."""
    observe(process, (Atom("in"), message))


def unhandled(process: LocalProcess, message: Term) -> None:
    """Log a message that a body does not know, and answer it if it is a request. See :meth:`Process.unhandled`."""
    log.warning(
        "system_message_unknown", "%s: unknown message: %s", process.label, ForeignText(message), pid=process.pid
    )
    answer = refusal(message)
    if answer is not None:
        process._signals.send(process, *answer, connect=False)


def is_observed(process: LocalProcess) -> bool:
    """True while each message that the process receives or sends may have to be reported with :func:`observe`."""
    return process._mailbox.held


def observe(process: LocalProcess, event: Term) -> None:
    """Count, keep or print an event of an observed process: ``{in, Message}`` or ``{out, Reply, To}``."""
    state: SystemState = system_of(process).state
    state.event(event)
    if state.trace:
        _print(process, event)


def system_of(process: LocalProcess) -> ProcessSystem:
    """What answers for the process. It is made for the first message that needs it."""
    if process._system is None:
        process._system = ProcessSystem(process)
    system: ProcessSystem = process._system
    return system


def update_hold(process: LocalProcess) -> None:
    """Hold the mailbox while the process is suspended or observed, or has a library request without an answer."""
    system = system_of(process)
    process._mailbox.held = system.state.suspended or system.state.observed or bool(system.requests)


def _send_answer(process: LocalProcess, caller: tuple[Pid, Term], answer: Answer) -> None:
    process.reply(caller, answer.reply)
    for event in answer.printed or ():
        _print(process, event)


def _print(process: LocalProcess, event: Term) -> None:
    # OTP prints to the standard output of the node, in these words.
    kind = "got" if event[0] is Atom("in") else "sent"
    log.info("sys_trace", "*DBG* %s %s %s", process.label, kind, ForeignText(event[1]), pid=process.pid)


def _local_time() -> Term:
    now = time.localtime()
    return (tuple(now[:3]), tuple(now[3:6]))


def charlist(text: str) -> list[int]:
    """The text as Erlang's string: a list of code points."""
    return [ord(character) for character in text]
