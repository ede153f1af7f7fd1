"""The group leader. Processes that this node spawns on other nodes print here, to this node's output.

Erlang's I/O protocol ("The Erlang I/O Protocol", stdlib user's guide)::

    {io_request, From, ReplyAs, Request}       to the group leader; the printing process waits for the reply
    {io_reply, ReplyAs, ok | {error, Reason}}  the reply, to From

The requests are in ``io_requests.py``.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.io_format import BadFormat, format_text
from erlmesh.services.io_requests import IoRequests
from erlmesh.services.output import OutputQueue
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GroupLeader", "to_stdout"]

log = event_log("erlmesh.group_leader")
_peer_log = PeerLog(log)

# Control characters, except tab, newline, carriage return, and the escape sequences for colours.
# It is compiled at the first use.
_CONTROL_CHARACTERS: Final = r"(?!\x1b\[[0-9;]{0,32}m)[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"


_output = OutputQueue()


def to_stdout(text: str) -> None:
    """Write to the current ``sys.stdout``. A shell prompt replaces it to write above the line that is being edited.

    If nobody reads the output, the text waits in a bounded queue. Colours pass. Other control characters are escaped,
    because they could control the terminal.
    """
    _output.write(sys.stdout, re.sub(_CONTROL_CHARACTERS, lambda found: f"\\x{ord(found[0]):02x}", text))


class GroupLeader:
    """The server registered as ``user`` on ``node``. ``write(text)`` is called with the printed text."""

    def __init__(self, node: Runtime, write: Callable[[str], object] = to_stdout) -> None:
        self._requests = IoRequests(write)
        self._node = node
        self._start()
        self._start_logger_proxy()

    def _start(self) -> None:
        """Start the server, also after its exit."""
        self._process = self._node.spawn_handler(self._handle_message, name=Atom("user"), restart=self._start)
        self.pid = self._process.pid

    def _start_logger_proxy(self) -> None:
        """Start ``logger_proxy``, to which other nodes send crash reports of our processes."""
        self._node.spawn_handler(_log_report, name=Atom("logger_proxy"), restart=self._start_logger_proxy)

    def _handle_message(self, message: Term) -> None:
        match message:
            case (Atom("io_request"), Pid() | Ref() as printer, reply_as, request):
                answer = self._requests.handle(request)
                self._process.send(printer, (Atom("io_reply"), reply_as, answer), connect=False)
            case _:
                _peer_log.debug("message_ignored", "ignored %s", ForeignText(message))


def _log_report(message: Term) -> None:
    """``logger_proxy``: log a crash report of a process that this node started on another node.

    The other node does not log it: its logger forwards reports to the node of the group leader (logger.erl).
    """
    match message:
        case (Atom("log"), level, text, list() as arguments, _) if log.logger.isEnabledFor(logging.DEBUG):
            try:
                _peer_log.debug(
                    "remote_report", "%s: %s", ForeignText(level), ForeignText(format_text(text, arguments))
                )
            except BadFormat:
                _peer_log.debug(
                    "remote_report", "%s: %s %s", ForeignText(level), ForeignText(text), ForeignText(arguments)
                )
        case (Atom("log"), level, report, _):
            _peer_log.debug("remote_report", "%s: %s", ForeignText(level), ForeignText(report))
