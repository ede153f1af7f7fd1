"""What the soak test compares, and how it shows it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

Counters = dict[str, dict[str, float]]
"""The counters of each watched node, by name."""

MEMORY_MARGIN = 12.0
"""MB that a node may use more. The allocator keeps some pages of each peak, and the peaks differ."""
OBJECTS_MARGIN = 3_000
"""Python objects that a node may have more: caches and the log are not full after the first phase."""
MARGINS = {"memory (MB)": MEMORY_MARGIN, "Python objects": OBJECTS_MARGIN}
"""For all other counters nothing may be added."""
SETTLE_TIMEOUT = 30.0


def settle(measure: Callable[[], Counters]) -> Counters:
    """Measure until two measurements are alike, because connections and attempts end with a delay."""
    last, end = measure(), time.monotonic() + SETTLE_TIMEOUT
    while time.monotonic() < end:
        time.sleep(2)
        now = measure()
        if _exact(now) == _exact(last):
            return now
        last = now
    return last


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
