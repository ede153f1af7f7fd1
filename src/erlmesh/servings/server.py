"""The process of a serving, and the protocol of its callers.

::

    caller ── call {run, Input} ──▶ serving
    caller ◀── {ok, Output} | {error, Reason} ── serving

    caller ── call {stream, Input} ──▶ serving
    caller ◀── {ok, Ref} | {error, Reason} ── serving, and then the messages
    caller ◀── {Ref, event, Event} ... {Ref, done} | {Ref, error, Reason} ── serving
    caller ── cast {cancel, Ref} ──▶ serving                    it needs no more events

    caller ── call statistics ──▶ serving
    caller ◀── #{batches => 3, ...} ── serving

Reasons are ``overloaded``, ``timeout`` (the time limit of the serving), ``shutdown``, ``{bad_input, Text}``,
``{bad_output, Text}``, ``{'WorkerDied', Text}``, or what an exception of the function means: ``{'ValueError', Text}``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from erlmesh.behaviours.gen_server import NO_REPLY, Caller, GenServer
from erlmesh.core.batching import BatchBook
from erlmesh.core.exit_reasons import NORMAL, SHUTDOWN
from erlmesh.errors import ErlangError, Exit
from erlmesh.net.network import TcpNetwork
from erlmesh.node import Node, Process
from erlmesh.servings import nx
from erlmesh.servings.call_requests import CallRequest, FunctionRequest, StreamRequest
from erlmesh.servings.engine import ServingEngine
from erlmesh.servings.requests import Request
from erlmesh.servings.runners import make_runner
from erlmesh.servings.settings import ServingSettings
from erlmesh.servings.statistics import statistics_of
from erlmesh.terms import Atom, Ref, Term

__all__ = ["ServingServer", "call_exposed", "find_serving"]

ERROR: Final = Atom("error")
OK: Final = Atom("ok")
BAD_INPUT: Final = Atom("bad_input")
NOPROC: Final = Atom("noproc")

_running: Final[WeakKeyDictionary[Node, dict[Atom, ServingServer]]] = WeakKeyDictionary()


def find_serving(node: Node, name: Atom) -> ServingServer | None:
    """Return the server of the serving ``name`` that runs on ``node``."""
    return _running.get(node, {}).get(name)


async def call_exposed(me: Process, name: Atom, term: Term) -> Term:
    """Run one input in the process of a call of ``erpc`` or ``rpc``. Raises ErlangError with the reason."""
    server = find_serving(me.node, name)
    if server is None:
        raise Exit(NOPROC)
    try:
        request = FunctionRequest(me, term)
    except ValueError as error:
        raise ErlangError((BAD_INPUT, str(error)), []) from None
    refused = server.accept(request)
    if refused is not None:
        raise ErlangError(refused, [])
    return await request.answer


class ServingServer(GenServer):
    """One serving on one node. Callers reach it as a process; ``erpc`` and Nx by :meth:`accept`."""

    async def init(self, settings: ServingSettings, exposed: Callable[..., Any]) -> None:
        """Start the threads or processes of the function, and offer it to the callers."""
        node = self.me.node
        self.me.trap_exit = True  # So `terminate` answers the callers when a supervisor ends this.
        self.offers_nx = settings.nx
        self._settings = settings
        self._streams: dict[Ref, StreamRequest] = {}
        self._engine = self._make_engine(settings)
        await self._engine.start()
        name = getattr(settings.function, "__name__", "<lambda>")
        if not name.startswith("<"):  # A lambda has no name to be called by.
            node.expose(exposed, as_=settings.module, name=name)
        _running.setdefault(node, {})[settings.name] = self
        if settings.nx:
            nx.serve(node, find_serving)
            nx.join_groups(node, settings.name, self.me.pid, settings.weight)

    def _make_engine(self, settings: ServingSettings) -> ServingEngine:
        network = self.me.node._config.network
        runner = make_runner(
            settings.function,
            settings.name.name,
            threads=settings.threads,
            processes=settings.processes,
            simulated=network is not None and not isinstance(network, TcpNetwork),
        )
        book = BatchBook(
            Request.is_wanted,
            batch_size=settings.batch_size,
            wait=settings.wait,
            limit=settings.limit,
            byte_limit=settings.byte_limit,
            slots=settings.processes or settings.threads,
            time_limit=settings.time_limit,
        )
        return ServingEngine(f"serving {settings.name}", runner, book, on_idle=self._settled)

    # Requests

    def accept(self, request: Request) -> Term | None:
        """Take a request. Return the reason if it is refused, and None if its caller gets the answer later."""
        return self._engine.submit(request)

    def handle_call(self, request: Term, caller: Caller) -> Any:
        """See the header."""
        match request:
            case (Atom("run"), input_):
                return self._accept(lambda: CallRequest(self, caller, input_))
            case (Atom("stream"), input_):
                return self._stream(input_, caller)
            case Atom("statistics"):
                return statistics_of(self._engine.book)
        return None

    def _accept(self, make: Callable[[], Request]) -> Any:
        try:
            refused = self.accept(make())
        except ValueError as error:
            refused = (BAD_INPUT, str(error))
        return NO_REPLY if refused is None else (ERROR, refused)

    def _stream(self, input_: Term, caller: Caller) -> Any:
        ref = self.me.monitor(caller[0])

        def end() -> None:
            self._streams.pop(ref, None)
            self.me.demonitor(ref, flush=True)

        def make() -> Request:
            self._streams[ref] = request = StreamRequest(self.me, caller[0], ref, input_, end)
            return request

        answer = self._accept(make)
        if answer is not NO_REPLY:
            end()
            return answer
        return (OK, ref)  # Batches start in tasks, so no event precedes this.

    def handle_cast(self, request: Term) -> None:
        """``{cancel, Ref}`` ends a stream. See :class:`GenServer` for all others."""
        match request:
            case (Atom("cancel"), Ref() as ref):
                self._cancel(ref)
            case _:
                super().handle_cast(request)

    def handle_info(self, message: Term) -> None:
        """The caller of a stream is gone."""
        match message:
            case (Atom("DOWN"), Ref() as ref, _, _, _) if ref in self._streams:
                self._cancel(ref)
            case (Atom("EXIT"), _, _):
                pass  # A linked process has ended. The parent's end is not a message.
            case _:
                super().handle_info(message)

    def _cancel(self, ref: Ref) -> None:
        stream = self._streams.pop(ref, None)
        if stream is not None:
            stream.cancel()
            self.me.demonitor(ref, flush=True)

    def get_state(self) -> Term:
        """What ``sys:get_state`` shows."""
        return statistics_of(self._engine.book)

    # The end

    def _is_working(self) -> bool:
        return super()._is_working() or not self._engine.book.idle

    def _shutdown_requested(self) -> None:
        self._engine.finish_soon()

    async def terminate(self, reason: Term) -> None:
        """Answer what was accepted, if the end is in order."""
        if reason is SHUTDOWN or reason is NORMAL:
            self._leave_groups()
            await self._engine.finish()

    def _leave_groups(self) -> None:
        """Let new callers choose another node, while this one still answers those that it has."""
        node, pid, settings = self.me.node, self.me.pid, self._settings
        node.pg.leave(settings.name, pid)
        if settings.nx:
            nx.leave_groups(node, settings.name, pid, settings.weight)

    async def _run(
        self, arguments: tuple[Any, ...], global_name: Term, groups: list[Term], started: Callable[[], None]
    ) -> None:
        try:
            await super()._run(arguments, global_name, groups, started)
        finally:  # Also after `kill`, which runs no other code of this server.
            self._close()

    def _close(self) -> None:
        if not hasattr(self, "_engine"):  # It has ended before `init`.
            return
        here = _running.get(self.me.node, {})
        if here.get(self._settings.name) is self:
            del here[self._settings.name]
        reason = self.me.exit_reason
        self._engine.close(SHUTDOWN if reason is None else reason)
