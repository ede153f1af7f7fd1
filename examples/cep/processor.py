"""The keeper of the event processor: what the owner of a symbol, and its backup, do with each message.

The messages are ``{Time, Price}`` and ``end`` from a source, and ``clock`` from the owner's node, each second. A time
is in milliseconds since 1970, a price is a whole number. The results are those of :mod:`cep.symbol`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cep.symbol import CLOCK, END, Refused, Settings, Symbol
from cep.window import Tick
from erlmesh.sharding import Origin, Results

__all__ = ["Averages", "source_name"]


class Averages:
    """Means and patterns for each symbol."""

    all_or_nothing = True  # A message that is refused has changed nothing.

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def new(self, key: bytes) -> Symbol:  # noqa: ARG002 - all symbols have the same settings
        return Symbol(self.settings)

    def apply(self, state: Symbol, message: Any, at: Origin) -> Results:
        source, now = source_name(at.source), round(at.time * 1000)
        match message:
            case (int(time), int(price)):
                return state.tick(Tick(time, source, at.number, price), now)
            case _ if message is CLOCK:
                return state.clock(now)
            case _ if message is END:
                return state.end(source)
        raise Refused("a message is {Time, Price}, `end` or `clock`; times and prices are whole numbers")

    def merge(self, ours: Symbol, theirs: Symbol) -> Symbol:
        return ours.merge(theirs)

    def dump(self, state: Symbol) -> Iterable[Any]:
        return state.dump()

    def load(self, pieces: Iterable[Any]) -> Symbol:
        return Symbol.load(self.settings, pieces)


def source_name(source: Any) -> bytes:
    """``{'plato@host', 7, <<"ticks">>}`` as ``plato@host/7/ticks``, so that ticks with the same time have an order."""
    node, life, outbox = source
    return b"%s/%d/%s" % (node.name.encode(), life, outbox)
