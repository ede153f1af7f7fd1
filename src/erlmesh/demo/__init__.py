"""The whole transcript, run for real: three shells that are processes of their own, and Elixir's if it is installed."""

from __future__ import annotations

from erlmesh.demo.containers import run_in_containers
from erlmesh.demo.local import run

__all__ = ["run", "run_in_containers"]
