"""The finding of a step: a summary, an explanation, and advice. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from erlmesh.records import field, record

__all__ = ["Finding", "ProbeFailure", "Status", "failed", "note", "ok", "skipped"]


class Status(Enum):
    """How a step ended."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, but it does not prevent the connection."""
    FAILED = "failed"
    SKIPPED = "skipped"


class ProbeFailure(Enum):
    """Why a host, port or service could not be reached."""

    REFUSED = "refused"
    """The host answered that nothing listens on the port, or its firewall rejected the connection."""
    NO_RESPONSE = "no_response"
    """No data arrived: packets are dropped, or the listening process does not answer."""
    UNREACHABLE = "unreachable"
    """There is no route to the address."""
    CLOSED = "closed"
    """The other side closed the connection without sending data."""
    OTHER_PROTOCOL = "other_protocol"
    """The service on the port speaks another protocol."""


@record(frozen=True)
class Finding:
    """The result of one step.

    ``summary`` is one line. ``explanation`` and ``advice`` are empty if the step is fine. ``facts`` are JSON values for
    programs; their keys are a public interface of ``erlmesh doctor --json``.
    """

    step: str
    status: Status
    summary: str
    explanation: str = ""
    advice: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(step: str, summary: str, **facts: Any) -> Finding:
    return Finding(step, Status.OK, summary, facts=facts)


def note(step: str, summary: str, explanation: str = "", *advice: str, **facts: Any) -> Finding:
    return Finding(step, Status.NOTE, summary, explanation, advice, facts)


def failed(step: str, summary: str, explanation: str, *advice: str, **facts: Any) -> Finding:
    return Finding(step, Status.FAILED, summary, explanation, advice, facts)


def skipped(step: str, summary: str) -> Finding:
    return Finding(step, Status.SKIPPED, summary)
