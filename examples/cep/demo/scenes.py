"""The scenes of the demo. Each says what it does, and checks what it promises; all results are compared at the end."""

from __future__ import annotations

import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, Protocol

from cep.app import CREDIT, SETTINGS, SYMBOLS
from cep.demo.mesh import OWNERS, SOURCES, Observer, Sides
from cep.oracle import Mean, Name, final_means
from cep.window import Tick
from erlmesh.demo.console import Console
from erlmesh.demo.shells import DemoFailed

__all__ = ["Mesh", "Story"]

SLOW: Final = 10
"""Ticks a second for each symbol."""
TAKEOVER_LIMIT: Final = 1.0
"""Seconds from a kill to the first mean of the new owner, for each symbol."""
STOP_LIMIT: Final = 4.0
"""The same from SIGTERM on: the owner hands over first, and acts until the other one has all."""
START_LIMIT: Final = 30.0
SETTLED: Final = 2.0
"""Seconds without a move after which the start is over."""
GRACE_LIMIT: Final = 12.0
RECONNECT_LIMIT: Final = 30.0
WINDOW: Final = SETTINGS.span[0] / 1000


class Mesh(Protocol):
    """The nodes, and what can be done to them."""

    sides: Sides
    """The two sides of a cut. The observer is on the first one."""
    full_rate: int
    """Ticks a second for each symbol, in most scenes."""
    command_time: float
    """Seconds that a signal may take to arrive."""
    why_no_elixir: str
    """Why ``run_elixir`` returns None."""

    def start_node(self, name: str) -> None: ...

    def signal(self, name: str, number: signal.Signals) -> None: ...

    def check(self) -> None:
        """Raises DemoFailed if a node has ended by itself."""

    def cut(self) -> None: ...

    def heal(self) -> None: ...

    def stop_in_order(self, name: str, timeout: float) -> int: ...

    def run_elixir(self) -> list[str] | None: ...


class Story:
    """One run of the demo. Every method but the first is a scene; they can be left out."""

    def __init__(
        self, console: Console, mesh: Mesh, observer: Observer, net_ticktime: float, patience: float = 1.0
    ) -> None:
        """``patience`` is a factor for the limits of time, for a slow machine."""
        self.console = console
        self.mesh = mesh
        self.observer = observer
        self.patience = patience
        self.detection = net_ticktime * 1.25 + 1.0
        self.below, self.beyond = min(20.0, net_ticktime * 0.5), max(20.0, net_ticktime * 1.5)
        self.takeovers: list[float] = []
        self._nodes = sorted((*OWNERS, *SOURCES))
        self._home: dict[str, list[str]] = {}  # The symbols of each owner while all run.
        self.split: list[tuple[float, float]] = []

    # The scenes

    def plain(self) -> None:
        """Every symbol has one owner, and means arrive."""
        self._scene("Three owners, two sources, 30 symbols")
        self._wait(lambda: self.observer.ask("nodes") == self._nodes, "all nodes", START_LIMIT)
        took = self._one_owner_each()
        self._set_rate(SLOW)
        self._means_arrive("each symbol has one owner")
        self._wait_settled()
        self._home = {name: self._owned_by(name) for name in OWNERS}
        counts = {name: len(symbols) for name, symbols in self._home.items()}
        self._passed(f"all agree after {took:.1f} s: {', '.join(f'{name} owns {n}' for name, n in counts.items())}")
        self._play(WINDOW)

    def kill(self) -> None:
        """Kill -9 of an owner at full rate."""
        self._scene(f"kill -9 plato, while {self.mesh.full_rate * len(SYMBOLS)} ticks a second arrive")
        self._set_rate(self.mesh.full_rate)
        self._play(WINDOW)
        lost = self._owned_by("plato")
        at = time.time()
        self.mesh.signal("plato", signal.SIGKILL)
        self._taken_over(lost, "plato", at, TAKEOVER_LIMIT)
        self._scene("plato starts again: symbols return to it, with their windows")
        self.mesh.start_node("plato")
        self._wait(lambda: self._owned_by("plato") == self._home["plato"], "plato's symbols at plato", START_LIMIT)
        self._one_owner_each()
        self._moved_with_windows("plato")

    def short_pause(self) -> None:
        """SIGSTOP for less than the tick time: the symbols wait for their owner."""
        self._scene(f"SIGSTOP aristotle for {self.below:g} s, below the tick time")
        before = self._owners()
        self._pause("aristotle", self.below)
        self._means_arrive("after SIGCONT")
        self.console.check(self._owners() == before, "no symbol has moved: its owner stood still, and nobody took over")

    def long_pause(self) -> None:
        """SIGSTOP for more than the tick time: others take over, and the stale owner returns."""
        self._scene(f"SIGSTOP aristotle for {self.beyond:g} s, beyond the tick time")
        before, lost = self._owners(), self._owned_by("aristotle")
        split_from = self._split_from()
        at = time.time()
        self.mesh.signal("aristotle", signal.SIGSTOP)
        self._taken_over(lost, "aristotle", at, self.detection)
        self._play(at + self.beyond - time.time())
        self.mesh.signal("aristotle", signal.SIGCONT)
        self.console.comment("SIGCONT: it still believes that it is the owner")
        self._wait_whole(before)
        self._moved_with_windows("aristotle")
        self.split.append((split_from, time.time() + WINDOW))

    def cut(self) -> None:
        """A cut between two sides, and its heal."""
        _, far_side = self.mesh.sides
        self._scene(f"A cut: {' and '.join(far_side)} cannot reach the others")
        before, split_from = self._owners(), self._split_from()
        at = time.time()
        self.mesh.cut()
        self._wait(
            lambda: not {*self.observer.ask("nodes")} & {*far_side}, "the loss of the other side", self.detection
        )
        self._one_owner_each()
        self._passed(f"after {time.time() - at:.1f} s each symbol has an owner on this side")
        self._play(3.0)
        self.mesh.heal()
        self.console.comment("the cut heals")
        self._wait_whole(before)
        self._means_arrive("after the heal: one owner for each symbol")
        self.split.append((split_from, time.time() + WINDOW))

    def stop(self) -> None:
        """SIGTERM: an owner hands over before it ends."""
        self._scene("SIGTERM socrates: it hands over its symbols, and ends")
        before = self.observer.ask("stats")
        lost = self._owned_by("socrates")
        at = time.time()
        code = self.mesh.stop_in_order("socrates", GRACE_LIMIT * self.patience)
        took = time.time() - at
        self.console.check(code == 0, f"it has ended after {took:.2f} s, with the exit code {code}")
        self._taken_over(lost, "socrates", at, STOP_LIMIT)
        after = self.observer.ask("stats")
        repeated = sum(after["sources"][name]["replays"] - before["sources"][name]["replays"] for name in SOURCES)
        doubled = after["duplicates"] - before["duplicates"]
        self.console.check(
            repeated <= 2 * CREDIT * len(SOURCES), f"{repeated} ticks that were on their way were sent to the new owner"
        )
        self.console.comment(f"{doubled} results came once more, and the sink dropped them")

    def elixir(self) -> None:
        """An Elixir node sends ticks, and gets the results."""
        lines = self.mesh.run_elixir()
        if lines is None:
            self.console.heading(f"The scene with an Elixir source and sink is left out: {self.mesh.why_no_elixir}")
            return
        self._scene("Elixir: it sends ticks to the owners, and gets the means")
        ticks: dict[str, list[Tick]] = defaultdict(list)
        finals: dict[str, dict[Name, Mean]] = defaultdict(dict)
        for line in lines:
            what, symbol, *numbers = line.split()
            number, first, second = map(int, numbers)
            if what == "tick":
                ticks[symbol].append(Tick(first, b"sappho", number, second))
            else:
                finals[symbol][b"sappho", number] = first, second
        right = {symbol: final_means(each, SETTINGS.span) for symbol, each in ticks.items()}
        count = sum(map(len, ticks.values()))
        self.console.check(
            finals == right, f"{count} ticks of {len(ticks)} symbols: their final means are the oracle's"
        )

    # The end

    def compare(self) -> dict[str, Any]:
        """Compare all results with the oracle, and return the report."""
        self._scene("All results, and the oracle in one process")
        self.observer.ask("finish", timeout=90.0)
        stats = self.observer.ask("stats")
        report: dict[str, Any] = self.observer.ask("compare", tolerate=self.split, timeout=60.0)
        console = self.console
        for name, counts in stats["sources"].items():
            console.comment(f"{name}: {', '.join(f'{count} {what}' for what, count in counts.items())}")
        console.comment(f"results that came once more, and were dropped: {stats['duplicates']}")
        if self.takeovers:
            slowest = ", ".join(f"{seconds * 1000:.0f} ms" for seconds in self.takeovers)
            console.comment(f"takeovers, each until the last symbol had a mean again: {slowest}")
        if report["incomplete"]:
            console.comment(f"{report['incomplete']} results of a split had only the ticks of their side")
        if report["unfinished"]:
            console.comment(f"{report['unfinished']} ticks of a split have no final mean")
        for each in report["examples"]:
            console.comment(f"not as the oracle says: {each}")
        console.check(
            not report["missing"],
            f"{report['ticks']} ticks, and {report['missing']} without a final mean outside of splits",
        )
        console.check(not report["wrong"], f"{report['final']} final means of the oracle, and {report['wrong']} others")
        revisions = f"{report['eager']} ticks, and not for {report['wrong_eager']}"
        console.check(not report["wrong_eager"], f"the last revision is the final mean for {revisions}")
        matches = f"{report['matches']} matches of the oracle, and {report['wrong_matches']} others"
        console.check(not report["wrong_matches"], matches)
        return report

    # Parts of scenes

    def _scene(self, title: str) -> None:
        self.console.heading(title)
        self.observer.ask("scene", title=title.partition(":")[0].partition(",")[0])

    def _passed(self, statement: str) -> None:
        self.console.check(True, statement)

    def _owners(self) -> dict[str, list[str]]:
        owners: dict[str, list[str]] = self.observer.ask("owners")
        return owners

    def _owned_by(self, name: str) -> list[str]:
        return [symbol for symbol, nodes in self._owners().items() if nodes == [name]]

    def _one_owner_each(self) -> float:
        return self._wait(
            lambda: all(len(nodes) == 1 for nodes in self._owners().values()), "one owner for each symbol"
        )

    def _wait_settled(self) -> None:
        """Wait until each node owns symbols and none has moved for a while: symbols move while the last nodes start."""
        settled, since = self._owners(), time.monotonic()

        def is_settled() -> bool:
            nonlocal settled, since
            owners = self._owners()
            if owners != settled:
                settled, since = owners, time.monotonic()
            if {node for nodes in owners.values() for node in nodes} != set(OWNERS):
                return False
            return time.monotonic() - since > SETTLED * self.patience and all(
                len(each) == 1 for each in owners.values()
            )

        self._wait(is_settled, "owners that do not change", START_LIMIT)

    def _wait_whole(self, owners: dict[str, list[str]]) -> None:
        """Wait until all nodes are connected, and the symbols are where they were."""

        def is_whole() -> bool:
            return self.observer.ask("nodes") == self._nodes and self._owners() == owners

        self._wait(is_whole, "all nodes, and the owners of before", RECONNECT_LIMIT)
        self._play(1.0)
        self._wait(is_whole, "all nodes, and the owners of before", RECONNECT_LIMIT)

    def _means_arrive(self, event: str) -> None:
        since = time.time()

        def all_fresh() -> bool:
            fresh = self.observer.ask("fresh")
            return all(fresh.get(symbol, 0) > since for symbol in SYMBOLS)

        self._wait(all_fresh, "a new mean of each symbol")
        self._passed(f"{event}; a new mean of each symbol arrives")

    def _split_from(self) -> float:
        """The time of the first ticks that a split which begins now may concern.

        Its ticks may be older than its begin: while a node was lost, ticks have waited at their sources. And a node
        that is stopped now applies what it has got when it goes on, with the window of now.
        """
        return min(time.time(), float(self.observer.ask("reached"))) - WINDOW

    def _taken_over(self, lost: list[str], old: str, at: float, limit: float) -> None:
        """Wait until each of the symbols has another owner, and a mean from it. ``at`` is when the old one was lost."""
        self.console.check(bool(lost), f"{old} owned {len(lost)} symbols")
        moves: dict[str, Any] = {}

        def moved(symbol: str) -> bool:
            move = moves.get(symbol, {})
            return move.get("moved", 0) >= at and old not in move["nodes"] and move.get("first", 0) >= at

        def all_moved() -> bool:
            moves.update(self.observer.ask("moves"))
            return all(map(moved, lost))

        self._wait(all_moved, "a new owner of each symbol", limit + 10.0)
        took = max(moves[symbol]["first"] for symbol in lost) - at
        limit += self.mesh.command_time
        self.takeovers.append(took)
        self.console.check(
            took < limit * self.patience,
            f"each of them has a new owner, and a mean from it, {took * 1000:.0f} ms later",
        )

    def _moved_with_windows(self, name: str) -> None:
        """By the times of the ticks, the windows are full sooner than new ticks alone could fill them."""
        symbols = self._owned_by(name)
        moves: dict[str, Any] = {}

        def all_full() -> bool:
            moves.update(self.observer.ask("moves"))
            return all("full" in moves[symbol] for symbol in symbols)

        self._wait(all_full, f"full windows at {name}")
        # By the times of the ticks. The last ticks before the move may have been processed after it.
        age = max(0.0, *(moves[symbol]["full"] - moves[symbol]["moved"] for symbol in symbols))
        self.console.check(
            age < 0.7 * WINDOW,
            f"{name} owns {len(symbols)} symbols; the windows of {WINDOW:g} s have moved: full after {age:.1f} s",
        )

    def _set_rate(self, rate: int) -> None:
        self.observer.ask("rate", ticks=rate)

    def _pause(self, name: str, seconds: float) -> None:
        self.mesh.signal(name, signal.SIGSTOP)
        self._play(seconds)
        self.mesh.signal(name, signal.SIGCONT)

    def _play(self, seconds: float) -> None:
        """Let the nodes work, and show that it goes on."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            _progress(f"{left:.0f} s")
            time.sleep(min(0.5, left))
        _progress("")

    def _wait(self, condition: Callable[[], object], what: str, timeout: float = 15.0) -> float:
        """Wait, and return the seconds. Raises DemoFailed after ``timeout`` seconds."""
        start = time.monotonic()
        while not condition():
            self.mesh.check()
            if time.monotonic() - start > timeout * self.patience:
                _progress("")
                raise DemoFailed(f"{what}: not within {timeout:g} s; the owners are {self._owners()}")
            _progress(f"waiting for {what}")
            time.sleep(0.02)
        _progress("")
        return time.monotonic() - start


def _progress(text: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\033[K{text and '  … ' + text}")
        sys.stdout.flush()
