"""Terms as people read them: Erlang's notation, Elixir's, and the first number of a printed pid."""

from __future__ import annotations

from erlmesh.terms.elixir import format_elixir
from erlmesh.terms.erlang import format_erlang
from erlmesh.terms.node_numbers import claim_local, node_by_number, release_local

__all__ = ["claim_local", "format_elixir", "format_erlang", "node_by_number", "release_local"]
