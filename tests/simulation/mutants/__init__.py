"""Deliberately wrong versions of erlmesh: what a story is worth is how many of them it catches.

A mutant replaces a few words in one function. Where these words, or the function, are no longer there, it does not
apply and says so: then whoever changed the function finds the words that make it wrong now. A mutant is caught by the
first of the stories in ``SEEDS``, told with all exams, that fails with it, or else by a unit test. ``killed_by.txt``
remembers which, so that the suite need not look.

``EQUIVALENT`` are changes that nobody can notice, each with the proof.
"""

from simulation.mutants import connections, global_names, handshakes, links, network, pg, pg2
from simulation.mutants.mutation import Mutant

__all__ = ["EQUIVALENT", "MUTANTS", "SEEDS", "UNIT_TESTS", "Mutant"]

SEEDS = [*range(12), 13, 201, 472, 603, 1336]
"""The first that come, and those that once found a fault."""
UNIT_TESTS = {
    "erlmesh.core.links": ["test_links.py", "test_router.py", "test_process.py"],
    "erlmesh.core.monitors": ["test_monitors.py", "test_router.py", "test_process.py"],
    "erlmesh.core.connection_table": ["test_connection_table.py", "test_connections.py"],
    "erlmesh.core.reconnect_policy": ["test_reconnect_policy.py"],
    "erlmesh.proto.handshake": ["test_handshake.py"],
    "erlmesh.proto.channel": ["test_channel.py"],
    "erlmesh.runtime": ["test_router.py", "test_process.py", "test_connections.py"],
    "erlmesh.services.pg2": ["test_pg2_state.py", "test_pg2.py"],
    "erlmesh.services.pg": ["test_pg_state.py", "test_pg.py"],
    "erlmesh.services.global_.locker": ["test_global_locker.py", "test_global_mesh.py"],
    "erlmesh.services.global_": [
        "test_global_sync.py",
        "test_global_lock_table.py",
        "test_global_client.py",
        "test_global_partitions.py",
        "test_global_name_table.py",
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
    *pg.MUTANTS,
    *pg2.MUTANTS,
    *global_names.MUTANTS,
    *network.MUTANTS,
]
EQUIVALENT = [*links.EQUIVALENT, *connections.EQUIVALENT, *pg.EQUIVALENT, *global_names.EQUIVALENT]
