"""The rows of the table: what is measured, in which unit, and which ratio to the BEAM the native build must reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CPU", "ROWS", "Numbers", "Row", "cpu_key"]

Numbers = dict[str, float]
"""By key of a row, the number of one round. ``cpu_key(key)`` has the CPU time of one operation in microseconds."""

CPU: Final = "cpu"


def cpu_key(key: str) -> str:
    return f"{key} cpu"


@dataclass(frozen=True)
class Row:
    """One row. ``line`` and ``aim`` are ratios to the BEAM of the same run, or the number itself if ``absolute``.

    ``decided_by`` is ``value``, ``cpu`` (only the ratio of CPU times counts) or ``either``: then the line is met if
    one of the two ratios meets it. A rate, or the time of many operations, depends on the speed of both nodes and on
    the load of the machine. The CPU time belongs to the measured node.
    """

    key: str
    label: str
    unit: str
    line: float | None = None
    aim: float | None = None
    more_is_better: bool = False
    absolute: bool = False
    decided_by: str = "value"
    in_chart: bool = False


def _rate(key: str, label: str, line: float | None = None, aim: float | None = None, unit: str = "1/s") -> Row:
    chart = key in _CHART
    return Row(key, label, unit, line, aim, more_is_better=True, decided_by="either", in_chart=chart)


def _time(key: str, label: str, line: float | None = None, aim: float | None = None, unit: str = "µs") -> Row:
    return Row(key, label, unit, line, aim, in_chart=key in _CHART)


def _bulk(key: str, label: str, line: float | None = None, aim: float | None = None) -> Row:
    """The time of many operations, in which both nodes work."""
    return Row(key, label, "ms", line, aim, decided_by="either", in_chart=key in _CHART)


_CHART: Final = frozenset(
    (
        *("received", "sent", "trip1 p50", "trip2 p50", "requests", "calls", "calls from", "erpc coroutine"),
        *("received 1K", "sent 1K", "received 64K", "sent 64K", "join here1", "join there1", "learn", "teach"),
        *("learn one", "gone", "small encode", "small decode"),
    )
)

_MESSAGES: Final = (
    _rate("received", "small messages received", 1.2, 1.5),
    _rate("sent", "small messages sent", 1.8, 2.0),
    _rate("received 1K", "1 KB binaries received", 1.0, 1.2, "MB/s"),
    _rate("sent 1K", "1 KB binaries sent", 1.0, 1.2, "MB/s"),
    _rate("received 64K", "64 KB binaries received", 1.0, 1.1, "MB/s"),
    _rate("sent 64K", "64 KB binaries sent", 1.0, 1.2, "MB/s"),
)
_CALLS: Final = (
    _rate("requests", "requests answered, 100 open, one asker", 1.1),
    _rate("calls", "gen_server calls answered, 100 callers", 1.1, 1.3),
    _rate("calls from", "gen_server calls made, 100 callers", 1.15, 1.4),
    _rate("class calls", "calls answered by a GenServer, 100 callers"),
    _rate("class calls from", "calls made by 100 GenServers"),
    _rate("bare", "message and reply as server, 100 clients"),
    _rate("bare from", "message and reply as client, 100 clients"),
    Row("erpc coroutine", "erpc calls of async functions", "1/s", 1.5, 1.0, True, decided_by=CPU, in_chart=True),
    Row("erpc thread", "erpc calls of plain functions (threads)", "1/s", more_is_better=True),
    Row("erpc loop", "erpc calls of plain functions on the loop", "1/s", 1.5, 1.0, True, decided_by=CPU),
)
_BROADCASTS: Final = (
    _rate("broadcasts received", "broadcasts of Phoenix.PubSub received"),
    _rate("broadcasts sent", "broadcasts of Phoenix.PubSub sent"),
    _rate("serving", "requests to a serving, 100 callers"),
)
_DELIVERIES: Final = (
    Row(
        "acknowledged",
        "messages acknowledged, one outbox, one inbox",
        "1/s",
        40_000,
        more_is_better=True,
        absolute=True,
    ),
    Row("put p50", "from put to the acknowledgement, median", "µs", absolute=True),
    Row("put p99", "from put to the acknowledgement, p99", "µs", absolute=True),
    Row("kept message", "memory per message that an outbox keeps", "bytes", 100, absolute=True),
)
_STATES: Final = (
    Row(
        "replicated",
        "messages acknowledged by shards with a backup",
        "1/s",
        20_000,
        more_is_better=True,
        absolute=True,
    ),
    Row("moved from", "loop held while 100,000 tuples move away, at most", "ms", 20, absolute=True),
    Row("moved to", "loop held while 100,000 tuples move here, at most", "ms", 20, absolute=True),
)
_LATENCY: Final = (
    _time("trip1 p50", "round trip, one core, median", 1.1, 0.75),
    _time("trip1 p99", "round trip, one core, p99", 1.3, 1.0),
    _time("trip2 p50", "round trip, two cores, median", 1.2, 1.0),
    _time("trip2 p99", "round trip, two cores, p99"),
)
_ENCRYPTED: Final = (
    _rate("tls received", "small messages received over TLS"),
    _rate("tls sent", "small messages sent over TLS"),
    _rate("tls received 64K", "64 KB binaries received over TLS", unit="MB/s"),
    _rate("tls sent 64K", "64 KB binaries sent over TLS", unit="MB/s"),
    _time("tls trip2 p50", "round trip over TLS, two cores, median"),
    _time("tls trip2 p99", "round trip over TLS, two cores, p99"),
)
_JOINS: Final = (
    _time("join here1", "a BEAM's join seen here, one core", 1.6, 1.0),
    _time("join here2", "a BEAM's join seen here, two cores"),
    _time("join there1", "a join seen by a BEAM, one core", 1.6, 1.0),
    _time("join there2", "a join seen by a BEAM, two cores"),
)
_MEMBERSHIPS: Final = (
    _bulk("learn", "100,000 memberships learnt, 10,000 groups", 0.6, 0.4),
    _bulk("teach", "100,000 memberships taught, 10,000 groups", 1.1, 0.9),
    _bulk("learn one", "100,000 memberships learnt, one group", 1.0, 0.7),
    Row("memory one", "memory per membership, one group", "bytes", 100, 80, absolute=True),
    _bulk("learn many", "100,000 memberships learnt, 100,000 groups"),
    Row("memory many", "memory per membership, 100,000 groups", "bytes", 500, 400, absolute=True),
    Row("joins", "10,000 joins to one group, one by one", "1/s", more_is_better=True),
    _bulk("gone", "10,000 members gone after kill -9", 1.0, 0.7),
)
TERMS: Final[Mapping[str, tuple[str, int]]] = {
    "small": ("a small tuple", 1000),
    "integers": ("1,000 integers", 20),
    "maps": ("1,000 maps of 5 keys", 1),
    "binary": ("a 64 KB binary", 200),
    "pids": ("1,000 pids", 20),
}
"""The terms of the codec rows: label and how often each is encoded in one attempt."""


def _codec_rows() -> list[Row]:
    rows = []
    for term, (label, _) in TERMS.items():
        decode_line = 2.5 if term == "integers" else 1.2
        rows.append(_time(f"{term} encode", f"encode {label}", 1.2, 1.0, "ns"))
        rows.append(_time(f"{term} decode", f"decode {label}", decode_line, 1.0, "ns"))
    return rows


_PROCESS: Final = (
    _time("start", "start of a process with a node", unit="ms"),
    Row("import", "import of the library, CPU time", "ms", 55, 45, absolute=True),
    Row("idle memory", "memory of an idle, connected node", "MB", 28, absolute=True),
    Row("idle cpu", "processor time of an idle node", "%", 1.0),
)

_SYNCHRONOUS: Final = (
    Row("sync 1", "synchronous calls, 1 thread, over erldistpy", "×", 1.0, 1.2, True, absolute=True),
    Row("sync 16", "synchronous calls, 16 threads, over erldistpy", "×", 1.0, 1.2, True, absolute=True),
)

ROWS: Final = [
    *_MESSAGES,
    *_CALLS,
    *_BROADCASTS,
    *_DELIVERIES,
    *_STATES,
    Row("takeover", "kill -9 until each of 64 shards is held again", "ms", 2.0, 1.0),
    *_LATENCY,
    *_ENCRYPTED,
    *_JOINS,
    *_MEMBERSHIPS,
    *_codec_rows(),
    *_SYNCHRONOUS,
    *_PROCESS,
]
