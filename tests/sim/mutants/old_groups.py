"""pg2."""

from mutants.mutation import Mutant

GROUPS = "erlmesh.services.pg2.state:Groups."
PG2 = "erlmesh.services.pg2.server:Pg2."

MUTANTS = [
    Mutant(
        GROUPS + "merge",
        "when two nodes meet their common members count twice",
        "(Counter(theirs) - ours).elements()",
        "Counter(theirs).elements()",
    ),
    Mutant(
        GROUPS + "merge",
        "when two nodes meet only groups are exchanged",
        "fresh += self.join(name, pid)",
        "pass",
    ),
    Mutant(
        GROUPS + "merge",
        "members of whom others tell are not watched",
        "fresh += self.join(name, pid)",
        "self.join(name, pid)",
    ),
    Mutant(
        GROUPS + "died",
        "the dead stay",
        "self._drop(key, pid)",
        "pass",
    ),
    Mutant(
        GROUPS + "leave",
        "who leaves once leaves altogether",
        "keys = removed(self._joined.get(pid, EMPTY), key)",
        "keys = EMPTY if pid in self._joined else None",
    ),
    Mutant(
        GROUPS + "delete",
        "a deleted group stays",
        "del self._groups[exact(name)]",
        "pass",
    ),
    Mutant(
        PG2 + "_receive",
        "a node that is met is told nothing",
        "self._send_exchange(node)",
        "pass",
    ),
    Mutant(
        PG2 + "_receive",
        "the death of a pg2 member means nothing",
        "self._groups.handle_down(pid)",
        "pass",
    ),
    Mutant(
        PG2 + "_all_nodes",
        "changes are made on this node alone",
        "return [self._node.name, *self._node.nodes()]",
        "return [self._node.name]",
    ),
    Mutant(
        PG2 + "_unwatch",
        "who has left is watched for ever",
        "self._me.demonitor(self._monitor_refs.pop(pid), flush=True)",
        "pass",
    ),
    Mutant(
        PG2 + "_unwatch",
        "who is still in another group is watched no more",
        "pid in self._monitor_refs and not self._groups.has_member(pid)",
        "pid in self._monitor_refs",
    ),
]
