"""Library requests that a process does not answer: what the node answers in its place, and when.

OTP's and Elixir's libraries wait for these answers without a time limit (:func:`erlmesh.core.gen.is_library_request`).
A plain body may know nothing of them, so the node answers

* a request that the body has taken and not answered, when it receives in a way that would take the request again;
* a request that has waited in the mailbox for a while (:data:`PATIENCE`), because the body receives nothing or takes
  other messages only. A body that has answered a library request before is left alone: it takes the next one, too.

The answer is ``{error, {unknown_call, Request}}``. To requests of the I/O protocol it is ``{error, request}``, as their
definition says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from erlmesh.core.gen import FILE_REQUEST, GEN_CALL, IO_REQUEST, reply_to
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["PATIENCE", "OpenRequests", "is_reply", "refusal"]

PATIENCE: Final = 1.0
"""Seconds that a library request waits in a mailbox until it is answered for the process."""

ERROR: Final = Atom("error")
UNKNOWN_CALL: Final = Atom("unknown_call")
REFUSED: Final = (ERROR, Atom("request"))
IO_REPLY: Final = Atom("io_reply")
FILE_REPLY: Final = Atom("file_reply")


def refusal(message: Term) -> tuple[Pid | Ref, Term] | None:
    """Where to send which answer to a request that nobody understands. None if ``message`` is not a request."""
    match message:
        case (kind, (Pid(), tag) as caller, request) if kind is GEN_CALL or isinstance(kind, Pid):
            return reply_to(caller), (tag, (ERROR, (UNKNOWN_CALL, request)))
        case (kind, Pid() as caller, reply_as, _) if kind is IO_REQUEST:
            return caller, (IO_REPLY, reply_as, REFUSED)
        case (kind, Pid() as caller, reply_as, _) if kind is FILE_REQUEST:
            return caller, (FILE_REPLY, reply_as, REFUSED)
    return None


def is_reply(message: Term, request: Term) -> bool:
    """True if ``message`` is a reply to this library request."""
    if type(message) is not tuple:
        return False
    if len(request) == 3:
        return len(message) == 2 and message[0] == request[1][1]
    kind = IO_REPLY if request[0] is IO_REQUEST else FILE_REPLY
    return len(message) == 3 and message[0] is kind and message[1] == request[2]


class OpenRequests:
    """The library requests that one process has taken and not answered."""

    def __init__(self) -> None:
        self._open: list[Term] = []
        self.serves = False
        """True after the process has answered one itself."""

    def __bool__(self) -> bool:
        return bool(self._open)

    def taken(self, request: Term) -> None:
        """The process has received the request."""
        self._open.append(request)

    def sent(self, message: Term) -> None:
        """The process has sent a message, which may be the reply to an open request."""
        for index, request in enumerate(self._open):
            if is_reply(message, request):
                del self._open[index]
                self.serves = True
                return

    def unanswered(self, match: Callable[[Term], bool] | None) -> list[Term]:
        """The process receives with ``match``. Remove and return the requests that it has not understood."""
        found = [request for request in self._open if match is None or match(request)]
        self._open = [request for request in self._open if not any(request is each for each in found)]
        return found
