"""Spans for the calls of a node, with the API of OpenTelemetry.

A call makes a span here, and one in the node that answers. The context goes with the call in its trace token
(:mod:`erlmesh.core.trace_tokens`). A BEAM gives a token that it gets on to the messages of the process that gets it. So
a token is sent only to nodes that have said that they make traces, with ``{traces, Node}`` to their process
``erlmesh``. No other node has that process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from erlmesh.core.trace_tokens import call_ref, context_of, make_token, sequence_of
from erlmesh.proto.control import Send, SendName, Signal
from erlmesh.services.metrics.call_durations import outcome_of
from erlmesh.services.tracing.spans import OpenTelemetry, request_name, span_name
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import foreign_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from erlmesh.runtime.runtime import Runtime

__all__ = ["MAX_CALLS", "NodeTraces"]

MAX_CALLS: Final = 10_000
"""Calls that wait for an answer whose contexts are kept. Of older ones, the context is lost."""


class NodeTraces:
    """Makes spans for one node until :meth:`close`. It is a ``CallObserver`` and the ``Tracer`` of the node."""

    def __init__(self, runtime: Runtime, api: OpenTelemetry) -> None:
        """The event loop of the node calls this, while the node runs."""
        self._runtime = runtime
        self._api = api
        self._node = foreign_text(runtime.name)
        self._calls: OrderedDict[Ref, Term] = OrderedDict()
        """The tokens of calls that have arrived, or that go to a process of this node."""
        self._counters = runtime.state.counters
        self._counters.calls = self._counters.tracer = self
        runtime.announce_traces()

    def close(self) -> None:
        """Make no more spans. Other nodes may still send contexts, which are ignored."""
        if self._counters.tracer is self:
            self._counters.calls = self._counters.tracer = None

    # Calls of this node

    def outgoing(self, kind: str, target: object, name: object) -> OutgoingCall:
        """See ``CallObserver``."""
        return OutgoingCall(self, kind, target, name)

    def token_for(self, node: Atom, ref: Ref | None) -> Term | None:
        """Return the token with the current context for a call to ``node``; None if nothing is to be sent.

        The context of a call to this node is kept under its reference.
        """
        is_local = node is self._runtime.atom
        if not is_local and node not in self._counters.tracing_peers:
            return None
        token = make_token(self._runtime.pid, self._api.inject())
        if is_local and ref is not None and token is not None:
            self._keep(ref, token)
        return None if is_local else token

    # Calls of other processes

    def received(self, signals: Sequence[Signal]) -> None:
        """Keep the tokens of calls among the signals of a read."""
        for signal in signals:
            if isinstance(signal, (Send, SendName)) and signal.token is not None:
                ref = call_ref(signal.message)
                if ref is not None:
                    self._keep(ref, signal.token)

    def _keep(self, ref: Ref, token: Term) -> None:
        self._calls[ref] = token
        if len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)

    def context_of_token(self, token: Term) -> AbstractContextManager[object]:
        """Make the context of ``token`` the current one, in which processes start and handlers run."""
        return self._api.current(self._api.extract(context_of(token)))

    def context_of_message(self, message: Term) -> AbstractContextManager[object]:
        """Do the same for the call in a message, if it has a token."""
        ref = call_ref(message)
        token = None if ref is None else self._calls.get(ref)
        return self.context_of_token(token)

    @contextmanager
    def serving(self, server: str, request: Term, caller: Term) -> Iterator[None]:
        """A span for a call that a GenServer handles."""
        ref = call_ref((Atom("$gen_call"), caller, request))
        token = None if ref is None else self._calls.pop(ref, None)
        attributes = {
            "rpc.system": "erlang",
            "rpc.service": server,
            "rpc.method": request_name(request),
            "erlmesh.node": self._node,
            "erlmesh.peer": _node_of(caller),
            **_sequence(token),
        }
        parent = self._api.extract(context_of(token))
        with self._api.span(f"{server}.handle_call", "server", attributes, parent) as span:
            try:
                yield
            except BaseException as error:
                self._api.fail(span, outcome_of(type(error)), error)
                raise

    def start_function(self, kind: str, function: str, peer: Pid | None) -> Any:
        """Start the span of an exposed function, in the context of its process, and make it the current one there.

        Call :meth:`end_function` with the result. The process has a context of its own, which ends with it.
        """
        attributes = {
            "rpc.system": "erlang",
            "rpc.service": kind,
            "rpc.method": foreign_text(function),
            "erlmesh.node": self._node,
            "erlmesh.peer": "" if peer is None else foreign_text(peer.node),
        }
        return self._api.start_current(foreign_text(function), attributes)

    def end_function(self, span: Any, outcome: str) -> None:
        """End the span of an exposed function. ``outcome`` is ``return``, ``throw``, ``exit`` or ``error``."""
        if outcome in ("error", "exit"):
            self._api.fail(span, outcome, None)
        span.end()


class OutgoingCall:
    """The span of a call of this node, as a context manager."""

    __slots__ = ("_active", "_span", "_traces", "kind", "name", "target")

    def __init__(self, traces: NodeTraces, kind: str, target: object, name: object) -> None:
        self._traces = traces
        self.kind, self.target, self.name = kind, target, name

    def __enter__(self) -> Self:
        traces = self._traces
        attributes = {
            "rpc.system": "erlang",
            "rpc.service": self.kind,
            "rpc.method": request_name(self.name),
            "erlmesh.node": traces._node,
            "erlmesh.peer": _node_of(self.target) or traces._node,
        }
        self._active = traces._api.span(span_name(self.kind, self.target, self.name), "client", attributes, None)
        self._span = self._active.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self._traces._api.fail(self._span, outcome_of(kind), error)
        self._active.__exit__(None, None, None)

    def token_for(self, node: Atom, ref: Ref | None) -> Term | None:
        """See :meth:`NodeTraces.token_for`."""
        return self._traces.token_for(node, ref)


def _node_of(target: object) -> str:
    """The node of a destination, or of a caller, as text; empty for a name on this node."""
    match target:
        case Pid() | Ref():
            return foreign_text(target.node)
        case (Pid() as pid, _):
            return foreign_text(pid.node)
        case (_, node):
            return foreign_text(node)
        case Atom() if "@" in target.name:
            return foreign_text(target)
    return ""


def _sequence(token: Term) -> dict[str, str | int]:
    """The attributes of a sequential trace of Erlang that carries no context."""
    found = None if context_of(token) else sequence_of(token)
    if found is None:
        return {}
    label, serial = found
    return {"erlang.seq_trace.label": foreign_text(label), "erlang.seq_trace.serial": serial}
