"""The metrics of ``erlmesh start --metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from erlmesh.errors import NodeStartError
from erlmesh.net.metrics_server import MetricsServer
from erlmesh.node import Node
from erlmesh.services.metrics.registry import new_registry, page_of

__all__ = ["serve_metrics"]


@contextmanager
def serve_metrics(node: Node, host: str, port: int) -> Iterator[None]:
    """Serve the metrics of ``node`` and of this process.

    Raises NodeStartError if the address cannot be used, or without the package ``prometheus-client``.
    """
    try:
        registry = new_registry()
    except ImportError as error:
        raise NodeStartError(str(error)) from error
    metrics = node.metrics(registry)
    try:
        server = MetricsServer(host, port, partial(page_of, registry))
    except BaseException:
        metrics.close()
        raise
    try:
        yield
    finally:
        server.close()
        metrics.close()
