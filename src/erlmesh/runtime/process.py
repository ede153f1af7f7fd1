"""A local process, and the handle that its body gets.

A process is one asyncio task with a pid, a mailbox, links and monitors. A *handler* process has no task, but a function
that is called for each message. All signals of a process go through its node's router, which acts at once. Only waiting
for messages is asynchronous.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from random import Random
from typing import Any, Literal, Protocol, overload

from erlmesh.core import gen
from erlmesh.core.exit_reasons import NORMAL
from erlmesh.errors import Exit
from erlmesh.runtime.deadlines import Deadlines
from erlmesh.runtime.mailbox import EMPTY, Mailbox
from erlmesh.runtime.process_types import MFA, Backpressure, Body, Cancellable, Destination, StopMode, Timer
from erlmesh.runtime.wakeups import Wait, Wakeups
from erlmesh.terms import Atom, Pid, Ref, SendableTerm, Term
from erlmesh.terms.copying import copy_term

__all__ = [
    "MFA",
    "Backpressure",
    "Body",
    "Destination",
    "LocalProcess",
    "ProcessOps",
    "SignalOps",
    "Timer",
]

_LINK = Atom("link")
_MONITOR = Atom("monitor")
REDUCTIONS = 2_000
"""Messages that a process receives before other tasks get a turn, as a BEAM counts reductions."""


class SignalOps(Protocol):
    """How a process acts on others. The methods of :class:`LocalProcess` with the same names say what they do."""

    def send(
        self, sender: LocalProcess, to: Destination, message: Term, connect: bool = True, strict: bool = True
    ) -> None: ...

    def try_send(self, sender: LocalProcess, to: Destination, message: Term, connect: bool) -> bool: ...

    def link(self, process: LocalProcess, other: Pid) -> None: ...

    def unlink(self, process: LocalProcess, other: Pid) -> None: ...

    def exit_signal(self, sender: LocalProcess, to: Pid, reason: Term) -> None: ...

    def monitor(self, process: LocalProcess, target: Destination) -> Ref: ...

    def demonitor(self, process: LocalProcess, ref: Ref) -> bool: ...

    def flush_down(self, process: LocalProcess, ref: Ref) -> None:
        """Remove a DOWN that was sent to ``process`` and that it has not received yet."""


class ProcessOps(Protocol):
    """What a process asks of its node. One object serves all processes of a node."""

    @property
    def signals(self) -> SignalOps:
        """A process keeps its own reference to this object: sending costs one attribute."""

    @property
    def atom(self) -> Atom:
        """The name of the node."""

    @property
    def random(self) -> Random:
        """The node's source of randomness. With a seed it repeats itself."""

    @property
    def wakeups(self) -> Wakeups:
        """Schedules the next step of a process that waits."""

    @property
    def deadlines(self) -> Deadlines:
        """The time limits of waits."""

    def now(self) -> float:
        """Seconds on the event loop's clock, which all timeouts use."""

    def make_ref(self) -> Ref: ...

    def nodes(self, *, hidden: bool = False) -> list[str]:
        """The connected visible (or hidden) nodes, in order of connection."""

    def deliver(self, process: LocalProcess, message: Term) -> None:
        """Put a message into the mailbox, or pass it to the handler."""

    def deliver_first(self, process: LocalProcess, messages: Iterable[tuple[Term, Atom | None]]) -> None:
        """Let the handler that runs now get these messages next, each with the peer that sent it."""

    @property
    def message_peer(self) -> Atom | None:
        """The peer that sent the message which a handler handles now; None if this node did."""

    def terminate(self, process: LocalProcess, reason: Term) -> None: ...

    def system_message(self, process: LocalProcess, message: Term) -> None:
        """Answer a system message that ``process`` has taken from its mailbox."""

    def system_message_for_handler(self, process: LocalProcess, message: Term) -> list[tuple[Term, Atom | None]]:
        """Answer a system message for the handler of ``process``.

        Return the messages that it handles next, each with the peer that sent it.
        """

    def special_message_arrived(self, process: LocalProcess) -> None:
        """A system message or a library request was put into the mailbox, or any message above its limit.

        Answer what ``process`` does not receive.
        """

    def special_message_taken(self, process: LocalProcess, message: Term) -> None:
        """``process`` has received a message while its mailbox needed attention."""

    def receives_again(self, process: LocalProcess, match: Callable[[Term], bool] | None) -> None:
        """``process`` receives with ``match`` while its mailbox is held."""

    def refuse_overdue(self, process: LocalProcess) -> None:
        """Refuse the library requests that ``process`` does not take."""

    def request_for_handler(self, process: LocalProcess, message: Term) -> None:
        """Pass a library request to the handler of ``process``, and answer it if the handler does not."""

    def unhandled(self, process: LocalProcess, message: Term) -> None: ...

    def mailbox_grown(self, mailbox: Mailbox, count: int) -> None:
        """Warn about a mailbox with many messages, and end a process that has more than its limit, a little later."""

    def monitors_with(self, ref: Ref) -> bool:
        """True while the monitor ``ref`` of a local process exists: a caller waits for its answer."""

    def on_demonitor(self, ref: Ref, callback: Callable[[], object] | None) -> None:
        """Call ``callback()`` when the origin gives up the monitor ``ref``, or is lost. None removes the callback."""

    def send_traced(self, process: LocalProcess, to: Destination, message: Term) -> bool: ...

    def alias(self, process: LocalProcess) -> Ref: ...

    def unalias(self, process: LocalProcess, ref: Ref) -> bool: ...

    def register(self, name: Atom, pid: Pid) -> None: ...

    def call(
        self, caller: LocalProcess, to: Destination, request: Term, timeout: float | None
    ) -> Coroutine[Any, Any, Term]: ...

    def spawn(self, parent: LocalProcess, body: Body, arguments: tuple[Any, ...], name: Atom | str | None) -> Pid: ...

    async def spawn_remote(
        self, parent: LocalProcess, node: Atom, mfa: MFA, options: list[Atom]
    ) -> tuple[Pid, Ref]: ...


class LocalProcess:
    """The handle of a local process, given to its body as the first argument.

    Methods that send return at once. The order of signals between two processes is kept. Only the process itself may
    call the methods, except :attr:`pid`, :meth:`send` and :meth:`cast`.

    When an exit signal terminates the process, its task is cancelled. While the task cleans up it can still send,
    unlink, demonitor and remove aliases. Methods that wait, link or monitor raise :class:`Exit` with the reason,
    because nothing would arrive.
    """

    __slots__ = (
        "__weakref__",
        "_aliases",
        "_blocked_on",
        "_description",
        "_handler",
        "_mailbox",
        "_names",
        "_number",
        "_on_end",
        "_ops",
        "_parent",
        "_pending_calls",
        "_reductions_left",
        "_signals",
        "_stop_mode",
        "_suspended",
        "_system",
        "_task",
        "alive",
        "exit_reason",
        "group_leader",
        "handles_library_requests",
        "handles_system_messages",
        "pid",
        "trap_exit",
    )

    def __init__(self, ops: ProcessOps, pid: Pid, description: str | Callable[[], str]) -> None:
        self._ops = ops
        self._signals = ops.signals  # sending is the hot path: no hop through `ops`
        self.pid = pid
        self._number = pid.id | pid.serial << 32  # as pid_number, without a call
        self._description = description
        self._mailbox = Mailbox(ops.mailbox_grown)
        self.trap_exit: bool = False
        """With True, exit signals become messages ``(Atom("EXIT"), pid, reason)``; ``kill`` never does."""
        self.alive = True
        self.exit_reason: Term = None
        self._names: list[Atom] = []  # The registry enters and removes names and aliases.
        self._aliases: dict[Ref, None] = {}  # A set that keeps its order: iteration must be deterministic.
        self.group_leader: Pid | None = None
        self._parent: Pid | None = None  # The process that has started it, if that is known.
        self._stop_mode = StopMode.ENDS
        self._task: Cancellable | None = None  # Cancelled at termination. Mostly an asyncio.Task.
        self._handler: Callable[[Term], None] | None = None  # Gets each message, until termination.
        self._on_end: Callable[[], object] | None = None  # Called after termination, to restart a server.
        # Calls and spawn requests by reference. Termination fails them all.
        self._pending_calls: dict[Ref, Wait] = {}
        # The connection or queue that this process has filled. Its next receive or call waits for it.
        self._blocked_on: Backpressure | None = None
        # Messages until the process yields to other tasks. One more than that: it has never received.
        self._reductions_left = REDUCTIONS + 1
        self._suspended = False  # By `sys:suspend`: only system messages are taken from the mailbox.
        # What answers system messages: made for the first one, or set by a behaviour such as GenServer.
        self._system: Any = None
        self.handles_system_messages = False
        """With True, the process gets the messages of ``sys`` as all others and has to answer them itself."""
        self.handles_library_requests = False
        """With True, the process answers all requests of ``supervisor``, ``gen_event``, ``io`` and ``file`` itself.

        Otherwise the node refuses those that it does not answer, because their callers wait without a time limit: what
        it has taken, when it receives the next message; what it does not take, after a second.
        """

    @property
    def _never_received(self) -> bool:
        """True until the process takes a message, or waits for one."""
        return self._reductions_left > REDUCTIONS

    @property
    def label(self) -> str:
        """The pid and what it runs, for logs."""
        return f"{self.pid} {self._description if isinstance(self._description, str) else self._description()}"

    @property
    def mailbox_limit(self) -> int | None:
        """How many messages may wait for this process. None, the default, is any number.

        With more than that, the process is terminated with the reason ``killed``, as by OTP's ``max_heap_size``. The
        log says so. Without a limit, the log has a warning at 10,000 messages, 100,000 and so on. A handler process has
        no mailbox. Raises ``ValueError`` if it is set to something else than a positive whole number.
        """
        return self._mailbox.limit

    @mailbox_limit.setter
    def mailbox_limit(self, limit: int | None) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ValueError(f"mailbox_limit is a positive whole number or None, not {limit!r}")
        self._mailbox.limit = limit

    # Messages

    def send(self, to: Destination, message: SendableTerm, connect: bool = True, *, wait: bool = True) -> bool:
        """Send a message (``!``), and return True. A message to a process that does not exist is dropped.

        A message is a value: the receiver does not see later changes to a list or dict in it, on this node or another.
        (Objects that are not terms can be sent on the same node only, and are shared.)

        If the node is not connected, this connects first and queues the message; with ``connect=False`` the message is
        dropped. This method never waits. A process that has filled a connection, or has sent 1 MiB to a node that is
        being connected, waits in its next receive or call (see :meth:`drain`). Code that never waits, as a handler or
        a loop without ``await``, can queue as much as the option ``send_queue_limit`` allows, 64 MiB. Then a warning is
        logged, the connection ends, and all hear ``nodedown``. What waits for a node that is being connected is dropped
        at the same limit, as if the node could not be reached.

        With ``wait=False`` this process never waits for the receiver's node: if the connection is full, the message is
        not sent, and the result is False (``erlang:send/3`` with ``nosuspend``). So one node that does not read does
        not hold back messages to others.

        A message is encoded at once and in one piece. Nothing else runs on the node meanwhile, the receiving node pays
        the same, and all messages behind it wait. So split a long term into messages of up to about 64 KiB, and call
        :meth:`drain` between them. A long binary costs little.

        Raises ``ValueError`` for an unregistered local name (OTP's ``badarg``), ``TypeError`` for a value that is not a
        destination, and ``EncodeError`` for a message that is not a term.
        """
        # This is the hot path. Each keyword costs a look-up, also as a keyword-only parameter, so `connect` is none.
        if wait:
            self._signals.send(self, to, message, connect)
            return True
        return self._signals.try_send(self, to, message, connect)

    async def receive(
        self,
        match: Callable[[Term], bool] | None = None,
        *,
        timeout: float | None = None,
    ) -> Term:
        """Remove and return the oldest message that ``match`` accepts (any message without ``match``); wait for one.

        Raises ``TimeoutError`` after ``timeout`` seconds. Messages that were skipped stay in their order.
        """
        if self._blocked_on is not None or self._reductions_left <= 0:
            await self._yield()
        self._reductions_left -= 1
        message = self._mailbox.take(match)
        return message if message is not EMPTY else await self._wait(match, timeout)

    def receive_nowait(self, match: Callable[[Term], bool] | None = None) -> Term | None:
        """As :meth:`receive`, without waiting: None if there is no such message. (None is not a term.)"""
        message = self._mailbox.take(match)
        if message is EMPTY and self._mailbox.needs_attention:
            message = self._attend(match)
        return None if message is EMPTY else message

    async def _wait(self, match: Callable[[Term], bool] | None, timeout: float | None) -> Term:
        """Wait for a message that ``match`` accepts. The mailbox has none now, or it needs attention."""
        mailbox = self._mailbox
        if mailbox.needs_attention:
            message = self._attend(match)
            if message is not EMPTY:
                return message
            await self._end_if_terminated()
        wait = self._start_waiting()
        if timeout is not None:
            self._ops.deadlines.add(wait, timeout)
        try:
            while True:
                scanned = len(mailbox)
                await wait
                message = mailbox.take(match, scanned)
                if message is EMPTY and mailbox.needs_attention:
                    message = self._attend(match)
                if message is not EMPTY:
                    return message
                if not self.alive:
                    await self._end_if_terminated()
                if wait.timed_out:  # The limit was reached between the message that did not match and this step.
                    raise TimeoutError
                wait.renew()
                mailbox.waiting = wait
        finally:
            if mailbox.waiting is wait:  # After a cancellation another task may wait already.
                mailbox.waiting = None
            if timeout is not None:
                self._ops.deadlines.remove(wait, timeout)

    def _start_waiting(self) -> Wait:
        """Return the wait that the next message ends. Raises RuntimeError if another task waits for one already."""
        if not self.alive:
            raise Exit(self.exit_reason)
        waiting = self._mailbox.waiting
        if waiting is not None and not waiting.done():
            raise RuntimeError(f"another task waits for the messages of {self.label} already")
        self._reductions_left = REDUCTIONS
        wait = self._mailbox.waiting = Wait(self._ops.wakeups)
        return wait

    def __aiter__(self) -> AsyncIterator[Term]:
        return self

    async def __anext__(self) -> Term:
        if self._blocked_on is not None or self._reductions_left <= 0:
            await self._yield()
        self._reductions_left -= 1
        mailbox = self._mailbox
        while not mailbox or mailbox.needs_attention:
            if mailbox.needs_attention:
                message = self._attend(None)
                if message is not EMPTY:
                    return message
                await self._end_if_terminated()
            # Code outside the process may have taken the message that ended the wait.
            await self._start_waiting()
        return mailbox.popleft()

    def _attend(self, match: Callable[[Term], bool] | None) -> Term:
        """Take a message while the mailbox needs attention, and answer the system messages that precede it."""
        mailbox = self._mailbox
        if mailbox.held:
            self._ops.receives_again(self, match)
        while self.alive:
            if not self._suspended:
                message = mailbox.scan(match, self.handles_system_messages)
                if message is not EMPTY:
                    self._ops.special_message_taken(self, message)
                    return message
            request = EMPTY if self.handles_system_messages else mailbox.take_system()
            if request is EMPTY:
                if self._system is not None and self._system.overdue:
                    self._ops.refuse_overdue(self)
                break
            self._ops.system_message(self, request)
        return EMPTY

    async def _end_if_terminated(self) -> None:
        """Let the cancellation of the task arrive after a system message has terminated the process."""
        if not self.alive:
            await asyncio.sleep(0)

    async def _yield(self) -> None:
        """Let other tasks run, and wait while a connection that this process has filled stays full."""
        self._reductions_left = REDUCTIONS
        await asyncio.sleep(0)
        await self.drain()

    async def drain(self) -> None:
        """Wait while a connection it has sent to is so full that a BEAM would suspend it (``busy_dist_port``).

        It also gives other tasks a turn now and then. ``receive`` does both, too. A process that sends much and
        receives nothing should call it after every few messages.
        """
        self._reductions_left -= 1
        if self._reductions_left <= 0:
            self._reductions_left = REDUCTIONS
            await asyncio.sleep(0)
        while (peer := self._blocked_on) is not None:
            self._blocked_on = None
            await peer.wait_writable()

    # Calls

    async def call(self, to: Destination, request: SendableTerm, *, timeout: float | None = 5.0) -> Term:
        """``gen_server:call``: send the request and return the reply.

        Raises NoProcess, NoConnection, CalleeExited, or CallTimeout after ``timeout`` seconds (None: never). A later
        reply is dropped. (OTP 23 and before reply to the pid: there a later reply arrives as a message.)
        """
        self._require_alive()
        if self._blocked_on is not None or self._reductions_left <= 0:
            await self._yield()
        self._reductions_left -= 1
        return await self._ops.call(self, to, request, timeout)

    def cast(self, to: Destination, message: SendableTerm, *, connect: bool = True) -> None:
        """``gen_server:cast``: send ``{'$gen_cast', message}``. For an unregistered local name it is dropped."""
        request = gen.cast(message)
        if not self._ops.send_traced(self, to, request):
            self._signals.send(self, to, request, connect, False)

    def reply(self, caller: tuple[Pid, Term], answer: SendableTerm) -> None:
        """Reply to ``{'$gen_call', caller, request}``.

        This does not connect: a caller whose connection was lost has got ``noconnection`` instead of a reply.
        """
        self._signals.send(self, gen.reply_to(caller), (caller[1], answer), connect=False)

    def unhandled(self, message: Term) -> None:
        """Log a message that the body does not know, and answer a call with ``{error, {unknown_call, Request}}``.

        Use it as the last case of a ``match``: a caller may wait with ``infinity``, as those of ``Supervisor`` do.
        """
        self._ops.unhandled(self, message)

    # Links, monitors, exits

    def link(self, other: Pid) -> None:
        """Link with ``other``. If it does not exist, the exit signal ``noproc`` follows (``noconnection``: no node)."""
        self._require_alive()
        self._signals.link(self, other)

    def unlink(self, other: Pid) -> None:
        """Remove the link. After this no exit signal of it arrives."""
        self._signals.unlink(self, other)

    def monitor(self, target: Pid | Atom | str | tuple[Atom | str, Atom | str]) -> Ref:
        """Get ``(Atom("DOWN"), ref, Atom("process"), pid | (name, node), reason)`` once, when ``target`` terminates.

        It arrives at once if ``target`` does not exist (``noproc``) or its node cannot be reached (``noconnection``).
        """
        self._require_alive()
        return self._signals.monitor(self, target)

    def demonitor(self, ref: Ref, *, flush: bool = False) -> bool:
        """Remove a monitor. False if there was none. With ``flush``, also remove a DOWN that was not received yet."""
        found = self._signals.demonitor(self, ref)
        if flush and not found:
            self._signals.flush_down(self, ref)
        return found

    def alias(self) -> Ref:
        """A reference that messages can be sent to until :meth:`unalias`."""
        self._require_alive()
        return self._ops.alias(self)

    def unalias(self, ref: Ref) -> bool:
        """From now on drop messages to the alias. False if it was not an alias of this process."""
        return self._ops.unalias(self, ref)

    def exit(self, to: Pid, reason: SendableTerm) -> None:
        """Send an exit signal (``exit/2``). ``Atom("kill")`` cannot be trapped."""
        self._signals.exit_signal(self, to, reason)

    # Time

    def send_after(self, seconds: float, message: SendableTerm) -> Timer:
        """Send ``message`` to this process after ``seconds``."""
        loop = asyncio.get_running_loop()
        return Timer(loop.call_later(seconds, self._ops.deliver, self, copy_term(message)))

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``. Messages stay in the mailbox."""
        await asyncio.sleep(seconds)

    # Children and names

    @overload
    async def spawn_remote(
        self,
        node: Atom | str,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        link: bool = False,
        monitor: Literal[False] = False,
    ) -> Pid: ...

    @overload
    async def spawn_remote(
        self,
        node: Atom | str,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        link: bool = False,
        monitor: Literal[True],
    ) -> tuple[Pid, Ref]: ...

    async def spawn_remote(
        self,
        node: Atom | str,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        link: bool = False,
        monitor: bool = False,
    ) -> Pid | tuple[Pid, Ref]:
        """Start ``module:function(arguments)`` as a process on another ``node`` (``erlang:spawn_request/5``).

        With ``link`` it is linked to this process from its start. With ``monitor`` it is monitored from its start, and
        the result is ``(pid, ref)``: its DOWN carries ``ref``. What it prints is written here: the group leader goes
        with it. A function that does not exist gives a process that exits with ``undef``.

        Raises NoConnection, EncodeError, and CallError if the node refuses the request.
        """
        options = [_MONITOR] * monitor + [_LINK] * link
        mfa = (Atom(module), Atom(function), list(arguments))
        pid, ref = await self._ops.spawn_remote(self, Atom(node), mfa, options)
        return (pid, ref) if monitor else pid

    def spawn(self, body: Body, *arguments: Any, name: Atom | str | None = None, link: bool = False) -> Pid:
        """Start ``await body(me, *arguments)`` as a process of this node. With ``link``, link it to this process."""
        if link:
            self._require_alive()
        pid = self._ops.spawn(self, body, arguments, name)
        if link:
            self.link(pid)
        return pid

    def stop(self, reason: Term = NORMAL) -> None:
        """Terminate a handler process at once. (A body returns, or raises :class:`erlmesh.Exit`.)"""
        self._ops.terminate(self, reason)

    def register(self, name: Atom | str) -> None:
        """Register this process as ``name``. Raises ``ValueError`` if the name is taken."""
        self._ops.register(Atom(name), self.pid)

    def _require_alive(self) -> None:
        if not self.alive:
            raise Exit(self.exit_reason)

    def __repr__(self) -> str:
        return f"<Process {self.label}{'' if self.alive else ' dead'}>"
