"""The simulated network itself: a network that lies makes every story worthless."""

from mutants.mutation import Mutant

MUTANTS = [
    Mutant(
        "erlmesh.testing.network:_Wire.put",
        "pieces overtake each other",
        "self._pieces.append(data)\n        self._schedule",
        "self._pieces.appendleft(data)\n        self._schedule",
    ),
]
