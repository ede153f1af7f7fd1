"""System messages: what ``sys`` and ``gen_server:stop`` ask of every process, and what it answers (sys.erl).

A system message is ``{system, {Pid, Tag}, Request}``. The answer is sent as the reply to a call. ::

    Request                                       answer
    ──────────────────────────────────────────    ───────────────────────────────────────────────────────────────────
    {terminate, Reason}                           ok; the process then exits with Reason
    suspend, resume                               ok
    get_state, {replace_state, Fun}               {ok, State} (OTP 26 and later; OTP 25 expects State)
    get_status                                    {status, Pid, {module, M}, [PDict, running | suspended, Parent, …]}
    {debug, {trace | log | statistics | …, _}}    ok, {ok, _}, or unknown_debug
    {change_code, Module, Vsn, Extra}             ok; only while the process is suspended
    anything else                                 {error, {unknown_system_msg, Request}}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Term

__all__ = [
    "Answer",
    "Clock",
    "SystemCallbacks",
    "SystemState",
    "answer_request",
]

OK: Final = Atom("ok")
ERROR: Final = Atom("error")
RUNNING: Final = Atom("running")
SUSPENDED: Final = Atom("suspended")
TERMINATE: Final = Atom("terminate")
DEFAULT_LOG_SIZE: Final = 10
"""Events that ``sys:log`` keeps if the caller names no number."""
MAX_LOG_SIZE: Final = 10_000
"""A caller on another node chooses the size of the log, so it is bounded."""

Clock: TypeAlias = "Callable[[], Term]"
"""Returns the local time as ``calendar:datetime()``, ``{{Year, Month, Day}, {Hour, Minute, Second}}``."""


class SystemCallbacks(Protocol):
    """What the answers say about the code of a process: the ``system_*`` callbacks of OTP.

    Each method but :meth:`format_status` may raise. The exception is then the reason in the answer.
    """

    @property
    def module(self) -> Atom:
        """The module that ``get_status`` names."""

    @property
    def parent(self) -> Pid:
        """The process that has started this one, or the process itself."""

    def get_state(self) -> Term:
        """The state for ``sys:get_state``."""

    def replace_state(self, function: Term, /) -> Term:
        """Apply ``function`` to the state, keep the result, and return it."""

    def change_code(self, module: Term, old_version: Term, extra: Term, /) -> Term:
        """Return ``ok``, or the reason for which the code cannot be changed."""

    def format_status(self, sys_state: Atom, log: list[Term]) -> Term:
        """The last element of the status. ``log`` are the events of ``sys:log``."""


@record
class Statistics:
    """The counters of ``sys:statistics``."""

    start_time: Term
    messages_in: int = 0
    messages_out: int = 0


class SystemState:
    """Whether a process is suspended, and its debug options. It exists once they were asked for."""

    __slots__ = ("log", "log_size", "statistics", "suspended", "trace")

    def __init__(self) -> None:
        self.suspended = False
        self.trace = False
        """With True, each event is printed to the log of the program."""
        self.log: deque[Term] | None = None
        """The last events, oldest first; None if ``sys:log`` is off."""
        self.log_size = 0
        self.statistics: Statistics | None = None

    @property
    def observed(self) -> bool:
        """True if the process has to report each message that it receives and sends, with :meth:`event`."""
        return self.trace or self.log is not None or self.statistics is not None

    def event(self, event: Term) -> None:
        """Count and keep an event: ``{in, Message}`` or ``{out, Reply, To}``."""
        if self.log is not None:
            self.log.append(event)
        if self.statistics is not None:
            if event[0] is Atom("in"):
                self.statistics.messages_in += 1
            elif event[0] is Atom("out"):
                self.statistics.messages_out += 1

    def events(self) -> list[Term]:
        """The events that ``sys:log`` has kept, oldest first."""
        return list(self.log or ())


@record(frozen=True)
class Answer:
    """The answer to a request. The process sends ``reply``, and then exits if ``terminates`` is true."""

    reply: Term
    terminates: bool = False
    reason: Term = None
    printed: list[Term] | None = None
    """Events to print, for ``sys:log(Name, print)``."""


def answer_request(
    pid: Pid, request: Term, state: SystemState, callbacks: SystemCallbacks, local_time: Clock
) -> Answer:
    """Answer one request and change ``state``, as ``sys:handle_system_msg`` does."""
    match request:
        case (Atom("terminate"), reason):
            return Answer(OK, terminates=True, reason=reason)
        case Atom("suspend"):
            state.suspended = True
            return Answer(OK)
        case Atom("resume"):
            state.suspended = False
            return Answer(OK)
        case Atom("get_state"):
            return Answer(_call_back(callbacks, "system_get_state", callbacks.get_state))
        case (Atom("replace_state"), function):
            return Answer(
                _call_back(callbacks, "system_replace_state", lambda: callbacks.replace_state(function)),
            )
        case Atom("get_status"):
            return Answer(_status(pid, state, callbacks))
        case (Atom("debug"), what):
            return _debug(what, state, local_time)
        case (Atom("change_code"), module, old_version, extra) if state.suspended:
            return Answer(_change_code(callbacks, module, old_version, extra))
    return Answer((ERROR, (Atom("unknown_system_msg"), request)))


def _call_back(callbacks: SystemCallbacks, name: str, call: Callable[[], Term]) -> Term:
    """``{ok, State}``, or OTP's answer for a callback that failed."""
    try:
        return (OK, call())
    except Exception as error:
        return (ERROR, (Atom("callback_failed"), (callbacks.module, Atom(name)), (ERROR, _reason(error))))


def _change_code(callbacks: SystemCallbacks, module: Term, old_version: Term, extra: Term) -> Term:
    try:
        result = callbacks.change_code(module, old_version, extra)
    except Exception as error:
        result = (Atom("EXIT"), _reason(error))
    return OK if result is OK else (ERROR, result)


def _reason(error: Exception) -> Term:
    reason = getattr(error, "reason", None)
    return (Atom(type(error).__name__), str(error)) if reason is None else reason


def _status(pid: Pid, state: SystemState, callbacks: SystemCallbacks) -> Term:
    sys_state = SUSPENDED if state.suspended else RUNNING
    misc = callbacks.format_status(sys_state, state.events())
    return (
        Atom("status"),
        pid,
        (Atom("module"), callbacks.module),
        [[], sys_state, callbacks.parent, _debug_options(state), misc],
    )


def _debug_options(state: SystemState) -> list[Term]:
    options: list[Term] = []
    if state.statistics is not None:
        options.append((Atom("statistics"), True))
    if state.log is not None:
        options.append((Atom("log"), (state.log_size, state.events())))
    if state.trace:
        options.append((Atom("trace"), True))
    return options


def _debug(what: Term, state: SystemState, local_time: Clock) -> Answer:
    match what:
        case (Atom("trace"), bool() as on):
            state.trace = on
        case (Atom("log"), True):
            _keep_log(state, DEFAULT_LOG_SIZE)
        case (Atom("log"), (True, int() as size)) if size >= 1:
            _keep_log(state, min(size, MAX_LOG_SIZE))
        case (Atom("log"), False):
            state.log = None
        case (Atom("log"), Atom("print")):
            return Answer(OK, printed=state.events())
        case (Atom("log"), Atom("get")):
            return Answer((OK, state.events()))
        case (Atom("log_to_file"), False):
            pass
        case (Atom("log_to_file"), _):
            # Another node must not choose a file of this machine to write to.
            return Answer((ERROR, Atom("open_file")))
        case (Atom("statistics"), True):
            state.statistics = state.statistics or Statistics(local_time())
        case (Atom("statistics"), False):
            state.statistics = None
        case (Atom("statistics"), Atom("get")):
            return Answer((OK, _statistics(state, local_time)))
        case Atom("no_debug"):
            state.trace, state.log, state.statistics = False, None, None
        case (Atom("install"), _):
            # The code of a function of a BEAM is not here. `ok` would promise that it is called.
            return Answer((ERROR, Atom("undef")))
        case (Atom("remove"), _):
            pass
        case _:
            return Answer(Atom("unknown_debug"))
    return Answer(OK)


def _keep_log(state: SystemState, size: int) -> None:
    state.log = deque(state.log or (), size)
    state.log_size = size


def _statistics(state: SystemState, local_time: Clock) -> Term:
    counted = state.statistics
    if counted is None:
        return Atom("no_statistics")
    return [
        (Atom("start_time"), counted.start_time),
        (Atom("current_time"), local_time()),
        (Atom("reductions"), 0),  # Python does not count them.
        (Atom("messages_in"), counted.messages_in),
        (Atom("messages_out"), counted.messages_out),
    ]
