"""The group leader. Processes that this node spawns on other nodes print here, to this node's output.

Erlang's I/O protocol ("The Erlang I/O Protocol", stdlib user's guide)::

    {io_request, From, ReplyAs, Request}       to the group leader; the printing process waits for the reply
    {io_reply, ReplyAs, ok | {error, Reason}}  the reply, to From

Input is not supported: all input requests get ``{error, enotsup}``.

Source: the clauses of ``io_request`` in group.erl and user.erl.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.services.gen_server import ERROR, OK
from erlmesh.services.io_format import BadFormat, chardata_to_str, format_text
from erlmesh.services.output import OutputQueue
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GroupLeader", "to_stdout"]

log = logging.getLogger("erlmesh.group_leader")

ENOTSUP: Final = (ERROR, Atom("enotsup"))
ERROR_REQUEST: Final = (ERROR, Atom("request"))
PUT_CHARS: Final = Atom("put_chars")
UNICODE: Final = Atom("unicode")
LATIN1: Final = Atom("latin1")
# The reply to getopts.
OPTIONS: Final = [(Atom("binary"), True), (Atom("encoding"), UNICODE)]
# Control characters, except tab, newline, carriage return, and the escape sequences for colours.
# It is compiled at the first use.
_CONTROL_CHARACTERS: Final = r"(?!\x1b\[[0-9;]{0,32}m)[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
MAX_NESTED_REQUESTS: Final = 16
"""Depth of ``requests`` within ``requests``. OTP has no limit; this one protects against a deep recursion."""


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
        self._write = write
        self._node = node
        self._start()
        self._start_logger_proxy()

    def _start(self) -> None:
        """Start the server, also after its exit."""
        self._process = self._node.spawn_handler(self._handle_message, name=Atom("user"), on_end=self._start)
        self.pid = self._process.pid

    def _start_logger_proxy(self) -> None:
        """Start ``logger_proxy``, to which other nodes send crash reports of our processes."""
        self._node.spawn_handler(_log_report, name=Atom("logger_proxy"), on_end=self._start_logger_proxy)

    def _handle_message(self, message: Term) -> None:
        match message:
            case (Atom("io_request"), Pid() | Ref() as printer, reply_as, request):
                answer = self._handle_request(request, MAX_NESTED_REQUESTS)
                self._process.send(printer, (Atom("io_reply"), reply_as, answer), connect=False)
            case _:
                log.debug("ignored %s", ForeignText(message))

    def _handle_request(self, request: Term, depth: int) -> Term:
        """Carry out one request and return its reply. ``depth`` limits nested requests."""
        match request:
            case (Atom("put_chars"), Atom("unicode" | "latin1") as encoding, text):
                return self._write_chars(lambda: _decode_chars(text, encoding))
            case (
                Atom("put_chars"),
                Atom("unicode" | "latin1"),
                Atom() as module,
                Atom() as function,
                list() as arguments,
            ):
                return self._write_chars(lambda: _apply_format(module, function, arguments))
            case (Atom("put_chars"), Atom() as module, Atom() as function, list() as arguments):
                return self._write_chars(lambda: _apply_format(module, function, arguments))
            case (Atom("put_chars"), text):
                return self._write_chars(lambda: _decode_chars(text, LATIN1))
            case (Atom("requests"), list() as requests) if depth:
                return self._handle_requests(requests, depth - 1)
            case (Atom("setopts"), list()):
                return OK
            case Atom("getopts"):
                return OPTIONS
            case _ if _is_input_request(request):
                return ENOTSUP
        return ERROR_REQUEST

    def _handle_requests(self, requests: list[Term], depth: int) -> Term:
        """Carry out the requests in order, up to the first that fails."""
        answer: Term = OK
        for request in requests:
            answer = self._handle_request(request, depth)
            if isinstance(answer, tuple) and answer[0] is ERROR:
                break
        return answer

    def _write_chars(self, text: Callable[[], str]) -> Term:
        """Write the text that ``text()`` returns. An error becomes the reply."""
        try:
            self._write(text())
        except BadFormat as error:
            log.debug("cannot be printed: %s", ForeignText(error))
            return (ERROR, PUT_CHARS)
        except (OSError, ValueError) as error:  # Our own output is closed.
            log.debug("cannot be written: %s", error)
            return (ERROR, Atom("terminated"))
        return OK


def _decode_chars(text: Term, encoding: Atom) -> str:
    """Convert chardata to text. Raises :class:`BadFormat`."""
    return chardata_to_str(text, "latin-1" if encoding is LATIN1 else "utf-8")


def _apply_format(module: Atom, function: Atom, arguments: list[Term]) -> str:
    """Evaluate the function that a ``put_chars`` request names. Raises :class:`BadFormat` for an unknown function.

    OTP applies any function. Here only the functions of io_lib are known, which the module io uses.
    """
    if module is Atom("io_lib") and function.name in ("format", "fwrite") and len(arguments) == 2:
        return format_text(*arguments)
    if module is Atom("io_lib") and function.name == "write" and len(arguments) == 1:
        return format_text("~w", arguments)
    if module is Atom("io_lib") and function.name == "print" and len(arguments) == 1:
        return format_text("~p", arguments)
    raise BadFormat(f"{module}:{function}/{len(arguments)} is not supported here")


def _is_input_request(request: Term) -> bool:
    """True for a request that reads input, or that sets options in another form."""
    name = request[0] if isinstance(request, tuple) and request else None
    return isinstance(name, Atom) and name.name in (
        "get_chars", "get_line", "get_until", "get_password", "get_geometry", "setopts", "fread"
    )  # fmt: skip


def _log_report(message: Term) -> None:
    """``logger_proxy``: log a crash report of a process that this node started on another node.

    The other node does not log it: its logger forwards reports to the node of the group leader (logger.erl).
    """
    match message:
        case (Atom("log"), level, text, list() as arguments, _) if log.isEnabledFor(logging.DEBUG):
            try:
                log.debug("%s: %s", ForeignText(level), ForeignText(format_text(text, arguments)))
            except BadFormat:
                log.debug("%s: %s %s", ForeignText(level), ForeignText(text), ForeignText(arguments))
        case (Atom("log"), level, report, _):
            log.debug("%s: %s", ForeignText(level), ForeignText(report))
