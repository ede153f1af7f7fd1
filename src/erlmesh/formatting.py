"""Terms in human-readable form: Erlang's notation, Elixir's notation, and the node numbers in printed pids."""

from __future__ import annotations

from erlmesh.terms.elixir import format_elixir
from erlmesh.terms.erlang import format_erlang
from erlmesh.terms.node_numbers import claim_local, node_by_number, release_local

__all__ = ["claim_local", "format_elixir", "format_erlang", "node_by_number", "release_local"]
