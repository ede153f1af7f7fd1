"""Spans for the calls of a node, with the API of OpenTelemetry.

A call makes a span here, and one in the node that answers. The context goes with the call in its trace token
(:mod:`erlmesh.core.trace_tokens`). A BEAM gives a token that it gets on to the messages of the process that gets it. So
a token is sent only to nodes that have said that they make traces. They send to the process ``erlmesh``, which nodes of
other kinds do not have::

    {traces, Node}         this node makes traces from now on
    {no_traces, Node}      it makes none any more

A call without a token from a node that makes traces is one that its sampler has dropped. It makes no span here. So a
call that is not sampled takes the same path as one without traces.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Self

from erlmesh.core.trace_tokens import call_ref, context_of, is_cast, make_token, reply_ref, sequence_of
from erlmesh.proto.control import Send, SendName, Signal
from erlmesh.services.tracing.spans import (
    Block,
    LazyAttributes,
    OpenTelemetry,
    SpanBlock,
    SpanState,
    request_name,
    span_name,
)
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import foreign_text

if TYPE_CHECKING:
    from erlmesh.core.node_counters import TracedCall
    from erlmesh.runtime.runtime import Runtime

__all__ = ["MAX_CALLS", "NodeTraces"]

MAX_CALLS: Final = 10_000
"""Calls that wait for an answer whose contexts are kept. Of older ones, the context is lost."""
MAX_CASTS: Final = 1000
"""Casts that no GenServer has handled yet. Their messages are kept, so there are fewer."""
_NOT_TRACED: Final[AbstractContextManager[None]] = nullcontext()


class NodeTraces:
    """Makes spans for one node until :meth:`close`. It is a ``CallObserver`` and the ``Tracer`` of the node.

    A call below a span that is not sampled makes no span. With ``start_traces`` false, neither does a call without a
    span above it. So both cost little.
    """

    def __init__(self, runtime: Runtime, api: OpenTelemetry, *, start_traces: bool = True) -> None:
        """The event loop of the node calls this, while the node runs."""
        self._runtime = runtime
        self._api = api
        self._start_traces = start_traces
        self._node = foreign_text(runtime.name)
        self._calls: OrderedDict[Ref, Any] = OrderedDict()
        """By reference: the tokens of calls that have arrived, and the contexts of those to a process of this node."""
        self._casts: OrderedDict[int, tuple[Term, Any]] = OrderedDict()
        """Casts that no GenServer has handled yet, by the identity of the message, each with its token or context."""
        self._last_token: tuple[Any, Term] = (None, None)
        """The last context that was sent, and its token. A span often makes several calls."""
        self._last_carrier: tuple[dict[str, str], Any] = ({}, api.empty)
        """The same for what arrives."""
        self._without_span = CallWithoutSpan(self)
        self._counters = runtime.state.counters
        self._counters.calls = self._counters.tracer = self
        runtime.announce_traces(on=True)

    def close(self) -> None:
        """Make no more spans. Other nodes may still send contexts for a moment, which are ignored."""
        if self._counters.tracer is self:
            self._counters.calls = self._counters.tracer = None
            if not self._runtime.is_stopping:
                self._runtime.announce_traces(on=False)

    # Calls of this node

    def outgoing(self, kind: str, target: object, name: object) -> AbstractContextManager[TracedCall] | None:
        """See ``CallObserver``."""
        state = self._api.state(None)
        if state is SpanState.DROPPED:
            return self._without_span
        if state is SpanState.NONE and not self._start_traces:
            return None
        return OutgoingCall(self, kind, target, name)

    def token_for(self, node: Atom, ref: Ref | None) -> Term | None:
        """Return the token with the current context for a call to ``node``; None if nothing is to be sent.

        The context of a call to this node is kept under its reference.
        """
        if node is self._runtime.atom:
            if ref is not None:
                self._keep(ref, self._api.current())
            return None
        return self._token_of(self._api.current()) if node in self._counters.tracing_peers else None

    def _token_of(self, context: Any) -> Term:
        if context is not self._last_token[0]:
            self._last_token = context, make_token(self._runtime.pid, self._api.inject(context))
        return self._last_token[1]

    # Calls of other processes

    def received(self, signals: Sequence[Signal]) -> None:
        """Keep the tokens of calls among the signals of a read."""
        for signal in signals:
            if isinstance(signal, (Send, SendName)) and signal.token is not None:
                ref = call_ref(signal.message)
                if ref is not None:
                    self._keep(ref, signal.token)
                elif is_cast(signal.message):
                    self.keep_cast(signal.message, signal.token)

    # Casts

    def context_for(self, node: Atom) -> Any:
        """See ``CallObserver``. A cast outside of a trace carries nothing."""
        if self._api.state(None) is SpanState.NONE:
            return None
        context = self._api.current()
        if node is self._runtime.atom:
            return context
        return self._token_of(context) if node in self._counters.tracing_peers else None

    def keep_cast(self, message: Term, context: Any) -> None:
        """Keep the token or the context of a cast until a GenServer handles it."""
        self._casts[id(message)] = message, context
        if len(self._casts) > MAX_CASTS:
            self._casts.popitem(last=False)

    def serving_cast(self, server: str, message: Term) -> AbstractContextManager[None]:
        """A span for a cast that a GenServer handles, if it came with a context."""
        found = self._casts.pop(id(message), None)
        if found is None:
            return _NOT_TRACED
        context = self._context_of(found[1])
        if not self._makes_span(context):
            return Block(self._api, context)
        attributes = LazyAttributes(self._cast_attributes, server, message, found[1])
        span = self._api.start(f"{server}.handle_cast", self._api.consumer, attributes, context)
        return SpanBlock(self._api, span, context)

    def _cast_attributes(self, server: str, message: tuple[Term, Term], kept: Any) -> dict[str, str | int]:
        return {
            "messaging.system": "erlang",
            "messaging.operation.name": request_name(message[1]),
            "messaging.destination.name": server,
            "erlmesh.node": self._node,
            **_sequence(kept),
        }

    def _keep(self, ref: Ref, kept: Any) -> None:
        self._calls[ref] = kept
        if len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)

    def context_of_token(self, token: Term) -> AbstractContextManager[None]:
        """Make the context of ``token`` the current one, in which processes start and handlers run."""
        return Block(self._api, self._context_of(token))

    def context_of_message(self, message: Term) -> AbstractContextManager[None]:
        """Do the same for the call in a message, if it has a token."""
        ref = call_ref(message)
        return self.context_of_token(None if ref is None else self._calls.get(ref))

    def _context_of(self, kept: Any) -> Any:
        """The context of what is kept for a call: a token, a context, or None."""
        if kept is None:
            return self._api.empty
        if self._api.is_context(kept):
            return kept
        carrier = context_of(kept)
        if carrier != self._last_carrier[0]:
            self._last_carrier = carrier, self._api.extract(carrier)
        return self._last_carrier[1]

    def _makes_span(self, context: Any) -> bool:
        """Whether a call that comes with this context makes a span."""
        state = self._api.state(context)
        return state is SpanState.SAMPLED or (state is SpanState.NONE and self._start_traces)

    def _is_dropped_by(self, caller: Term) -> bool:
        """Whether the node of a caller makes traces. Then a call without a token is one that it does not trace.

        If this node starts no traces anyway, there is nothing to prevent.
        """
        return self._start_traces and isinstance(caller, Pid) and caller.node in self._counters.tracing_peers

    def serving(self, server: str, request: Term, caller: Term) -> AbstractContextManager[None]:
        """A span for a call that a GenServer handles."""
        ref = reply_ref(caller)
        kept = None if ref is None else self._calls.pop(ref, None)
        context = self._context_of(kept)
        if kept is None and self._is_dropped_by(caller[0] if isinstance(caller, tuple) and caller else None):
            context = self._api.dropped()
        if not self._makes_span(context):
            return Block(self._api, context) if context or self._api.current() else _NOT_TRACED
        attributes = LazyAttributes(self._server_attributes, server, request, caller, kept)
        span = self._api.start(f"{server}.handle_call", self._api.server, attributes, context)
        return SpanBlock(self._api, span, context)

    def _server_attributes(self, server: str, request: Term, caller: Term, kept: Any) -> dict[str, str | int]:
        return {
            "rpc.system": "erlang",
            "rpc.service": server,
            "rpc.method": request_name(request),
            "erlmesh.node": self._node,
            "erlmesh.peer": _node_of(caller),
            **_sequence(kept),
        }

    def start_function(self, kind: str, function: str, peer: Pid | None) -> Any:
        """Start the span of an exposed function, in the context of its process, and make it the current one there.

        Call :meth:`end_function` with the result. The process has a context of its own, which ends with it. None if
        the call makes no span.
        """
        if not self._makes_span(None):
            return None
        if self._is_dropped_by(peer) and self._api.state(None) is SpanState.NONE:
            self._api.attach(self._api.dropped())
            return None
        attributes = {
            "rpc.system": "erlang",
            "rpc.service": kind,
            "rpc.method": foreign_text(function),
            "erlmesh.node": self._node,
            "erlmesh.peer": "" if peer is None else foreign_text(peer.node),
        }
        span = self._api.start(foreign_text(function), self._api.server, attributes, None)
        self._api.attach(self._api.within(span, None))
        return span

    def end_function(self, span: Any, outcome: str) -> None:
        """End the span of an exposed function. ``outcome`` is ``return``, ``throw``, ``exit`` or ``error``."""
        if outcome in ("error", "exit"):
            self._api.fail(span, outcome, None)
        span.end()


class CallWithoutSpan:
    """A call of this node below a span that is not sampled. The context goes with it, so others record nothing."""

    __slots__ = ("_traces",)

    def __init__(self, traces: NodeTraces) -> None:
        self._traces = traces

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        pass

    def token_for(self, node: Atom, ref: Ref | None) -> Term | None:
        """See :meth:`NodeTraces.token_for`."""
        return self._traces.token_for(node, ref)


class OutgoingCall(CallWithoutSpan):
    """The span of a call of this node, as a context manager."""

    __slots__ = ("_block", "_is_alone", "kind", "name", "target")

    def __init__(self, traces: NodeTraces, kind: str, target: object, name: object) -> None:
        self._traces = traces
        self.kind, self.target, self.name = kind, target, name

    def __enter__(self) -> Self:
        api, outer = self._traces._api, self._traces._api.current()
        span = api.start(
            span_name(self.kind, self.target, self.name), api.client, LazyAttributes(self._attributes), outer
        )
        # Then a token would carry nothing but an identifier that is used nowhere.
        self._is_alone = not outer and not api.is_sampled(span)
        self._block = SpanBlock(api, span, outer)
        self._block.__enter__()
        return self

    def token_for(self, node: Atom, ref: Ref | None) -> Term | None:
        """See :meth:`NodeTraces.token_for`. A root that is not sampled sends nothing, which says so."""
        if self._is_alone and node is not self._traces._runtime.atom:
            return None
        return self._traces.token_for(node, ref)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._block.__exit__(kind, error, trace)

    def _attributes(self) -> dict[str, str | int]:
        return {
            "rpc.system": "erlang",
            "rpc.service": self.kind,
            "rpc.method": request_name(self.name),
            "erlmesh.node": self._traces._node,
            "erlmesh.peer": _node_of(self.target) or self._traces._node,
        }


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
