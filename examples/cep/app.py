"""The programs of the nodes: an owner of symbols, and a source of ticks. ``erlmesh start --app`` runs them::

erlmesh start --name plato@127.0.0.1 --cookie monster --app cep.app:owner
erlmesh start --name athens@127.0.0.1 --cookie monster --join plato@127.0.0.1 --app cep.app:source
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from random import Random
from typing import Any, Final

from cep.pattern import Pattern, down, up
from cep.processor import Averages, source_name
from cep.symbol import CLOCK, END, Settings
from cep.window import Timed
from erlmesh import Atom, Pid, Process
from erlmesh.errors import Full

__all__ = ["CREDIT", "NAME", "RESULTS", "SETTINGS", "SHARDS", "SYMBOLS", "owner", "source"]

NAME: Final = "cep"
SHARDS: Final = 64
RESULTS: Final = "results"
"""The group of the sinks."""
SYMBOLS: Final = tuple(f"SYM{number:02}" for number in range(30))
SETTINGS: Final = Settings(
    span=Timed(5_000),
    pattern=Pattern("peak").next(up).times(4).next(down).within(2_000),
    lateness=1_000,
    idle=120_000,  # Longer than it takes to notice that a node is lost: until then, its sources only seem silent.
)
CREDIT: Final = 512
"""Ticks that a source keeps for one owner."""
LATE: Final = 0.02
"""The share of ticks that come late."""
PIECE: Final = 500
"""Ticks in a message of the log."""


async def owner(me: Process) -> None:
    """Keep the states of symbols, until the node stops."""
    end_with_stdin(me)
    async with me.node.shards(NAME, shards=SHARDS, keeper=Averages(SETTINGS), backups=1, results=RESULTS) as shards:
        me.node.spawn(tell_clock, shards)
        async for event in shards:
            if hasattr(event, "done"):
                event.done()


async def tell_clock(me: Process, shards: Any) -> None:
    """Each second, tell the symbols of this node that time passes: so a silent source does not hold a watermark."""
    outbox = me.node.outbox("clock", shards=shards, credit=len(SYMBOLS))
    while True:
        await asyncio.sleep(1)
        for symbol in SYMBOLS:
            holder = shards.holder(symbol)
            if holder is not None and holder.node == me.pid.node:
                with contextlib.suppress(Full):
                    await outbox.put(symbol, CLOCK, wait=False)


async def source(me: Process) -> None:
    """Send ticks as the messages to the name ``source`` say::

        {rate, N}       N ticks a second for each symbol; at first 0
        {stats, From}   answered {stats, Node, Sent, Kept, Replays, Refused}
        {finish, From}  send all, and `end`; answered {log, Node, Source, [{Symbol, Number, Time, Price}]}, then stats

    The environment variable ``CEP_PART`` is ``0/2`` for the first half of the symbols, ``1/2`` for the second.
    """
    end_with_stdin(me)
    part, parts = map(int, os.environ.get("CEP_PART", "0/1").split("/"))
    feeder = Feeder(me, SYMBOLS[part::parts])
    me.node.register("source", me.pid)
    tasks = [asyncio.create_task(feeder.feed(symbol)) for symbol in feeder.symbols]
    try:
        async for message in me:
            match message:
                case (Atom("rate"), int(rate)):
                    feeder.set_rate(rate)
                case (Atom("stats"), Pid() as to):
                    me.send(to, feeder.stats())
                case (Atom("finish"), Pid() as to):
                    feeder.set_rate(0)
                    await feeder.finish()
                    for start in range(0, len(feeder.log), PIECE):
                        piece = feeder.log[start : start + PIECE]
                        me.send(to, (Atom("log"), me.pid.node, source_name(feeder.outbox.source), piece))
                    me.send(to, feeder.stats())
    finally:
        for task in tasks:
            task.cancel()


class Feeder:
    """Random walks of prices. The time of a tick is when it is due, also if its owner lets it wait."""

    def __init__(self, me: Process, symbols: tuple[str, ...]) -> None:
        self.symbols = symbols
        self.log: list[tuple[str, int, int, int]] = []
        self.refused = 0
        shards = me.node.shards(NAME, shards=SHARDS)
        self.outbox = me.node.outbox("ticks", shards=shards, credit=CREDIT, on_refused=self._count_refusal)
        self._node = me.pid.node
        self._rate = 0
        self._started = asyncio.Event()
        self._fed = asyncio.Event()
        self._feeding = 0

    def set_rate(self, rate: int) -> None:
        self._rate = rate
        (self._started.set if rate else self._started.clear)()

    def stats(self) -> Any:
        return (Atom("stats"), self._node, len(self.log), self.outbox.kept, self.outbox.replays, self.refused)

    async def feed(self, symbol: str) -> None:
        """Send the ticks of one symbol, for ever."""
        random, price, due = Random(symbol), 10_000, 0.0
        while True:
            if not self._rate:
                await self._started.wait()
                due = time.time() + random.random() / self._rate
            await asyncio.sleep(max(0.0, due - time.time()))
            if not self._rate:  # Nothing follows `end`.
                continue
            price = max(1, price + random.randrange(-20, 21))
            late = random.randrange(600) if random.random() < LATE else 0
            tick = round(due * 1000) - late, price
            self._feeding += 1
            number = await self.outbox.put(symbol, tick)
            self._feeding -= 1
            self._fed.set()
            self.log.append((symbol, number, *tick))
            due += 1 / max(1, self._rate)

    async def finish(self) -> None:
        """Wait until the owners have all ticks, and tell them that there are no more."""
        while self._feeding:
            self._fed.clear()
            await self._fed.wait()
        await self.outbox.flushed()
        for symbol in self.symbols:
            await self.outbox.put(symbol, END)
        await self.outbox.flushed()

    def _count_refusal(self, _refusal: Any) -> None:
        self.refused += 1


def end_with_stdin(me: Process) -> None:
    """If the demo has started this node, end with it: its end of stdin closes."""
    if os.environ.get("CEP_UNTIL_STDIN_ENDS"):
        loop = asyncio.get_running_loop()

        def read() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                me.node.exit(me.pid, Atom("shutdown"))

        loop.add_reader(0, read)
