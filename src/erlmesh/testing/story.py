"""A random life of a cluster, from one seed: people come, join, link, call, lock and die, nodes crash and return, the
network breaks and heals; and after every act the facts are checked that must always hold.

``python -m erlmesh.testing.story --seed 7`` tells one story and shows its history; ``--seeds 1000`` tells a thousand,
and ends with the seeds that failed.
"""

from __future__ import annotations

import sys

from erlmesh.testing.stories.plot import Story, tell
from erlmesh.testing.stories.telling import main

__all__ = ["Story", "main", "tell"]

if __name__ == "__main__":
    sys.exit(main())
