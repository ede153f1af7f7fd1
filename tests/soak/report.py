"""What the soak test compares, and how it shows it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

Counters = dict[str, dict[str, float]]
"""The counters of each watched node, by name."""

Kinds = dict[str, dict[str, int]]
"""The number of descriptors and objects of each kind, by node."""
LISTED_KINDS = 12

MEMORY_MARGIN = 12.0
"""MB that a node may use more. The allocator keeps some pages of each peak, and the peaks differ."""
OBJECTS_MARGIN = 12_000
"""Python objects that a node may have more. Each of the three connections that stay has two caches of 1,024 frame
prefixes, with about two objects for each, and they are not full after the first phase. A phase has many more
messages."""
MARGINS = {"memory (MB)": MEMORY_MARGIN, "Python objects": OBJECTS_MARGIN}
"""For all other counters nothing may be added."""
SAMPLES = 5
"""Measurements without a new minimum that end a phase."""
SETTLE_TIMEOUT = 40.0


def settle(measure: Callable[[], Counters]) -> Counters:
    """Return the least of each counter over some measurements.

    A node tries to reach its lost peers again and again, and each attempt takes a socket and a task for a moment. What
    a node keeps is in every measurement; what an attempt uses is not. So the minimum shows the first without the
    second.
    """
    least, unchanged, end = measure(), 0, time.monotonic() + SETTLE_TIMEOUT
    while unchanged < SAMPLES and time.monotonic() < end:
        time.sleep(1)
        lower = _minimum(least, measure())
        unchanged = unchanged + 1 if _exact(lower) == _exact(least) else 0
        least = lower
    return least


def _minimum(one: Counters, other: Counters) -> Counters:
    return {
        name: {key: min(value, other[name].get(key, 0)) for key, value in of_node.items()}
        for name, of_node in one.items()
    }


def _exact(counters: Counters) -> Counters:
    return {
        name: {key: value for key, value in of_node.items() if key not in MARGINS} for name, of_node in counters.items()
    }


def problems(first: Counters, last: Counters) -> list[str]:
    """Return a sentence for each counter that has grown."""
    return [
        f"{name}: {key} grew from {first[name][key]:g} to {value:g}"
        for name, of_node in last.items()
        for key, value in of_node.items()
        if value > first[name][key] + MARGINS.get(key, 0)
    ]


def growth(first: Kinds, last: Kinds, problems: list[str]) -> list[str]:
    """Return which kinds of descriptors and objects have grown most, for the nodes that the problems name."""
    lines = []
    for name in first:
        if any(problem.startswith(f"{name}:") for problem in problems):
            grown = Counter(last[name])
            grown.subtract(first[name])
            descriptors = [
                (kind, count) for kind, count in grown.items() if kind.startswith("descriptor") and count > 0
            ]
            objects = [(kind, count) for kind, count in grown.most_common(LISTED_KINDS) if kind.startswith("object")]
            lines += [f"  {name}: {count} more of {kind}" for kind, count in [*descriptors, *objects]]
    return lines


def table(measured: list[Counters], done: dict[str, Counter[str]], faults: Counter[str]) -> str:
    """Return the counters after each phase, what the nodes did in the last one, and the faults."""
    lines = ["", "after each phase:"]
    for name, of_node in measured[-1].items():
        lines.append(f"  {name}")
        for key in of_node:
            values = [counters[name][key] for counters in measured]
            if any(values):
                lines.append(f"    {key:<34}" + "".join(f"{value:>12,.1f}" for value in values))
    lines += ["", "in the last phase:"]
    lines += [f"  {name}: " + _counts(counter) for name, counter in done.items()]
    return "\n".join([*lines, "", "faults: " + _counts(faults)])


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {key}" for key, count in sorted(counter.items()))
