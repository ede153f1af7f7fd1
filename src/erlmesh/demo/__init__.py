"""The demonstration: type the lines of the session into real shells, and into Elixir's iex if it is installed."""

from __future__ import annotations

from erlmesh.demo.containers import run_in_containers
from erlmesh.demo.local import run

__all__ = ["run", "run_in_containers"]
