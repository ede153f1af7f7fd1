"""Deliberately wrong versions of erlmesh: what a story is worth is how many of them it catches.

A mutant replaces a few words in one function. Where these words, or the function, are no longer there, it does not
apply and says so: then whoever changed the function finds the words that make it wrong now. A mutant is caught by the
first of the stories in ``SEEDS``, told with all exams, that fails with it, or else by a unit test. ``caught.txt``
remembers which, so that the suite need not look.

``EQUIVALENT`` are changes that nobody can notice, each with the proof.
"""

from mutants import connections, global_names, groups, handshakes, links, network, old_groups
from mutants.mutation import Mutant

__all__ = ["EQUIVALENT", "MUTANTS", "SEEDS", "UNITS", "Mutant"]

SEEDS = [*range(12), 13, 201, 472, 603, 1336]
"""The first that come, and those that once found a fault."""
UNITS = {
    "erlmesh.kernel.links": ["test_links.py", "test_router.py", "test_process.py"],
    "erlmesh.kernel.monitors": ["test_monitors.py", "test_router.py", "test_process.py"],
    "erlmesh.kernel.peers": ["test_peers.py", "test_connections.py"],
    "erlmesh.kernel.redial": ["test_redial.py"],
    "erlmesh.kernel.hung_up": ["test_hung_up.py"],
    "erlmesh.proto.handshake": ["test_handshake.py"],
    "erlmesh.proto.channel": ["test_channel.py"],
    "erlmesh.runtime": ["test_router.py", "test_process.py", "test_connections.py"],
    "erlmesh.services.pg2": ["test_pg2_members.py", "test_pg2.py"],
    "erlmesh.services.pg": ["test_pg_members.py", "test_pg.py"],
    "erlmesh.services.global_locker": ["test_global_locker.py", "test_global_mesh.py"],
    "erlmesh.services.global": [
        "test_global_sync.py",
        "test_global_locks.py",
        "test_global_locking.py",
        "test_global_partitions.py",
        "test_global_table.py",
        "test_global_names.py",
        "test_global_server.py",
        "test_global_mesh.py",
        "test_global_conflicts.py",
    ],
}
"""The unit tests that are asked about a mutant of a module, by the beginning of its name, when no story catches it."""
MUTANTS = [
    *links.MUTANTS,
    *connections.MUTANTS,
    *handshakes.MUTANTS,
    *groups.MUTANTS,
    *old_groups.MUTANTS,
    *global_names.MUTANTS,
    *network.MUTANTS,
]
EQUIVALENT = [*links.EQUIVALENT, *connections.EQUIVALENT, *groups.EQUIVALENT, *global_names.EQUIVALENT]
