"""The processes of one node as an observer has asked for them, and what has changed between two answers."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from erlmesh.core.cluster_view.texts import pid_text, plain_text
from erlmesh.records import field, record
from erlmesh.terms import Atom, Pid, Term

__all__ = ["MAX_PROCESSES", "ProcessRow", "ProcessSample", "beam_row", "etop_row", "function_text", "sample"]

MAX_PROCESSES: Final = 5000
"""Processes of one answer that are looked at."""
KEPT: Final = 200
"""Processes that are kept for each order: the longest mailboxes, the most memory, the most reductions."""


@record(frozen=True)
class ProcessRow:
    """One process. Texts are printable. ``None`` is: not known."""

    pid: str
    name: str | None
    body: str
    """The function that it started with."""
    waits_in: str
    messages: int
    memory: int | None
    reductions: int | None
    """Since its start. A process of Python counts none."""
    rate: float | None = None
    """Reductions per second since the sample before."""


@record
class ProcessSample:
    """What one node has answered. ``time`` is on the observer's clock."""

    time: float
    count: int
    rows: list[ProcessRow]
    cpu_ms: int | None = None
    """Milliseconds of processor time since the node has started."""
    cpu: float | None = None
    """Percent of one processor since the sample before."""
    reductions: dict[str, int] = field(default_factory=dict)
    """Of all processes, for the next sample."""


def sample(
    before: ProcessSample | None, time: float, count: int, rows: Iterable[ProcessRow | None], cpu_ms: int | None
) -> ProcessSample:
    """Return the sample of ``rows`` at ``time``, with the rates since ``before``. It keeps the rows that stand out."""
    elapsed = 0.0 if before is None else time - before.time
    known = [row for row in islice(rows, MAX_PROCESSES) if row is not None]
    if before is not None and elapsed > 0:
        known = [_with_rate(row, before.reductions.get(row.pid), elapsed) for row in known]
    cpu = None
    if before is not None and elapsed > 0 and cpu_ms is not None and before.cpu_ms is not None:
        cpu = round(max(0, cpu_ms - before.cpu_ms) / elapsed / 10, 1)
    reductions = {row.pid: row.reductions for row in known if row.reductions is not None}
    return ProcessSample(time, count, _outstanding(known), cpu_ms, cpu, reductions)


def _with_rate(row: ProcessRow, before: int | None, elapsed: float) -> ProcessRow:
    if before is None or row.reductions is None:
        return row
    rate = round(max(0, row.reductions - before) / elapsed, 1)
    return ProcessRow(row.pid, row.name, row.body, row.waits_in, row.messages, row.memory, row.reductions, rate)


def _outstanding(rows: list[ProcessRow]) -> list[ProcessRow]:
    orders: tuple[Callable[[ProcessRow], float], ...] = (
        lambda row: row.messages, lambda row: row.memory or 0, lambda row: row.rate or 0,
    )  # fmt: skip
    found = {row.pid: row for order in orders for row in heapq.nlargest(KEPT, rows, key=order)}
    return list(found.values())


def etop_row(row: Term) -> ProcessRow | None:
    """Return the row of ``#etop_proc_info{}``, as a node of Python answers; None for anything else."""
    match row:
        case (Atom("etop_proc_info"), Pid() as pid, memory, _, name, _, current, int() as messages):
            registered = plain_text(name.name) if isinstance(name, Atom) else None
            body = "" if registered is not None else function_text(name)
            return ProcessRow(pid_text(pid), registered, body, function_text(current), messages, _count(memory), None)
    return None


def beam_row(pid: Term, items: Term) -> ProcessRow | None:
    """Return the row of what ``process_info/2`` answers for the items of ``process_poll``; None if it has ended."""
    if not isinstance(pid, Pid) or not isinstance(items, list):
        return None
    found = {
        each[0].name: each[1] for each in items if type(each) is tuple and len(each) == 2 and type(each[0]) is Atom
    }
    name, messages = found.get("registered_name"), found.get("message_queue_len")
    return ProcessRow(
        pid_text(pid),
        plain_text(name.name) if isinstance(name, Atom) else None,
        function_text(found.get("initial_call")),
        function_text(found.get("current_function")),
        messages if type(messages) is int and messages >= 0 else 0,
        _count(found.get("memory")),
        _count(found.get("reductions")),
    )


def function_text(mfa: Term) -> str:
    """Return ``module:function/arity``; an empty text for anything else."""
    match mfa:
        case (Atom() as module, Atom() as function, int() as arity):
            return plain_text(f"{module.name}:{function.name}/{arity}")
    return ""


def _count(value: Term) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 63 else None
