"""The whole transcript, run for real: three shells that are processes of their own, and Elixir's if it is installed."""

from __future__ import annotations

from erlmesh.demo.story import run

__all__ = ["run"]
