"""Compare what a sink has got with the oracle. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cep import oracle
from cep.oracle import Mean, Name
from cep.symbol import Settings
from cep.window import Tick

__all__ = ["compare"]

MAX_EXAMPLES = 10


def compare(
    ticks: Mapping[str, list[Tick]],
    means: Mapping[str, Mapping[Name, tuple[int, int, int]]],
    finals: Mapping[str, Mapping[Name, Mean]],
    matches: Mapping[str, set[tuple[Tick, ...]]],
    *,
    settings: Settings,
    tolerate: Iterable[tuple[float, float]] = (),
) -> dict[str, Any]:
    """Count what is as the oracle says, and what is not.

    ``tolerate`` are ranges of time, in seconds: there, one side of a cut may not have had all ticks of a window. What
    differs there is counted apart.
    """
    report: dict[str, Any] = dict.fromkeys(
        (
            "ticks",
            "final",
            "eager",
            "matches",
            "missing",
            "wrong",
            "wrong_eager",
            "wrong_matches",
            "incomplete",
            "unfinished",
        ),
        0,
    )
    examples: list[str] = []
    ranges = [(start * 1000, end * 1000) for start, end in tolerate]
    longest = settings.pattern.limit or 0  # A match that is found changes where the search for the next one begins.

    def is_tolerated(time: int, slack: int = 0) -> bool:
        return any(start - slack <= time <= end + slack for start, end in ranges)

    for symbol, sent in ticks.items():
        report["ticks"] += len(sent)
        times = {(tick.source, tick.number): tick.time for tick in sent}
        for name, right in oracle.final_means(sent, settings.span).items():
            final = finals.get(symbol, {}).get(name)
            eager = means.get(symbol, {}).get(name, (0, 0, 0))[:2]
            if final != right and not is_tolerated(times[name]):
                examples.append(f"{symbol}, tick {name[1]} of {name[0].decode()} at {times[name] / 1000}: {final}")
            if final is None:
                report["unfinished" if is_tolerated(times[name]) else "missing"] += 1
            elif final == right:
                report["final"] += 1
                report["eager" if eager == right else "incomplete" if is_tolerated(times[name]) else "wrong_eager"] += 1
            else:
                report["incomplete" if is_tolerated(times[name]) else "wrong"] += 1
        expected = set(oracle.matches(sent, settings.span, settings.pattern))
        found = matches.get(symbol, set())
        report["matches"] += len(found & expected)
        for match in found ^ expected:
            report["incomplete" if any(is_tolerated(tick.time, longest) for tick in match) else "wrong_matches"] += 1
    return report | {"examples": examples[:MAX_EXAMPLES]}
