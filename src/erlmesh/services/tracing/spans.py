"""What erlmesh uses of OpenTelemetry's API, and the names of its spans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from random import getrandbits
from typing import Any

from erlmesh.services.metrics.call_durations import outcome_of
from erlmesh.terms import Atom, Term
from erlmesh.terms.foreign_text import foreign_text
from erlmesh.version import __version__

__all__ = ["Block", "LazyAttributes", "OpenTelemetry", "SpanBlock", "SpanState", "request_name", "span_name"]


class SpanState(Enum):
    """What a call finds as the current span."""

    NONE = "none"
    DROPPED = "dropped"
    """A sampler has decided that the trace is not recorded. A call makes no span, and hands the context on."""
    SAMPLED = "sampled"


class LazyAttributes(Mapping[str, "str | int"]):
    """The attributes of a span. They are made when something reads them: a sampler that drops the span does not."""

    __slots__ = ("_arguments", "_found", "_make")

    def __init__(self, make: Callable[..., dict[str, str | int]], *arguments: object) -> None:
        self._make, self._arguments = make, arguments
        self._found: dict[str, str | int] | None = None

    def _all(self) -> dict[str, str | int]:
        if self._found is None:
            self._found = self._make(*self._arguments)
        return self._found

    def __getitem__(self, key: str) -> str | int:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


class Block:
    """A context that is the current one within a block. Its value is None."""

    __slots__ = ("_api", "_context", "_token")

    def __init__(self, api: OpenTelemetry, context: Any) -> None:
        self._api, self._context = api, context

    def __enter__(self) -> None:
        self._token = self._api.attach(self._context)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._api.detach(self._token)


class SpanBlock(Block):
    """A span that is the current one within a block, and ends with it. An exception makes it a failed one.

    The exception itself is not recorded: its text may quote what another node has sent.
    """

    __slots__ = ("_span",)

    def __init__(self, api: OpenTelemetry, span: Any, parent: Any) -> None:
        super().__init__(api, api.within(span, parent))
        self._span = span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._api.detach(self._token)
        if kind is not None:
            self._api.fail(self._span, outcome_of(kind), error)
        self._span.end()


class OpenTelemetry:
    """The API, with the tracer of one provider. Raises ImportError if the package is not installed."""

    def __init__(self, tracer_provider: Any = None) -> None:
        try:
            from opentelemetry import context, propagate, trace  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ImportError(
                "node.traces() needs the package opentelemetry-api: pip install 'erlmesh[otel]'"
            ) from error
        self._context, self._propagate, self._trace = context, propagate, trace
        self.client, self.server, self.consumer = (
            trace.SpanKind.CLIENT,
            trace.SpanKind.SERVER,
            trace.SpanKind.CONSUMER,
        )
        self.current, self.attach, self.detach = context.get_current, context.attach, context.detach
        self.empty = context.Context()
        """A context without a span."""
        self._tracer = trace.get_tracer("erlmesh", __version__, tracer_provider)

    def is_context(self, value: object) -> bool:
        """Whether ``value`` is a context, not a term."""
        return isinstance(value, self._context.Context)

    def inject(self, context: Any) -> dict[str, str]:
        """Return ``context``, as the propagator of the program writes it."""
        carrier: dict[str, str] = {}
        self._propagate.inject(carrier, context)
        return carrier

    def extract(self, carrier: Mapping[str, str]) -> Any:
        """Return the context in ``carrier`` and nothing else: an empty one if there is none.

        What a connection brings runs in a copy of the context in which the connection was made. A span of that time
        must not be the parent of it.
        """
        return self._propagate.extract(carrier, self.empty) if carrier else self.empty

    def state(self, context: Any) -> SpanState:
        """What the span of ``context`` means for the spans below it. It is asked for each call, so it is quick."""
        span = self._trace.get_current_span(context)
        found = span.get_span_context()
        if not found.is_valid:
            return SpanState.NONE
        return SpanState.SAMPLED if found.trace_flags & 1 or span.is_recording() else SpanState.DROPPED

    def is_sampled(self, span: Any) -> bool:
        """Whether calls below this span make spans."""
        return bool(span.get_span_context().trace_flags & 1) or span.is_recording()

    def dropped(self) -> Any:
        """Return a context of a new trace that is not sampled."""
        trace = self._trace
        identifiers = trace.SpanContext(getrandbits(128) or 1, getrandbits(64) or 1, False)
        return trace.set_span_in_context(trace.NonRecordingSpan(identifiers), self.empty)

    def start(self, name: str, kind: Any, attributes: Mapping[str, str | int], parent: Any) -> Any:
        """Start a span below the one in the context ``parent``. It is not the current one."""
        return self._tracer.start_span(name, parent, kind, attributes, record_exception=False)

    def within(self, span: Any, context: Any) -> Any:
        """Return ``context`` with this span in it."""
        return self._trace.set_span_in_context(span, context)

    def fail(self, span: Any, outcome: str, error: BaseException | None) -> None:
        """Say that the call of ``span`` has failed, and how."""
        text = None if error is None else foreign_text(error)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, text))
        span.set_attribute("error.type", outcome)


def span_name(kind: str, target: object, name: object) -> str:
    """The name of the span of a call. It names functions and registered names, never single processes."""
    match kind, target, name:
        case "rpc" | "spawn", _, (Atom() as module, Atom() as function, list() as arguments):
            text = _function_text(module, function, len(arguments))
            return text if kind == "rpc" else f"spawn {text}"
        case _, (Atom() | str() as registered, _), _:
            return _call_text(registered)
        case _, Atom() | str(), _:
            return _call_text(target)
    return "call"


def request_name(request: Term) -> str:
    """What a request asks for: an atom, or the first element of a tuple if that is one. Arguments are not shown."""
    match request:
        case (Atom() as module, Atom() as function, list() as arguments):
            return _function_text(module, function, len(arguments))
        case Atom() | (Atom(), *_):
            return foreign_text(request if isinstance(request, Atom) else request[0])
    return ""


@lru_cache(maxsize=256)
def _call_text(registered: Atom | str) -> str:
    return f"call {foreign_text(registered)}"


@lru_cache(maxsize=256)
def _function_text(module: Atom, function: Atom, arity: int) -> str:
    return foreign_text(f"{module.name}:{function.name}/{arity}")
