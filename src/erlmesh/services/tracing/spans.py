"""What erlmesh uses of OpenTelemetry's API, and the names of its spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from erlmesh.terms import Atom, Term
from erlmesh.terms.foreign_text import foreign_text
from erlmesh.version import __version__

__all__ = ["OpenTelemetry", "request_name", "span_name"]


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
        self._tracer = trace.get_tracer("erlmesh", __version__, tracer_provider)

    def inject(self) -> dict[str, str]:
        """Return the current context, as the propagator of the program writes it."""
        carrier: dict[str, str] = {}
        self._propagate.inject(carrier)
        return carrier

    def extract(self, carrier: Mapping[str, str]) -> Any:
        """Return the context in ``carrier`` and nothing else: an empty one if there is none.

        What a connection brings runs in a copy of the context in which the connection was made. A span of that time
        must not be the parent of it.
        """
        return self._propagate.extract(carrier, self._context.Context())

    @contextmanager
    def current(self, context: Any) -> Iterator[None]:
        """Make ``context`` the current one for a block that does not wait."""
        token = self._context.attach(context)
        try:
            yield
        finally:
            self._context.detach(token)

    def span(
        self, name: str, kind: str, attributes: Mapping[str, str | int], parent: Any
    ) -> AbstractContextManager[Any]:
        """A span that is current within the block. ``parent`` is a context; None is the current one.

        An exception ends the span and is not recorded: its text may quote what another node has sent.
        """
        started: AbstractContextManager[Any] = self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=self._trace.SpanKind[kind.upper()],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        )
        return started

    def start_current(self, name: str, attributes: Mapping[str, str | int]) -> Any:
        """Start a server span and make it current, until the ``contextvars`` context of this code ends."""
        span = self._tracer.start_span(name, kind=self._trace.SpanKind.SERVER, attributes=attributes)
        self._context.attach(self._trace.set_span_in_context(span))
        return span

    def fail(self, span: Any, outcome: str, error: BaseException | None) -> None:
        """Say that the call of ``span`` has failed, and how."""
        text = None if error is None else foreign_text(error)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, text))
        span.set_attribute("error.type", outcome)


def span_name(kind: str, target: object, name: object) -> str:
    """The name of the span of a call. It names functions and registered names, never single processes."""
    match kind, target, name:
        case "rpc" | "spawn", _, (Atom() as module, Atom() as function, list() as arguments):
            prefix = "" if kind == "rpc" else "spawn "
            return prefix + foreign_text(f"{module.name}:{function.name}/{len(arguments)}")
        case _, (registered, _), _:
            return f"call {foreign_text(registered)}"
        case _, Atom() | str(), _:
            return f"call {foreign_text(target)}"
    return "call"


def request_name(request: Term) -> str:
    """What a request asks for: an atom, or the first element of a tuple if that is one. Arguments are not shown."""
    match request:
        case (Atom() as module, Atom() as function, list() as arguments):
            return foreign_text(f"{module.name}:{function.name}/{len(arguments)}")
        case Atom() | (Atom(), *_):
            return foreign_text(request if isinstance(request, Atom) else request[0])
    return ""
