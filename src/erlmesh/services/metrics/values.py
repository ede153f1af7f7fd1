"""The values of all metrics at one time."""

from __future__ import annotations

from typing import Final, TypeAlias

from erlmesh.core.duration_counts import DurationCounts
from erlmesh.services.metrics.catalogue import METRICS, Metric

__all__ = ["Labels", "Values"]

Labels: TypeAlias = tuple[str, ...]
"""The values of the labels, first that of ``node``."""

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


class Values:
    """The values of one node. ``node`` is its name as printable text."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.numbers: dict[str, dict[Labels, float]] = {}
        """By the name of a counter or gauge, and by labels."""
        self.durations: dict[str, dict[Labels, DurationCounts]] = {}
        """The same for histograms."""

    def add(self, name: str, number: float, *labels: str) -> None:
        """Add a number. Two peers, or groups, may have the same text: then the series has their sum or the largest."""
        metric = _BY_NAME[name]
        assert len(labels) == len(metric.labels), f"{name} has the labels {metric.labels}"
        numbers, key = self.numbers.setdefault(name, {}), (self.node, *labels)
        before = numbers.get(key, 0.0)
        numbers[key] = max(before, number) if metric.is_largest else before + number

    def add_all(self, name: str, numbers: dict[str, int]) -> None:
        """Add one number for each value of the only label."""
        for label, number in numbers.items():
            self.add(name, number, label)

    def add_durations(self, name: str, counts: DurationCounts, *labels: str) -> None:
        """Add a histogram. It is copied."""
        self.durations.setdefault(name, {})[self.node, *labels] = counts.copy()

    def replace(self, name: str, number: float) -> None:
        """Replace the value of a metric that has no further labels."""
        self.numbers[name] = {(self.node,): number}

    def metrics(self) -> list[Metric]:
        """The metrics that have values."""
        return [metric for metric in METRICS if metric.name in self.numbers or metric.name in self.durations]
