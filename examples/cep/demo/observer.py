"""The observer: a node that gets all results, sees who holds what, and compares with the oracle at the end.

It is a sink like any other: a member of the group of results. It owns nothing. Its stdin gets questions, one JSON
object in a line, and its stdout the answers: ``{"do": "owners"}`` → ``{"value": {"SYM00": ["plato"], …}}``. It ends
with stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import Any, Final

from cep.app import NAME, RESULTS, SETTINGS, SHARDS, SYMBOLS
from cep.demo.comparison import compare
from cep.demo.record import Record
from cep.oracle import Mean, Name
from cep.symbol import FINAL, IDLE, MATCH, MEAN
from cep.window import Tick
from erlmesh import Atom, Node, Process
from erlmesh.core.sharding.names import holders_group

__all__ = ["Observer", "observe"]

SOURCE_TIMEOUT: Final = 60.0
SETTLE_TIMEOUT: Final = 15.0


class Observer:
    """What has been seen so far."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.record = Record()
        self.counts = {MEAN: 0, FINAL: 0, MATCH: 0, IDLE: 0}
        self.last: dict[str, float] = {}  # When the last mean of a symbol came.
        self.newest: dict[str, int] = {}  # The time of the newest tick of a symbol that has a mean.
        self.full = 0  # A mean of so many ticks has a full window.
        self.means: dict[str, dict[Name, tuple[int, int, int]]] = defaultdict(dict)  # The last is the revision.
        self.finals: dict[str, dict[Name, Mean]] = defaultdict(dict)
        self.matches: dict[str, set[tuple[Tick, ...]]] = defaultdict(set)
        self.logs: dict[str, list[Tick]] = defaultdict(list)
        self.source_names: dict[str, bytes] = {}
        self.inbox = node.inbox(NAME, group=RESULTS)
        self._shards = node.shards(NAME, shards=SHARDS)
        self._delays: list[float] = []
        self._moves: dict[str, dict[str, Any]] = {}

    # Results

    async def take_results(self) -> None:
        async with self.inbox:
            async for delivery in self.inbox:
                results: Any = delivery.message
                symbol = delivery.key.decode()
                for result in results:
                    self._take(symbol, result)
                delivery.done()

    def _take(self, symbol: str, result: Any) -> None:
        match result:
            case (Atom("mean"), source, number, at, total, count, revision):
                now = time.time()
                means = self.means[symbol]
                if revision >= means.get((source, number), (0, 0, -1))[2]:
                    means[source, number] = total, count, revision
                if revision == 0:
                    self._delays.append(now - at / 1000)
                    self.last[symbol] = now
                    self.newest[symbol] = max(at, self.newest.get(symbol, 0))
                    self._after_move(symbol, now, at / 1000, count)
            case (Atom("final"), source, number, _, total, count):
                finals = self.finals[symbol]
                if count >= finals.get((source, number), (0, 0))[1]:  # After a cut, it comes again with all ticks.
                    finals[source, number] = total, count
            case (Atom("match"), _, rows):
                self.matches[symbol].add(tuple(Tick._make(row) for row in rows))
        self.counts[result[0]] += 1

    async def sample_delays(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            delays, self._delays = self._delays, []
            if delays:
                self.record.latencies.append((time.time(), median(delays), max(delays)))

    # Owners

    async def watch_owners(self, me: Process) -> None:
        symbols = defaultdict(list)
        for symbol in SYMBOLS:
            symbols[self._shards.of(symbol)].append(symbol)
        for shard in symbols:
            me.monitor_group(holders_group(NAME.encode(), shard))
        known: dict[str, list[str]] = {}
        async for _ in me:
            for symbol, nodes in self.owners().items():
                if known.get(symbol) != nodes:
                    known[symbol] = nodes
                    self.record.owners.append((time.time(), symbol, nodes))
                    self._moves[symbol] = {"nodes": nodes, "moved": time.time()}

    def _after_move(self, symbol: str, now: float, at: float, count: int) -> None:
        move = self._moves.get(symbol, {})
        if move:
            move.setdefault("first", now)
        if move and count >= self.full:
            move.setdefault("full", at)

    def owners(self) -> dict[str, list[str]]:
        """The nodes that hold each symbol, as this node sees it."""
        return {symbol: sorted(_alive(pid.node) for pid in self._members(symbol)) for symbol in SYMBOLS}

    def _members(self, symbol: str) -> list[Any]:
        return self.node.pg.get_members(holders_group(NAME.encode(), self._shards.of(symbol)))

    # Questions

    def ready(self) -> bool:
        return True

    def nodes(self) -> list[str]:
        """The nodes that this node is connected to."""
        return sorted(_alive(name) for name in self.node.nodes())

    def scene(self, title: str) -> float:
        """A scene begins. Returns the time."""
        self.record.scenes.append((time.time(), title))
        return time.time()

    def moves(self) -> dict[str, dict[str, Any]]:
        """The last move of each symbol: ``nodes``, and when it ``moved``. Then when the ``first`` mean came after it,
        and the time of the first tick with a ``full`` window.
        """
        return self._moves

    def fresh(self) -> dict[str, float]:
        """For each symbol, when its last mean came."""
        return self.last

    def reached(self) -> float:
        """The time up to which all symbols have means. Sources may have newer ticks that no owner has taken yet."""
        return min(self.newest.get(symbol, 0) for symbol in SYMBOLS) / 1000

    def rate(self, ticks: int) -> None:
        """Let the sources send so many ticks a second for each symbol."""
        self.full = round(0.8 * ticks * SETTINGS.span[0] / 1000)
        for name in self._sources():
            self.node.send(("source", name), (Atom("rate"), ticks))

    def _sources(self) -> list[str]:
        return [name for name in self.node.nodes() if _alive(name) in ("athens", "stagira")]

    async def stats(self) -> dict[str, Any]:
        """What the sources count, and what is counted here."""
        sources = {}
        for answer in await self._ask_sources("stats", 10.0):
            _, node, sent, kept, replays, refused = answer
            sources[_alive(node)] = {"sent": sent, "kept": kept, "replays": replays, "refused": refused}
        counts = {kind.name: count for kind, count in self.counts.items()}
        return {"sources": sources, "results": counts, "duplicates": self.inbox.duplicates}

    async def finish(self) -> None:
        """Let the sources send what they have, and give their ticks. Then wait for the final means."""
        await self._ask_sources("finish", SOURCE_TIMEOUT)
        ticks = sum(map(len, self.logs.values()))
        end = time.monotonic() + SETTLE_TIMEOUT
        while sum(map(len, self.finals.values())) < ticks and time.monotonic() < end:  # noqa: ASYNC110 - a poll
            await asyncio.sleep(0.05)

    async def _ask_sources(self, question: str, timeout: float) -> list[Any]:
        names = self._sources()

        async def ask(me: Process) -> list[Any]:
            for name in names:
                me.send(("source", name), (Atom(question), me.pid))
            answers: list[Any] = []
            while len(answers) < len(names):
                message: Any = await me.receive(timeout=timeout)
                if message[0] is Atom("log"):
                    _, _, source, rows = message
                    for symbol, number, at, price in rows:
                        self.logs[symbol.decode()].append(Tick(at, source, number, price))
                else:
                    answers.append(message)
            return answers

        found: list[Any] = await self.node.run(ask)
        return found

    def compare(self, tolerate: list[tuple[float, float]]) -> dict[str, Any]:
        """Compare with the oracle. In ``tolerate``, from a time to a time, a split may have made means incomplete."""
        return compare(self.logs, self.means, self.finals, self.matches, settings=SETTINGS, tolerate=tolerate)

    def get_record(self) -> dict[str, Any]:
        """What cep.demo.record.Record is made of."""
        return asdict(self.record)


def _alive(name: Any) -> str:
    return str(getattr(name, "name", name)).partition("@")[0]


QUESTIONS: Final = (
    "ready", "nodes", "scene", "moves", "owners", "fresh", "reached", "rate", "stats", "finish", "compare",
    "get_record",
)  # fmt: skip


async def answer(observer: Observer, line: str) -> dict[str, Any]:
    """Answer one line. An error is an answer, too."""
    try:
        question = json.loads(line)
        name = question.pop("do")
        if name not in QUESTIONS:
            return {"error": f"{name!r} is not one of {', '.join(QUESTIONS)}"}
        function: Callable[..., Any] = getattr(observer, name)
        value = function(**question)
        return {"value": await value if asyncio.iscoroutine(value) else value}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


async def observe(me: Process) -> None:
    """The process of ``erlmesh start --app cep.demo.observer:observe``. It runs until stdin ends."""
    observer = Observer(me.node)
    tasks = [asyncio.create_task(observer.take_results()), asyncio.create_task(observer.sample_delays())]
    me.node.spawn(observer.watch_owners)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            print(json.dumps(await answer(observer, line.decode())), flush=True)
    finally:
        for task in tasks:
            task.cancel()
