"""Metrics of a node for Prometheus. Nothing here is loaded before they are asked for."""
