"""The simulated network itself: a network that lies makes every story worthless."""

from simulation.mutants.mutation import Mutant

MUTANTS = [
    Mutant(
        "erlmesh.testing.network:_Pipe.put",
        "pieces overtake each other",
        "self._chunks.append(data)\n        self._schedule",
        "self._chunks.appendleft(data)\n        self._schedule",
    ),
]
