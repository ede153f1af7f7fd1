"""Mutants of erlmesh: deliberately wrong versions that measure how good the scenarios are.

A mutant replaces a piece of the source of one function. If that piece or the function no longer exists, the mutant does
not apply, and a test fails. Then adapt it to the new source. A mutant is killed by the first scenario of ``SEEDS``, run
with all final checks, that fails with it, or else by a unit test. ``killed_by.txt`` records which, so that the test
suite does not have to search.

``EQUIVALENT`` are mutants that change no observable behaviour, each with a proof.
"""

from simulation.mutants import (
    behaviours,
    connections,
    global_names,
    handshakes,
    links,
    network,
    pg,
    pg2,
    sharding,
    stopping,
    tls,
    wakeups,
)
from simulation.mutants.mutation import Mutant

__all__ = ["EQUIVALENT", "MUTANTS", "SEEDS", "UNIT_TESTS", "Mutant"]

SEEDS = [*range(12), 13, 201, 472, 603, 1336]
"""The first twelve seeds, and those that once found a bug."""
SHARDING_TESTS = [
    "test_grants.py",
    "test_shard_book.py",
    "test_shards.py",
    "../simulation/sharding/test_shard_faults.py",
]
UNIT_TESTS = {
    "erlmesh.net.tls_socket": ["test_tls_socket.py"],
    "erlmesh.net.tls_session": ["test_tls_socket.py"],
    "erlmesh.net.tls_contexts": ["test_tls_config.py"],
    "erlmesh.net.tls_protocol": ["test_tls_nodes.py"],
    "erlmesh.core.certificate_hosts": ["test_certificate_hosts.py"],
    "erlmesh.core.links": ["test_links.py", "test_router.py", "test_process.py"],
    "erlmesh.core.monitors": ["test_monitors.py", "test_router.py", "test_process.py"],
    "erlmesh.core.connection_table": ["test_connection_table.py", "test_connections.py"],
    "erlmesh.core.reconnect_policy": ["test_reconnect_policy.py"],
    "erlmesh.proto.handshake": ["test_handshake.py"],
    "erlmesh.proto.channel": ["test_channel.py"],
    "erlmesh.runtime.wakeups": ["test_wakeups.py", "test_read_to_write.py"],
    "erlmesh.runtime.deadlines": ["test_wakeups.py", "test_process.py"],
    "erlmesh.runtime.mailbox": ["test_process.py", "test_mailbox.py", "test_system_messages.py"],
    "erlmesh.runtime.system_messages": ["test_system_messages.py", "test_gen_server_class.py"],
    "erlmesh.runtime.process_ops": ["test_system_messages.py", "test_library_requests.py"],
    "erlmesh.runtime.library_requests": ["test_library_requests.py"],
    "erlmesh.core.library_requests": ["test_library_requests.py"],
    "erlmesh.core.stop_order": ["test_stop_order.py", "test_graceful_stop.py"],
    "erlmesh.runtime.graceful_stop": ["test_graceful_stop.py"],
    "erlmesh.runtime.instance": ["test_graceful_stop.py"],
    "erlmesh.runtime.runtime": ["test_graceful_stop.py"],
    "erlmesh.core.supervision": ["test_supervisor.py"],
    "erlmesh.core.server_restarts": ["test_server_restarts.py"],
    "erlmesh.behaviours": ["test_gen_server_class.py", "test_supervisor.py", "test_graceful_stop.py"],
    "erlmesh.runtime": [
        "test_router.py",
        "test_process.py",
        "test_connections.py",
        "test_system_messages.py",
        "test_gen_server_class.py",
        "test_graceful_stop.py",
    ],
    "erlmesh.core.sharding.copy_shelf": ["test_replica_book.py"],
    "erlmesh.services.sharding.holders": ["test_outbox.py"],
    "erlmesh.services.joining": ["test_stream_and_group_methods.py"],
    "erlmesh.core.sharding": SHARDING_TESTS,
    "erlmesh.services.sharding": SHARDING_TESTS,
    "erlmesh.services.pg.protocol": SHARDING_TESTS,
    "erlmesh.services.pg2": ["test_pg2_state.py", "test_pg2.py"],
    "erlmesh.services.pg": ["test_pg_state.py", "test_pg.py", "test_pg_growth.py"],
    "erlmesh.services.multiset": ["test_multiset.py", "test_pg_state.py"],
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
"""The unit tests for the mutants of a module, by the prefix of its name. They run if no scenario kills the mutant."""
MUTANTS = [
    *links.MUTANTS,
    *behaviours.MUTANTS,
    *connections.MUTANTS,
    *handshakes.MUTANTS,
    *pg.MUTANTS,
    *pg2.MUTANTS,
    *global_names.MUTANTS,
    *network.MUTANTS,
    *sharding.MUTANTS,
    *stopping.MUTANTS,
    *wakeups.MUTANTS,
    *tls.MUTANTS,
]
EQUIVALENT = [*links.EQUIVALENT, *connections.EQUIVALENT, *pg.EQUIVALENT, *global_names.EQUIVALENT]
