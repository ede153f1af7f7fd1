"""What a node counts from its start on, for metrics. No I/O.

Counters of a connection are in the connection, which counts reads and writes. This module keeps their sums after the
connection has ended. Nothing here is called for a message.

A peer has a label of its own, so that each has a time series. A cluster may have any number of peers, also under new
names each day. So the number of labels is bounded. The rest shares one::

    visible peer, or one that this node has dialled     its own label, while there are free ones
    ... without a free label                            ``other``
    hidden peer that has connected to this node         ``hidden``: mostly tools that end soon

If no label is free, the peer that has been gone for longest loses its label. Its sums go to ``other``. A connection
keeps its label until it ends. So the sums under one label never decrease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Protocol

    from erlmesh.proto.control import Signal
    from erlmesh.terms import Atom, Pid, Ref, Term

    class CallObserver(Protocol):
        """What is told of the calls of a node, for traces."""

        def outgoing(self, kind: str, target: object, name: object) -> AbstractContextManager[TracedCall] | None:
            """A call to ``target`` begins. The context ends with it. It gets the exception of a call that fails.

            ``kind`` is ``call`` (a request of ``gen``), ``rpc`` or ``spawn``. ``name`` is what is called: a term. The
            result is None if the call is not traced.
            """

        def context_for(self, node: Atom) -> Any:
            """Return what carries the current context with a cast to ``node``: a token, or the context on this node.

            None if the cast carries nothing.
            """

        def keep_cast(self, message: Term, context: Any) -> None:
            """A process of this node gets this cast, with what :meth:`context_for` has returned."""

    class CallTimer(Protocol):
        """What counts the durations of calls, for metrics. Most calls only add to a list, which is counted later."""

        calls: list[float]
        """The seconds of calls of this node (``gen_server:call``) that have succeeded."""
        served_calls: list[float]
        """The seconds of calls that a GenServer of this node has answered."""

        def ended(self, kind: str, started: float, failure: type[BaseException] | None) -> None:
            """A call has ended that began at ``started`` (``time.perf_counter``). ``failure`` is None for a value."""

        def served(self, kind: str, started: float, outcome: str) -> None:
            """This node has answered a call that it began to handle at ``started``."""

    class TracedCall(Protocol):
        """A call that may carry the context of a trace."""

        def token_for(self, node: Atom, ref: Ref | None) -> Term | None:
            """Return the trace token for a call to ``node`` under ``ref``; None if it carries none."""

    class Tracer(Protocol):
        """What makes the spans of calls that arrive. See :mod:`erlmesh.services.tracing.node_traces`."""

        def received(self, signals: Sequence[Signal]) -> None:
            """These signals of a read are applied next."""

        def context_of_token(self, token: Term) -> AbstractContextManager[object]:
            """The context in which a process starts whose spawn request has this trace token."""

        def context_of_message(self, message: Term) -> AbstractContextManager[object]:
            """The context in which a handler gets this message."""

        def serving(self, server: str, request: Term, caller: Term) -> AbstractContextManager[None]:
            """A GenServer handles a call within the block."""

        def serving_cast(self, server: str, message: Term) -> AbstractContextManager[None]:
            """A GenServer handles a cast within the block. ``message`` is the object that was delivered."""

        def start_function(self, kind: str, function: str, peer: Pid | None) -> Any:
            """An exposed function is called in the context of its process. Return its span."""

        def end_function(self, span: Any, outcome: str) -> None:
            """That function has returned, or has failed."""


__all__ = ["HIDDEN", "OTHER", "PEER_LABELS", "NodeCounters", "PeerTotals", "word_of"]

PEER_LABELS: Final = 100
"""Peers that have a label of their own."""
OTHER: Final = "other"
HIDDEN: Final = "hidden"
"""Labels of several peers. The name of a node contains ``@``."""
MAX_REASONS: Final = 64
"""Reasons that are counted for one thing. All are words of this node, so there are fewer."""


class PeerTotals:
    """The labels of the peers, and the sums of their connections that have ended.

    ``width`` is the number of counters of a connection.
    """

    def __init__(self, width: int, limit: int = PEER_LABELS) -> None:
        self._width = width
        self._limit = limit
        self._own: dict[str, list[int]] = {}
        """The sums of the peers with a label of their own. A peer that is gone is before those that went later."""
        self._shared: dict[str, list[int]] = {}
        self._connected: dict[str, int] = {}
        """How many connections of each own label there are now."""

    def connected(self, name: str, *, own: bool) -> str:
        """A connection to ``name`` is established. Return its label. ``own`` is false for a hidden peer that called."""
        if not own:
            return HIDDEN
        if name not in self._own and not self._make_room():
            return OTHER
        self._own.setdefault(name, [0] * self._width)
        self._connected[name] = self._connected.get(name, 0) + 1
        return name

    def ended(self, label: str, counts: Sequence[int]) -> None:
        """The connection with this label has ended. Its counters were ``counts``."""
        sums = self._own.get(label)
        if sums is None:
            sums = self._shared.setdefault(label, [0] * self._width)
        else:
            left = self._connected.pop(label, 1) - 1
            if left > 0:
                self._connected[label] = left
            self._own[label] = self._own.pop(label)  # It is now the one that went last.
        _add(sums, counts)

    def sums(self) -> dict[str, list[int]]:
        """Return copies of the sums of the connections that have ended, by label."""
        return {label: [*sums] for table in (self._own, self._shared) for label, sums in table.items()}

    def _make_room(self) -> bool:
        """Return whether a label is free. Take it from the peer that has been gone for longest, if need be."""
        if len(self._own) < self._limit:
            return True
        gone = next((name for name in self._own if name not in self._connected), None)
        if gone is None:
            return False
        _add(self._shared.setdefault(OTHER, [0] * self._width), self._own.pop(gone))
        return True


class NodeCounters:
    """The counters of one incarnation of a node."""

    def __init__(self) -> None:
        self.peers = PeerTotals(6)
        """Bytes in and out, signals in and out, ticks in and out."""
        self.calls: CallObserver | None = None
        """None while traces are off."""
        self.durations: CallTimer | None = None
        """None while metrics are off."""
        self.tracer: Tracer | None = None
        """None while traces are off."""
        self.tracing_peers: set[Atom] = set()
        """The connected nodes that have said that they make traces."""
        self._counts: dict[str, dict[str, int]] = {}

    def add(self, what: str, reason: str = "", number: int = 1) -> None:
        """Count ``number`` events. ``reason`` is a word of this node, never one that another node has chosen."""
        reasons = self._counts.setdefault(what, {})
        if reason not in reasons and len(reasons) >= MAX_REASONS:
            reason = OTHER
        reasons[reason] = reasons.get(reason, 0) + number

    def counts(self, what: str) -> dict[str, int]:
        """Return a copy of the numbers by reason."""
        return dict(self._counts.get(what, ()))


def word_of(kind: type[BaseException]) -> str:
    """Return the name of a class of exceptions as a reason: ``handshake_timeout``."""
    name = kind.__name__
    return "".join(f"_{each.lower()}" if each.isupper() and index else each.lower() for index, each in enumerate(name))


def _add(sums: list[int], counts: Sequence[int]) -> None:
    for index, count in enumerate(counts):
        sums[index] += count
