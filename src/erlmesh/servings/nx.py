"""Answers ``Nx.Serving.batched_run({:distributed, name}, input)`` of Elixir (nx: lib/nx/serving.ex).

A serving of Nx is a member of groups of the ``pg`` scope ``'Elixir.Nx.Serving.PG'``, several times if it has a weight.
The group is the name of the serving, and in Nx 0.9 and before ``'Elixir.Nx.Serving'`` for all servings. The caller
picks a member and starts a process on its node, with a monitor::

    'Elixir.Nx.Serving':'__distributed_batched_run__'(ClientPid, Ref, Name, Input)

    exit reason {Ref, Output}                     the answer
    messages {Ref, streaming}, {Ref, Event} ...
      and the exit reason {Ref, streaming}        a stream
    exit reason noproc                            no such serving here: the caller picks again, three times in all
    any other exit reason                         the exit reason of the caller
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

from erlmesh.core.exit_reasons import NOPROC
from erlmesh.etf import EncodedTerm
from erlmesh.node import Node
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_types import StopMode
from erlmesh.servings.requests import Request
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Acceptor", "NxRequest", "join_groups", "leave_groups", "serve"]

SCOPE: Final = Atom("Elixir.Nx.Serving.PG")
MODULE: Final = Atom("Elixir.Nx.Serving")
FUNCTION: Final = "__distributed_batched_run__"
STREAMING: Final = Atom("streaming")
BADARG: Final = Atom("badarg")
BAD_INPUT: Final = Atom("bad_input")


class Acceptor(Protocol):
    """A serving that runs here."""

    offers_nx: bool

    def accept(self, request: Request) -> Term | None:
        """Take a request, or return the reason for which it is refused."""


Find: TypeAlias = Callable[[Node, Atom], Acceptor | None]
"""Returns the serving of that name on a node."""


class NxRequest(Request):
    """One call of ``batched_run``, in the process ``me``. Its caller monitors ``me`` from the start."""

    def __init__(self, me: LocalProcess, node: Node, client: Pid, ref: Ref, term: Term) -> None:
        super().__init__(term)
        self._me = me
        self._is_monitored = node.internals.is_monitored
        self._client = client
        self._ref = ref
        self._is_streaming = False

    def caller_waits(self) -> bool:
        """See :class:`Request`."""
        return self._me.alive and self._is_monitored(self._me.pid)

    def send_result(self, term: Term) -> None:
        """See :class:`Request`."""
        # It is encoded once: here, where a value that is not a term raises.
        self._me.stop((self._ref, EncodedTerm(term)))

    def send_failure(self, reason: Term) -> None:
        """See :class:`Request`."""
        self._me.stop(reason)

    def send_event(self, term: Term) -> None:
        """See :class:`Request`."""
        self._start_stream()
        self._me.send(self._client, (self._ref, term), False)

    def end_stream(self) -> None:
        """See :class:`Request`."""
        self._start_stream()
        self._me.stop((self._ref, STREAMING))

    async def drain(self) -> None:
        """See :class:`Request`."""
        await self._me.drain()

    def _start_stream(self) -> None:
        if not self._is_streaming:
            self._is_streaming = True
            self._me.send(self._client, (self._ref, STREAMING), False)


def serve(node: Node, find: Find) -> None:
    """Answer the spawn requests of Nx on ``node``. ``find(node, name)`` returns the serving, or None."""
    # A caller that gets `noproc` picks again. Any other refusal ends it, also that of a node that stops.
    node.internals.serve_spawn_request(MODULE.name, FUNCTION, 4, partial(_run, find), while_stopping=True)


def join_groups(node: Node, name: Atom, pid: Pid, weight: int) -> None:
    """Let the serving be found by the callers of all versions of Nx."""
    scope = node.pg.find_scope(SCOPE) or node.pg.start_scope(SCOPE)
    for group in (name, MODULE):
        scope.join(group, [pid] * weight)


def leave_groups(node: Node, name: Atom, pid: Pid, weight: int) -> None:
    """Let new callers choose another member."""
    scope = node.pg.find_scope(SCOPE)
    if scope is not None:
        for group in (name, MODULE):
            scope.leave(group, [pid] * weight)


def _run(find: Find, me: LocalProcess, *arguments: Term) -> None:
    """Run one request in the process ``me``, which ends with the answer. It needs no task."""
    client, ref, name, input_ = arguments
    node = getattr(me, "node", None)
    if not isinstance(client, Pid) or not isinstance(ref, Ref) or not isinstance(name, Atom):
        me.stop(BADARG)
        return
    assert isinstance(node, Node)
    serving = find(node, name)
    if serving is None or not serving.offers_nx:
        me.stop(NOPROC)
        return
    me._stop_mode = StopMode.FINISHES
    try:
        request = NxRequest(me, node, client, ref, input_)
    except ValueError as error:
        me.stop((BAD_INPUT, str(error)))
        return
    refused = serving.accept(request)
    if refused is not None:
        me.stop(refused)
