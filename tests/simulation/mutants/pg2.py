"""Mutants of pg2."""

from simulation.mutants.mutation import Mutant

PG2_STATE = "erlmesh.services.pg2.state:Pg2State."
PG2 = "erlmesh.services.pg2.server:Pg2."

MUTANTS = [
    Mutant(
        PG2_STATE + "merge",
        "a merge counts common members twice",
        "times - count_of(members, pid)",
        "times",
    ),
    Mutant(
        PG2_STATE + "merge",
        "a merge adds groups but no members",
        "to_monitor += self.join(name, pid)",
        "pass",
    ),
    Mutant(
        PG2_STATE + "merge",
        "merged members are not monitored",
        "to_monitor += self.join(name, pid)",
        "self.join(name, pid)",
    ),
    Mutant(
        PG2_STATE + "handle_down",
        "dead members stay",
        "self._remove_from_group(key, pid)",
        "pass",
    ),
    Mutant(
        PG2_STATE + "leave",
        "one leave removes a process from all groups",
        "keys = removed(self._groups_by_pid.get(pid, EMPTY), key)",
        "keys = EMPTY if pid in self._groups_by_pid else None",
    ),
    Mutant(
        PG2_STATE + "delete",
        "a deleted group stays",
        "del self._groups[exact_key(name)]",
        "pass",
    ),
    Mutant(
        PG2 + "_handle_message",
        "a new node gets no exchange",
        "self._send_exchange(node)",
        "pass",
    ),
    Mutant(
        PG2 + "_handle_message",
        "the exit of a pg2 member is ignored",
        "self._state.handle_down(pid)",
        "pass",
    ),
    Mutant(
        PG2 + "_all_nodes",
        "changes are made only on the local node",
        "return [self._node.name, *self._node.nodes()]",
        "return [self._node.name]",
    ),
    Mutant(
        PG2 + "_demonitor",
        "a process that left all pg2 groups stays monitored",
        "self._process.demonitor(self._monitor_refs.pop(pid), flush=True)",
        "pass",
    ),
    Mutant(
        PG2 + "_demonitor",
        "a process with another pg2 group is demonitored",
        "pid in self._monitor_refs and not self._state.has_member(pid)",
        "pid in self._monitor_refs",
    ),
]
