"""pg2."""

from simulation.mutants.mutation import Mutant

PG2_STATE = "erlmesh.services.pg2.state:Pg2State."
PG2 = "erlmesh.services.pg2.server:Pg2."

MUTANTS = [
    Mutant(
        PG2_STATE + "merge",
        "when two nodes meet their common members count twice",
        "(Counter(remote) - local).elements()",
        "Counter(remote).elements()",
    ),
    Mutant(
        PG2_STATE + "merge",
        "when two nodes meet only groups are exchanged",
        "to_monitor += self.join(name, pid)",
        "pass",
    ),
    Mutant(
        PG2_STATE + "merge",
        "members of whom others tell are not watched",
        "to_monitor += self.join(name, pid)",
        "self.join(name, pid)",
    ),
    Mutant(
        PG2_STATE + "handle_down",
        "the dead stay",
        "self._remove_from_group(key, pid)",
        "pass",
    ),
    Mutant(
        PG2_STATE + "leave",
        "who leaves once leaves altogether",
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
        "a node that is met is told nothing",
        "self._send_exchange(node)",
        "pass",
    ),
    Mutant(
        PG2 + "_handle_message",
        "the death of a pg2 member means nothing",
        "self._state.handle_down(pid)",
        "pass",
    ),
    Mutant(
        PG2 + "_all_nodes",
        "changes are made on this node alone",
        "return [self._node.name, *self._node.nodes()]",
        "return [self._node.name]",
    ),
    Mutant(
        PG2 + "_demonitor",
        "who has left is watched for ever",
        "self._process.demonitor(self._monitor_refs.pop(pid), flush=True)",
        "pass",
    ),
    Mutant(
        PG2 + "_demonitor",
        "who is still in another group is watched no more",
        "pid in self._monitor_refs and not self._state.has_member(pid)",
        "pid in self._monitor_refs",
    ),
]
