"""GenServer: a process that answers calls, as OTP's ``gen_server`` and Elixir's ``GenServer`` (gen_server.erl).

One message at a time goes to one method::

    {'$gen_call', From, Request}     handle_call(request, caller)    returns the reply
    {'$gen_cast', Request}           handle_cast(request)
    any other message                handle_info(message)
    {system, From, Request}          answered by erlmesh.runtime.system_messages
    {'EXIT', Parent, Reason}         terminate(reason), then the end
    {'EXIT', Node, shutdown}         the node stops: the same, when all callers have their replies

The annotation of ``request`` or ``message`` may name classes: see :mod:`erlmesh.behaviours.typed_requests`.

Each method is a plain or an ``async`` function. While an ``async`` method waits, later messages wait too, as in OTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, ClassVar, Final, Literal, TypeAlias

from erlmesh.behaviours.cancellation import require_cancelled_task
from erlmesh.behaviours.owed_replies import OwedReplies
from erlmesh.behaviours.pending_work import PendingWork
from erlmesh.behaviours.server_system import ServerCallbacks, attributes_of
from erlmesh.behaviours.starting import start_process
from erlmesh.behaviours.ticks import Tick, Ticks
from erlmesh.behaviours.typed_requests import typed
from erlmesh.core.exit_reasons import NORMAL, SHUTDOWN
from erlmesh.core.gen import GEN_CALL, GEN_CAST, is_call
from erlmesh.errors import Exit
from erlmesh.net.event_log import event_log
from erlmesh.node import Node, Process
from erlmesh.runtime.exceptions import exit_reason
from erlmesh.runtime.process_types import StopMode
from erlmesh.runtime.system_messages import ProcessSystem, is_observed, observe
from erlmesh.runtime.thread_pool import PoolFull, ThreadPool
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["NO_REPLY", "Caller", "GenServer", "blocking"]

log = event_log("erlmesh.gen_server")

Caller: TypeAlias = "tuple[Pid, Term]"
"""The process that has called: OTP's ``From``. Pass it to :meth:`GenServer.reply` as it is."""

ERROR: Final = Atom("error")
UNKNOWN_CALL: Final = Atom("unknown_call")
OVERLOADED: Final = (ERROR, Atom("overloaded"))
TIMEOUT_REPLY: Final = (ERROR, Atom("timeout"))
EXIT: Final = Atom("EXIT")
IN, OUT, NOREPLY = Atom("in"), Atom("out"), Atom("noreply")


class _NoReply:
    def __repr__(self) -> str:
        return "NO_REPLY"


SETTLED: Final = object()
"""The message to itself when no caller waits for a later reply any more."""
NO_REPLY: Final = _NoReply()
"""Returned by ``handle_call``: the server replies later with :meth:`GenServer.reply`."""


def blocking(method: Callable[..., Any]) -> Callable[..., Any]:
    """Run a plain handler in a thread of the server's pool (``threads``): it may compute, sleep and read files.

    The server handles no other message meanwhile. If all threads and the queue are full, a call is answered with
    ``{error, overloaded}``.
    """
    if iscoroutinefunction(method):
        raise TypeError(f"{method.__qualname__} is a coroutine function: it runs in the event loop")
    method.__erlmesh_blocking__ = True  # type: ignore[attr-defined] # a mark that only this module reads
    return method


class GenServer:
    """Override the methods below, and start it with ``await Counter.start_link(me, 5, name="counter")``."""

    call_timeout: ClassVar[float | None] = None
    """Seconds that ``handle_call`` may take. After them it is cancelled and the caller gets ``{error, timeout}``."""
    max_mailbox: ClassVar[int | None] = None
    """If that many messages wait (1 or more), a further call is answered at once with ``{error, overloaded}``."""
    threads: ClassVar[int] = 1
    """The size of the pool for :func:`blocking` handlers."""

    me: Process
    """The process of the server. Use it only within the methods of the server."""

    _stop_mode: ClassVar[StopMode] = StopMode.DRAINS
    _stop: tuple[Term] | None
    """The reason to end for, as soon as the method that runs now has returned."""

    # To override

    def init(self, *arguments: Any, **options: Any) -> Any:
        """Prepare the server. ``start`` returns when this has returned.

        An exception ends the server, and ``start`` raises ProcessStartError.
        """

    def handle_call(self, request: Term, caller: Caller) -> Any:
        """Return the reply, or :data:`NO_REPLY`. None means that the request is unknown.

        An unknown call is logged, and answered with ``{error, {unknown_call, Request}}``. (OTP's server crashes.)
        """

    def handle_cast(self, request: Term) -> Any:
        """Handle a cast. By default it is logged."""
        log.warning(
            "unknown_cast",
            "%s: no handle_cast for %s",
            self.me.label,
            ForeignText(request),
            pid=self.me.pid,
            request=request,
        )

    def handle_info(self, message: Term) -> Any:
        """Handle any other message. By default it is logged, as Elixir does. See :meth:`Process.unhandled`."""
        self.me.unhandled(message)

    def handle_continue(self, argument: Any) -> Any:
        """Handle the argument of :meth:`continue_with`, before any other message."""

    def terminate(self, reason: Term) -> Any:
        """Clean up. It is called before the end for ``reason``, unless an exit signal kills the process.

        As in OTP, the server must trap exits (``self.me.trap_exit = True``) to be called when its parent ends it, or
        when its node stops.
        """

    def get_state(self) -> Term:
        """What ``sys:get_state`` and crash reports show. By default a map of the attributes."""
        return attributes_of(self)

    # Start and stop

    @classmethod
    async def start(
        cls,
        node: Node,
        *arguments: Any,
        name: Atom | str | None = None,
        global_name: Term = None,
        groups: Iterable[Term] = (),
        timeout: float | None = None,
    ) -> Pid:
        """Start the server, without a link, and return its pid when ``init(*arguments)`` has returned.

        ``name`` is registered on the node, ``global_name`` in the cluster (``global``). The server joins the ``groups``
        of ``pg``. Raises ProcessStartError.
        """
        names: Any = {"name": name, "global_name": global_name, "groups": groups}
        return await cls._start(node, arguments, **names, timeout=timeout, link=False)

    @classmethod
    async def start_link(
        cls,
        parent: Process,
        *arguments: Any,
        name: Atom | str | None = None,
        global_name: Term = None,
        groups: Iterable[Term] = (),
        timeout: float | None = None,
    ) -> Pid:
        """Do the same as :meth:`start`, with a link to ``parent``: an ``init`` that fails sends an exit signal, too."""
        names: Any = {"name": name, "global_name": global_name, "groups": groups}
        return await cls._start(parent, arguments, **names, timeout=timeout, link=True)

    @classmethod
    async def _start(
        cls,
        starter: Node | Process,
        arguments: tuple[Any, ...],
        *,
        name: Atom | str | None,
        global_name: Term,
        groups: Iterable[Term],
        timeout: float | None,
        link: bool,
    ) -> Pid:
        groups = list(groups)
        parent = starter.pid if isinstance(starter, Process) and link else None

        async def body(me: Process, started: Callable[[], None]) -> None:
            server = cls.__new__(cls)
            server._prepare(me, parent)
            await server._run(arguments, global_name, groups, started)

        body.__qualname__, body.__module__ = cls.__qualname__, cls.__module__
        return await start_process(starter, body, link=link, name=name, timeout=timeout)

    def stop(self, reason: Term = NORMAL) -> None:
        """End after the method that runs now. A reply that it returns is sent first."""
        self._stop = (reason,)

    # For the methods of the server

    def reply(self, caller: Caller, answer: Any) -> None:
        """Reply to a call for which ``handle_call`` returned :data:`NO_REPLY`. None becomes ``nil``."""
        answer = Atom("nil") if answer is None else answer
        self.me.reply(caller, answer)
        if self._owed:
            self._owed.replied(caller)
        if is_observed(self.me):
            observe(self.me, (OUT, answer, caller[0]))

    def reply_with(self, caller: Caller, work: Coroutine[Any, Any, Any]) -> _NoReply:
        """Run ``work`` beside the server and reply with its result: ``return self.reply_with(caller, self.query(x))``.

        It is cancelled if the caller terminates, gives up, or its node is lost, and when the server ends. If it raises
        an exception, the caller gets ``{error, {Name, Text}}`` and the exception is logged.
        """
        self._pending.start(caller, work)
        return NO_REPLY

    def is_waiting(self, caller: Caller) -> bool:
        """False if the caller has terminated, has given up, or has its answer. (OTP 23 and before: always True.)"""
        return self._pending.is_waiting(caller)

    def continue_with(self, argument: Any) -> None:
        """Call ``handle_continue(argument)`` after the method that runs now, before any other message."""
        self._continuations.append(argument)

    def every(self, seconds: float, method: Callable[[], Any], *, overlap: Literal["skip", "queue"] = "skip") -> Tick:
        """Call ``method()`` every ``seconds``, as if a message came. ``cancel()`` of the result ends it.

        If the server is busy for longer, ``skip`` makes one call for all ticks that were missed, ``queue`` makes each.
        """
        return self._ticks.start(seconds, method, overlap)

    # The loop

    def _prepare(self, me: Process, parent: Pid | None) -> None:
        """Set the attributes that the methods above use. A subclass may have no ``super().__init__``."""
        if self.max_mailbox is not None and self.max_mailbox < 1:
            raise ValueError(f"max_mailbox is 1 or more, not {self.max_mailbox}")
        self.me = me
        self._parent = parent or me.pid
        self._stop = None
        self._continuations: list[Any] = []
        self._pending = PendingWork(self)
        self._owed = OwedReplies(me, self._settled)
        self._shutdown: tuple[Term] | None = None  # The reason to end for, because the node stops.
        me._stop_mode = self._stop_mode
        self._ticks = Ticks(me)
        self._pool: ThreadPool | None = None
        self._on_call = typed(self.handle_call, partial(GenServer.handle_call, self))
        self._on_cast = typed(self.handle_cast, partial(GenServer.handle_cast, self))
        self._on_info = typed(self.handle_info, partial(GenServer.handle_info, self))
        me._system = ProcessSystem(me, ServerCallbacks(self, self._parent), _raise_exit, self._refuse_call)
        me._mailbox.call_limit = self.max_mailbox
        me.handles_library_requests = True  # It answers every call, unknown ones too.

    async def _run(
        self, arguments: tuple[Any, ...], global_name: Term, groups: list[Term], started: Callable[[], None]
    ) -> None:
        try:
            await self._initialize(arguments, global_name, groups)
            started()
            await self._serve()
        finally:  # An exit signal cancels the task here.
            self._ticks.close()
            self._pending.close()
            self._owed.close()
            if self._pool is not None:
                self._pool.close()

    async def _initialize(self, arguments: tuple[Any, ...], global_name: Term, groups: list[Term]) -> None:
        """Call ``init``. As in OTP, ``terminate`` is not called if it fails."""
        try:
            if global_name is not None:  # As in OTP: if the name is taken, `init` is not called.
                await self._register(global_name)
            await self._call(self.init, *arguments)
            for group in groups:
                self.me.node.pg.join(group, self.me.pid)
        except Exit:
            raise
        except Exception as error:
            log.exception("server_init_failed", "GenServer %s: exception in init", self.me.label, pid=self.me.pid)
            raise Exit(exit_reason(error)) from None
        if self._stop is not None:
            raise Exit(self._stop[0])

    async def _serve(self) -> None:
        """Handle messages until the end, then call ``terminate`` and exit with the reason."""
        last: Term = None
        try:
            while (stop := await self._continue()) is None:
                last = await self.me.receive()
                await self._handle(last)
            reason = stop[0]
        except Exit as error:
            reason = error.reason
        except Exception as error:
            reason = exit_reason(error)
            log.exception(
                "server_failed",
                "GenServer %s terminating\nlast message: %s",
                self.me.label,
                ForeignText(last),
                pid=self.me.pid,
                request=last,
            )
        if self._shutdown is not None and not self.me.trap_exit:
            raise Exit(reason)  # The exit signal would have ended it without a call of `terminate`.
        # As in OTP: a second request to stop, which comes while `terminate` waits, is not answered and ends nothing.
        self.me.handles_system_messages = True
        try:
            await self._call(self.terminate, reason)
        except Exit as error:
            reason = error.reason
        except Exception as error:
            log.exception(
                "server_terminate_failed", "GenServer %s: exception in terminate", self.me.label, pid=self.me.pid
            )
            reason = exit_reason(error)
        raise Exit(reason)

    async def _continue(self) -> tuple[Term] | None:
        """Call ``handle_continue`` as often as it was asked for. Return the reason to end, if there is one."""
        while self._continuations and self._stop is None:
            await self._call(self.handle_continue, self._continuations.pop(0))
        if self._stop is None and self._shutdown is not None and not self._is_working():
            return self._shutdown
        return self._stop

    def _is_working(self) -> bool:
        """True if callers wait for later replies. A server of a node that stops ends when this is false."""
        return bool(self._pending or self._owed)

    def _shutdown_requested(self) -> None:
        """The node stops. The server goes on until it is not working any more."""

    def _settled(self) -> None:
        """No caller waits for a later reply any more. If the node stops, the server can end now."""
        if self._shutdown is not None:
            self.me._ops.deliver(self.me, SETTLED)

    async def _register(self, global_name: Term) -> None:
        node, pid = self.me.node, self.me.pid
        if not await node.global_.register(global_name, pid):
            raise Exit((Atom("already_started"), node.global_.whereis(global_name) or Atom("undefined")))

    async def _handle(self, message: Term) -> None:
        if type(message) is tuple and message:
            kind = message[0]
            if kind is GEN_CALL and is_call(message):
                await self._handle_call(message[2], message[1])
                return
            if kind is GEN_CAST and len(message) == 2:
                tracer = self.me.node.internals.state.counters.tracer
                if tracer is None:
                    await self._call(self._on_cast, message[1])
                else:
                    with tracer.serving_cast(type(self).__name__, message):
                        await self._call(self._on_cast, message[1])
                return
            if kind is EXIT and len(message) == 3 and self._is_to_end(message[1]):
                if message[2] is SHUTDOWN and self.me.node.internals.is_stopping:
                    self._shutdown = (SHUTDOWN,)
                    self._shutdown_requested()
                    return
                raise Exit(message[2])  # As in OTP: a server does not outlive its parent, also if it traps exits.
        if message is SETTLED:
            return
        if type(message) is Tick:
            await self._call(message.take())
            return
        await self._call(self._on_info, message)

    def _is_to_end(self, sender: Term) -> bool:
        """True for an ``EXIT`` message of the parent or of the node, and for one that stands for an exit signal."""
        return sender in (self._parent, self.me.node.internals.pid) or not self.me.trap_exit

    async def _handle_call(self, request: Term, caller: Caller) -> None:
        counters = self.me.node.internals.state.counters
        tracer, timer = counters.tracer, counters.durations
        started, outcome = 0.0 if timer is None else perf_counter(), "error"
        try:
            if tracer is None:
                outcome = await self._answer_call(request, caller)
            else:
                with tracer.serving(type(self).__name__, request, caller):
                    outcome = await self._answer_call(request, caller)
        except (Exit, asyncio.CancelledError):
            outcome = "exit"
            raise
        finally:
            if timer is not None:
                if outcome == "ok":
                    timer.served_calls.append(perf_counter() - started)
                else:
                    timer.served("call", started, outcome)

    async def _answer_call(self, request: Term, caller: Caller) -> str:
        """Reply to a call. Return the outcome, for metrics."""
        outcome = "ok"
        try:
            if self.call_timeout is None:
                answer = await self._call(self._on_call, request, caller)
            else:
                async with asyncio.timeout(self.call_timeout) as limit:
                    answer = await self._call(self._on_call, request, caller)
        except PoolFull:
            answer, outcome = OVERLOADED, "overloaded"
        except TimeoutError:
            if self.call_timeout is None or not limit.expired():
                raise
            log.warning(
                "call_too_slow",
                "%s: handle_call took longer than %g s: %s",
                self.me.label,
                self.call_timeout,
                ForeignText(request),
                pid=self.me.pid,
                seconds=self.call_timeout,
                request=request,
            )
            answer, outcome = TIMEOUT_REPLY, "timeout"
        if answer is NO_REPLY:
            if not self._pending.works_for(caller):
                self._owed.promised(caller)
            return "later"
        if answer is None:
            log.warning(
                "unknown_call",
                "%s: no handle_call for %s",
                self.me.label,
                ForeignText(request),
                pid=self.me.pid,
                request=request,
            )
            answer, outcome = (ERROR, (UNKNOWN_CALL, request)), "unknown_call"
        self.reply(caller, answer)
        return outcome

    def _refuse_call(self, caller: Caller) -> None:
        self.reply(caller, OVERLOADED)

    async def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the server, in a thread if it is marked as blocking."""
        try:
            if getattr(method, "__erlmesh_blocking__", False) and self.me.node.internals.function_pool is not None:
                self._pool = self._pool or ThreadPool(
                    f"{type(self).__name__} {self.me.pid}", self.threads, self.threads
                )
                return await self._pool.run(method, *arguments)
            result = method(*arguments)
            return await result if isinstance(result, Awaitable) else result
        except asyncio.CancelledError:
            require_cancelled_task()
            raise


def _raise_exit(reason: Term) -> None:
    """End the server from within its `receive`."""
    raise Exit(reason)
