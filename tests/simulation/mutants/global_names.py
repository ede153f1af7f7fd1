"""Mutants of global: sessions, names, locks and partitions."""

from simulation.mutants.mutation import Mutant

SYNC = "erlmesh.services.global_.sync:GlobalSync."
LOCKS = "erlmesh.services.global_.lock_table:LockTable."
NAMES = "erlmesh.services.global_.name_table:NameTable."
PARTITIONS = "erlmesh.services.global_.partitions:Partitions."
LOCKER = "erlmesh.services.global_.locker:Locker."
SERVER = "erlmesh.services.global_.server:GlobalServer."
REGISTRAR = "erlmesh.services.global_.registrar:Registrar."
CALLS = "erlmesh.services.global_.client:"

MUTANTS = [
    Mutant(
        LOCKS + "set",
        "two requesters can hold one lock",
        "elif entry.requester_key != requester_key:\n            return False, []",
        "elif False:\n            return False, []",
    ),
    Mutant(
        LOCKS + "handle_down",
        "dead processes keep their locks",
        "effects += self._release(key, self._locks[key], pid, holder_died=True)",
        "pass",
    ),
    Mutant(
        LOCKS + "delete",
        "any requester can release a lock",
        "entry is None or entry.requester_key != exact_key(requester) or pid not in entry.holders",
        "entry is None or pid not in entry.holders",
    ),
    Mutant(
        LOCKS + "set",
        "lock holders are not monitored",
        "return True, [Monitor(pid)]",
        "return True, []",
    ),
    Mutant(
        NAMES + "insert",
        "named processes are not monitored",
        "return [Monitor(pid), *effects]",
        "return effects",
    ),
    Mutant(
        NAMES + "handle_down",
        "dead processes keep their names",
        "effects += self.delete(name)",
        "pass",
    ),
    Mutant(
        NAMES + "remove_node",
        "names of a lost node stay",
        "effects += self.handle_down(pid)",
        "pass",
    ),
    Mutant(
        NAMES + "delete",
        "an unregistered process stays monitored",
        "return [Demonitor(entry.pid)]",
        "return []",
    ),
    Mutant(
        "erlmesh.services.global_.name_table:compare_tables",
        "names of the other partition are not inserted",
        "operations.append((Atoms.INSERT, (name, pid, method)))",
        "pass",
    ),
    Mutant(
        "erlmesh.services.global_.name_table:compare_tables",
        "a name conflict between partitions is not resolved",
        "elif local[0] != pid and decide:",
        "elif False:",
    ),
    Mutant(
        "erlmesh.services.global_.name_table:conflict_operations",
        "the result of a conflict is not sent to the peer",
        "return None, (Atoms.INSERT, (conflict.name, conflict.local_pid, conflict.local_method))",
        "return None, None",
    ),
    Mutant(
        SYNC + "_compare_names",
        "both sides resolve a conflict",
        "decide = self.own_node.name < node.name",
        "decide = True",
    ),
    Mutant(
        SYNC + "_finish_session",
        "nodes known to the peer are not connected",
        "effects: list[Effect] = [Connect(name) for name in new_peers]",
        "effects: list[Effect] = []",
    ),
    Mutant(
        SYNC + "_finish_session",
        "the own partition is not told about new nodes",
        "for name, vsn in self.known.items()\n        ]",
        ("for name, node_vsn in ()\n        ]"),
    ),
    Mutant(
        SYNC + "new_nodes",
        "reported new nodes are not connected",
        "effects: list[Effect] = [Connect(name) for name in added]",
        "effects: list[Effect] = []",
    ),
    Mutant(
        SYNC + "remove_node",
        "names of a removed node stay",
        "*self._names.remove_node(node)",
        "",
    ),
    Mutant(
        SYNC + "remove_node",
        "a lost node stays in the partition",
        "self.known.pop(node, None)",
        "pass",
    ),
    Mutant(
        SYNC + "_end_session",
        "a restarted session sends no cancel_connect",
        "if notify and peer_vsn >= VERIFY_CONNECT_VSN:",
        "if False:",
    ),
    Mutant(
        SYNC + "_end_session",
        "the locker is not told that a session is cancelled",
        "effects: list[Effect] = [SendToLocker((Atoms.CANCEL, node, session.my_tag, list(announce)))]",
        "effects: list[Effect] = []",
    ),
    Mutant(
        SYNC + "forget_known",
        "results of a session from before a loss are applied",
        "if session.result is not None:",
        "if False:",
    ),
    Mutant(
        SYNC + "is_not_introduced",
        "a synced node that was never introduced counts as known",
        "return node in self.synced and node not in self.known",
        "return False",
    ),
    Mutant(
        PARTITIONS + "lost_connection",
        "loss reports of other nodes are ignored",
        "if not self.enabled or not self._is_new_report(reporter, lost, extended_creation, loss_id, now):",
        "if True:",
    ),
    Mutant(
        PARTITIONS + "nodedown",
        "a loss is not reported",
        (
            "effects += self._report_loss(\n"
            "                (Atoms.LOST_CONNECTION, self._sync.own_node, self._extended_creation, self._loss_count, "
            "node),\n"
            "                recipients,\n"
            "                now,\n"
            "            )"
        ),
        "pass",
    ),
    Mutant(
        PARTITIONS + "remove_connection",
        "remove_connection does not disconnect",
        'return [Disconnect(node, "disconnected"), *self._mark_removing(node)]',
        "return [*self._mark_removing(node)]",
    ),
    Mutant(
        LOCKER + "_hold_until_cancel",
        "both partitions stay locked after the session",
        "await self._unlock_partition(me, lock, locked_nodes)",
        "pass",
    ),
    Mutant(
        LOCKER + "_attempt_lock",
        "a lock refused by the other side is kept",
        "await self._unlock_partition(me, lock, locked_nodes)",
        "pass",
    ),
    Mutant(
        LOCKER + "_handle_message",
        "an ended session is attempted again and again",
        "self._remove_peer(node, my_tag)",
        "pass",
    ),
    Mutant(
        SERVER + "_register_name",
        "a name is registered although the lock is lost",
        "return effects if self.locks.global_lock_still_set(registrar) else effects + self.names.delete(name)",
        "return effects",
    ),
    Mutant(
        SERVER + "_handle_down",
        "an exit of a process frees no name",
        "return [*self.locks.handle_down(pid), *self.names.handle_down(pid)]",
        "return [*self.locks.handle_down(pid)]",
    ),
    Mutant(
        SERVER + "_connect",
        "an unreachable new node is added to the partition",
        "self.process.send(self.process.pid, (Atoms.EXTRA_NODEDOWN, node))",
        "pass",
    ),
    Mutant(
        REGISTRAR + "_can_register",
        "a name that is taken can be registered",
        "return not others and self._whereis(name) is None",
        "return not others",
    ),
    Mutant(
        REGISTRAR + "_handle_request",
        "names are changed and the lock is never released",
        "await del_lock(me, lock, [boss_node])",
        "pass",
    ),
    Mutant(
        REGISTRAR + "_handle_request",
        "a node lost since the lock was taken gets a name",
        "if node == me._ops.atom or node in self._known]",
        "if True]",
    ),
    Mutant(
        CALLS + "try_lock",
        "a partially granted lock is kept",
        "await del_lock(me, lock, [node for node, reply in replies.items() if reply is True])",
        "pass",
    ),
    Mutant(
        CALLS + "try_lock",
        "a lock that one node refuses is granted",
        "if False not in replies.values():",
        "if True in replies.values():",
    ),
    Mutant(
        CALLS + "transaction",
        "a critical section ends without releasing its lock",
        "await del_lock(me, lock, targets)",
        "pass",
    ),
]

EQUIVALENT = []
