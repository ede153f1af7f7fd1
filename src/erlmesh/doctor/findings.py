"""What a step found: a sentence, what it means, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["Finding", "ProbeFailure", "Status", "failed", "note", "ok", "skipped"]


class Status(Enum):
    """How a step ended."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, and no obstacle to the connection."""
    FAILED = "failed"
    SKIPPED = "skipped"


class ProbeFailure(Enum):
    """Why somebody could not be talked to."""

    REFUSED = "refused"
    """That machine is there, and says that nobody listens (or its firewall says so)."""
    NO_RESPONSE = "no_response"
    """Nothing comes back: dropped on the way, or taken by somebody who does not answer."""
    UNREACHABLE = "unreachable"
    """There is no way to that address."""
    CLOSED = "closed"
    """Whoever it is closed the connection without a word."""
    OTHER_PROTOCOL = "other_protocol"
    """It speaks another language."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``says`` is one line; ``means`` and ``advice`` are for those that are not fine; ``facts`` are JSON values."""

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
