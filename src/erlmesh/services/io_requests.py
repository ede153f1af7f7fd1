"""The requests of Erlang's I/O protocol, and their replies ("The Erlang I/O Protocol", stdlib user's guide).

Input is not supported: all input requests get ``{error, enotsup}``.

Source: the clauses of ``io_request`` in group.erl and user.erl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.gen_server import ERROR, OK
from erlmesh.services.io_format import BadFormat, TextBudget, format_text, print_chardata
from erlmesh.terms import Atom, Term
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["IoRequests"]

_peer_log = PeerLog(event_log("erlmesh.group_leader"))

ENOTSUP: Final = (ERROR, Atom("enotsup"))
ERROR_REQUEST: Final = (ERROR, Atom("request"))
PUT_CHARS: Final = Atom("put_chars")
UNICODE: Final = Atom("unicode")
LATIN1: Final = Atom("latin1")
# The reply to getopts.
OPTIONS: Final = [(Atom("binary"), True), (Atom("encoding"), UNICODE)]
MAX_NESTED_REQUESTS: Final = 16
"""Depth of ``requests`` within ``requests``. OTP has no limit; this one protects against a deep recursion."""

STEPS_OF_REQUEST: Final = 16
"""Steps of the budget that each request within ``requests`` takes, because it takes as long."""


class IoRequests:
    """Carries out requests. ``write(text)`` is called with the printed text."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._budget = TextBudget()
        """What this request may still print, with all requests in it."""

    def handle(self, request: Term) -> Term:
        """Carry out ``request`` and return its reply."""
        self._budget = TextBudget()
        return self._handle(request, MAX_NESTED_REQUESTS)

    def _handle(self, request: Term, depth: int) -> Term:
        """Carry out one request and return its reply. ``depth`` limits nested requests."""
        match request:
            case (Atom("put_chars"), Atom("unicode" | "latin1") as encoding, text):
                return self._write_chars(lambda: self._decode_chars(text, encoding))
            case (
                Atom("put_chars"),
                Atom("unicode" | "latin1"),
                Atom() as module,
                Atom() as function,
                list() as arguments,
            ):
                return self._write_chars(lambda: self._apply_format(module, function, arguments))
            case (Atom("put_chars"), Atom() as module, Atom() as function, list() as arguments):
                return self._write_chars(lambda: self._apply_format(module, function, arguments))
            case (Atom("put_chars"), text):
                return self._write_chars(lambda: self._decode_chars(text, LATIN1))
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
            if self._budget.steps <= 0:
                return ERROR_REQUEST
            self._budget.steps -= STEPS_OF_REQUEST
            answer = self._handle(request, depth)
            if isinstance(answer, tuple) and answer[0] is ERROR:
                break
        return answer

    def _apply_format(self, module: Atom, function: Atom, arguments: list[Term]) -> str:
        return _apply_format(module, function, arguments, self._budget)

    def _decode_chars(self, text: Term, encoding: Atom) -> str:
        """Convert chardata to text. Raises :class:`BadFormat`."""
        return print_chardata(text, "latin-1" if encoding is LATIN1 else "utf-8", self._budget)

    def _write_chars(self, text: Callable[[], str]) -> Term:
        """Write the text that ``text()`` returns. An error becomes the reply."""
        try:
            self._write(text())
        except BadFormat as error:
            _peer_log.debug("output_failed", "cannot be printed: %s", ForeignText(error), reason=error)
            return (ERROR, PUT_CHARS)
        except (OSError, ValueError) as error:  # Our own output is closed.
            _peer_log.debug("output_failed", "cannot be written: %s", error, reason=error)
            return (ERROR, Atom("terminated"))
        return OK


def _apply_format(module: Atom, function: Atom, arguments: list[Term], budget: TextBudget) -> str:
    """Evaluate the function that a ``put_chars`` request names. Raises :class:`BadFormat` for an unknown function.

    OTP applies any function. Here only the functions of io_lib are known, which the module io uses.
    """
    if module is Atom("io_lib") and function.name in ("format", "fwrite") and len(arguments) == 2:
        return format_text(arguments[0], arguments[1], budget)
    if module is Atom("io_lib") and function.name == "write" and len(arguments) == 1:
        return format_text("~w", arguments, budget)
    if module is Atom("io_lib") and function.name == "print" and len(arguments) == 1:
        return format_text("~p", arguments, budget)
    raise BadFormat(f"{module}:{function}/{len(arguments)} is not supported here")


def _is_input_request(request: Term) -> bool:
    """True for a request that reads input, or that sets options in another form."""
    name = request[0] if isinstance(request, tuple) and request else None
    return isinstance(name, Atom) and name.name in (
        "get_chars", "get_line", "get_until", "get_password", "get_geometry", "setopts", "fread"
    )  # fmt: skip
