"""The metrics of nodes in a registry of ``prometheus_client``.

A registry has one collector for all nodes of this process, because the format allows each metric once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from erlmesh.services.metrics.catalogue import Metric
from erlmesh.services.metrics.node_metrics import NodeMetrics, read_all
from erlmesh.services.metrics.values import Values

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

__all__ = ["NodesCollector", "add_to_registry", "new_registry", "page_of", "require_prometheus_client"]

_collectors: Final[WeakKeyDictionary[Any, NodesCollector]] = WeakKeyDictionary()


def require_prometheus_client(what: str) -> Any:
    """Return the package ``prometheus_client``. Raises ImportError, which says that ``what`` needs it."""
    try:
        import prometheus_client  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(f"{what} needs the package prometheus-client: pip install 'erlmesh[metrics]'") from error
    return prometheus_client


def new_registry() -> CollectorRegistry:
    """Return a registry with the metrics of the process: memory, processor time, descriptors, garbage collector."""
    client = require_prometheus_client("--metrics")
    registry = client.CollectorRegistry()
    for collector in (client.ProcessCollector, client.PlatformCollector, client.GCCollector):
        collector(registry=registry)
    return registry


def add_to_registry(metrics: NodeMetrics, registry: CollectorRegistry | None) -> None:
    """Add a node to ``registry``; None is the default registry of ``prometheus_client``."""
    client = require_prometheus_client("node.metrics()")
    chosen = client.REGISTRY if registry is None else registry
    collector = _collectors.get(chosen)
    if collector is None:
        collector = _collectors[chosen] = NodesCollector(client.metrics_core)
        chosen.register(collector)
    collector.add(metrics)


def page_of(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Return the content type and the text of all metrics, in the best format that an ``Accept`` header names."""
    exposition = require_prometheus_client("--metrics").exposition
    encode, kind = exposition.choose_encoder(accept)
    return kind, encode(registry)


class NodesCollector:
    """A collector of ``prometheus_client``."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._nodes: dict[str, NodeMetrics] = {}

    def add(self, metrics: NodeMetrics) -> None:
        """Add a node. It takes the place of an earlier one with the same name."""
        self._nodes[metrics._node] = metrics

    def describe(self) -> list[object]:
        """Nothing: otherwise ``register`` would read all values."""
        return []

    def collect(self) -> Iterator[object]:
        """Read all nodes, and yield a family for each metric. Any thread may call this."""
        values = read_all([node for node in list(self._nodes.values()) if node.is_in_this_process])
        found = {metric.name: metric for each in values for metric in each.metrics()}
        for metric in found.values():
            yield self._family(metric, values)

    def _family(self, metric: Metric, values: list[Values]) -> object:
        labels = ["node", *metric.labels]
        if metric.kind == "histogram":
            family = self._core.HistogramMetricFamily(metric.name, metric.text, labels=labels)
            for each in values:
                for key, counts in each.durations.get(metric.name, {}).items():
                    family.add_metric(key, counts.buckets(), counts.total)
            return family
        kind = self._core.CounterMetricFamily if metric.kind == "counter" else self._core.GaugeMetricFamily
        family = kind(metric.name, metric.text, labels=labels)
        for each in values:
            for key, number in each.numbers.get(metric.name, {}).items():
                family.add_metric(key, number)
        return family
