"""Mutants of the simulated network. A wrong network makes each scenario worthless."""

from simulation.mutants.mutation import Mutant

MUTANTS = [
    Mutant(
        "erlmesh.testing.connection:Pipe.put",
        "chunks are reordered",
        "self._chunks.append(data)\n        self._schedule",
        "self._chunks.appendleft(data)\n        self._schedule",
    ),
]
