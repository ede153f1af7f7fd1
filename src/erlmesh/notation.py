"""Terms as people read them: Erlang's notation, Elixir's, and the first number of a printed pid."""

from __future__ import annotations

from erlmesh.terms.elixir import elixir
from erlmesh.terms.erlang import erlang
from erlmesh.terms.prefixes import claim_here, node_of_prefix, release_here

__all__ = ["claim_here", "elixir", "erlang", "node_of_prefix", "release_here"]
