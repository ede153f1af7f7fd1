"""Delivers a message to a local process: to the pending call it answers, to the mailbox, or to the handler."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from erlmesh.core.gen import is_system_message
from erlmesh.core.node_counters import NodeCounters
from erlmesh.net.event_log import event_log
from erlmesh.runtime.mailbox import EMPTY, is_special, may_be_special
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.process import LocalProcess
from erlmesh.terms import Atom, ImproperList, Ref, Term
from erlmesh.terms.foreign_text import ForeignText, loggable_error

__all__ = ["Delivery"]

log = event_log("erlmesh")


class Delivery:
    """Delivers messages on one node. Handlers run one message at a time, never nested, in order of arrival."""

    def __init__(self, node: Atom, counters: NodeCounters) -> None:
        self._node = node
        self._counters = counters
        self._peer_log = PeerLog(log)
        self._queue: deque[tuple[LocalProcess, Term, Atom | None]] = deque()
        """Messages for processes with a handler, over all such processes, each with the peer that sent it."""
        self.message_peer: Atom | None = None
        """The peer that sent the message which a handler handles now. None stands for this node.

        It is the node at the other end of the connection, whatever the message says."""
        self._draining = False
        """True while a handler runs, or while :meth:`run_then_deliver` holds the handlers back."""

    def deliver(self, process: LocalProcess, message: Term, peer: Atom | None = None) -> None:
        """Deliver now. If a handler is running, a message for any handler is queued until that one returns.

        ``peer`` is the node that sent the message, None if a process of this node did.
        """
        if process._handler is None:
            if process._pending_calls and _resolve_call(process, message):
                return
            if process._mailbox.put(message):
                process._ops.special_message_arrived(process)
        elif self._draining:
            self._queue.append((process, message, peer))
        else:
            self._queue.append((process, message, peer))
            self._drain_queue()

    def is_message_from(self, node: Atom) -> bool:
        """Return whether the message that a handler handles now came from ``node``, or from this node.

        Any member of the cluster can send a message that names another node as its sender. OTP's servers name their own
        node. So a service ignores such a message. It is logged here.
        """
        peer = self.message_peer
        if peer is None or peer is node or peer is self._node:
            return True
        self._peer_log.write(
            logging.WARNING,
            "sender_forged",
            peer.name,
            "ignored a message of %s in the name of %s",
            ForeignText(peer),
            ForeignText(node),
            node=self._node,
        )
        return False

    def is_message_local(self) -> bool:
        """Return whether the message that a handler handles now came from this node, as ``nodeup`` and timers do."""
        return self.is_message_from(self._node)

    def deliver_first(self, process: LocalProcess, messages: Iterable[tuple[Term, Atom | None]]) -> None:
        """Let the handler that runs now get these messages next, each with the peer that sent it."""
        self._queue.extendleft((process, *each) for each in reversed(list(messages)))

    def run_then_deliver(self, action: Callable[..., None], *arguments: Any) -> None:
        """Call ``action(*arguments)``. Handlers get the messages that it sends later, in the next loop iteration.

        So the caller can store the result before a handler sees its effect.
        """
        if self._draining:  # A handler is running, so messages are queued anyway.
            action(*arguments)
            return
        self._draining = True
        try:
            action(*arguments)
        finally:
            self._draining = False
            if self._queue:
                asyncio.get_running_loop().call_soon(self._drain_queue)

    def remove_pending(self, process: LocalProcess, matches: Callable[[Term], bool]) -> None:
        """Remove the first message that ``matches`` accepts, if ``process`` has not received it yet."""
        if process._mailbox.scan(matches, True) is EMPTY and process._handler is not None:
            for entry in [entry for entry in self._queue if entry[0] is process and matches(entry[1])]:
                self._queue.remove(entry)

    def _drain_queue(self) -> None:
        queue = self._queue
        self._draining = True
        try:
            while queue:
                process, message, self.message_peer = queue.popleft()
                # A process that terminated meanwhile has no handler any more.
                if process._handler is None or (process._pending_calls and _resolve_call(process, message)):
                    continue
                try:
                    if may_be_special(message) and is_special(message):
                        self.deliver_first(process, _handle_special(process, message))
                    elif self._counters.tracer is None or self.message_peer is None:
                        process._handler(message)
                    else:
                        with self._counters.tracer.context_of_message(message):
                            process._handler(message)
                except Exception as error:
                    log.exception(
                        "handler_failed",
                        "%s: exception while handling a message; the process keeps running: %s",
                        process.label,
                        ForeignText(message),
                        exc_info=loggable_error(error),
                        pid=process.pid,
                    )
        finally:
            self._draining = False
            self.message_peer = None


def _handle_special(process: LocalProcess, message: Term) -> list[tuple[Term, Atom | None]]:
    """Handle a system message or a library request. Return what the handler gets next, each message with its peer."""
    if is_system_message(message):
        if not process.handles_system_messages:
            return process._ops.system_message_for_handler(process, message)
    elif not process.handles_library_requests:
        process._ops.request_for_handler(process, message)
        return []
    if process._handler is not None:
        process._handler(message)
    return []


def _resolve_call(process: LocalProcess, message: Term) -> bool:
    """Resolve the pending call that ``message`` answers. False if it answers none.

    Replies normally go to an alias. A peer that has no aliases (OTP 23) sends ``{Tag, Reply}`` to the pid instead,
    where the tag is our ``[alias | Ref]``.
    """
    if type(message) is not tuple or len(message) != 2 or type(message[0]) is not ImproperList:
        return False
    answer = process._pending_calls.get(message[0].tail) if type(message[0].tail) is Ref else None
    if answer is None:
        return False
    answer.set_result(message[1])
    return True
