"""pg."""

from simulation.mutants.mutation import Mutant

SCOPE = "erlmesh.services.pg.state:ScopeState."
PG = "erlmesh.services.pg.server:Pg."

MUTANTS = [
    Mutant(
        SCOPE + "join",
        "a process that joins twice is in the group once",
        "self._add_members(key, group, pids)",
        "self._add_members(key, group, list(dict.fromkeys(pids)))",
    ),
    Mutant(
        SCOPE + "join",
        "others are not told who joins",
        "return effects + self._broadcast((Tag.JOIN, self._server, group, _pid_or_list(pids)))",
        "return effects",
    ),
    Mutant(
        SCOPE + "join",
        "members are not watched",
        "effects.append(Monitor(pid))",
        "pass",
    ),
    Mutant(
        SCOPE + "leave",
        "others are not told who leaves",
        "return True, effects + self._broadcast((Tag.LEAVE, self._server, _pid_or_list(pids), [name]))",
        "return True, effects",
    ),
    Mutant(
        SCOPE + "leave",
        "who is in no group any more is watched for ever",
        "effects.append(Demonitor(pid))",
        "pass",
    ),
    Mutant(
        SCOPE + "handle_down",
        "the members of a lost node stay",
        "self._remove_members(key, listed(bag), reason)",
        "pass",
    ),
    Mutant(
        SCOPE + "handle_down",
        "a lost node is remembered as known",
        "peer = self._peers.pop(pid, None)",
        "peer = self._peers.get(pid, None)",
    ),
    Mutant(
        SCOPE + "_local_down",
        "a death is not told to other nodes",
        "return self._broadcast((Tag.LEAVE, self._server, pid, names))",
        "return []",
    ),
    Mutant(
        SCOPE + "_local_down",
        "who dies leaves one of its groups, elsewhere",
        "names.append(self._groups[key].name)",
        "names[:] = [self._groups[key].name]",
    ),
    Mutant(
        SCOPE + "handle_discover",
        "a server that is discovered is told nothing",
        "effects: list[Effect] = [SendTo(server, self._sync_message())]",
        "effects: list[Effect] = []",
    ),
    Mutant(
        SCOPE + "handle_discover",
        "a server that is discovered is not asked back",
        "effects += [Monitor(server), SendTo(server, (Tag.DISCOVER, self._server))]",
        "effects += [Monitor(server)]",
    ),
    Mutant(
        SCOPE + "handle_discover",
        "a server that is discovered is not watched",
        "effects += [Monitor(server), SendTo(server, (Tag.DISCOVER, self._server))]",
        "effects += [SendTo(server, (Tag.DISCOVER, self._server))]",
    ),
    Mutant(
        SCOPE + "handle_sync",
        "what a server no longer lists stays",
        "self._remove_members(key, listed(bag), Tag.LEAVE)",
        "pass",
    ),
    Mutant(
        SCOPE + "handle_sync",
        "what a server lists comes to what was known of it",
        "before, peer.groups = peer.groups, {}",
        "before = {}",
    ),
    Mutant(
        SCOPE + "handle_leave",
        "who leaves once leaves for good",
        "self._remove_members(key, left, Tag.LEAVE)",
        "self._remove_members(key, left + left if rest else left, Tag.LEAVE)",
    ),
    Mutant(
        SCOPE + "handle_leave",
        "who leaves another node's group stays in ours",
        "self._remove_members(key, left, Tag.LEAVE)",
        "pass",
    ),
    Mutant(
        SCOPE + "handle_join",
        "who joins on another node is not noted as of that node",
        "peer.groups[key] = added(peer.groups.get(key, EMPTY), pids)",
        "pass",
    ),
    Mutant(
        PG + "_handle_message",
        "a new node is not discovered",
        "self._send_discover(name)",
        "pass",
    ),
    Mutant(
        PG + "__init__",
        "a scope that starts late discovers nobody",
        "self._send_discover(Atom(name))",
        "pass",
    ),
    Mutant(
        PG + "_handle_down",
        "the death of a member means nothing",
        "self._apply_effects(self._state.handle_down(pid, reason))",
        "pass",
    ),
    Mutant(
        PG + "subscribe",
        "who unsubscribes hears on",
        "self._subscribers.remove(callback)",
        "pass",
    ),
]

EQUIVALENT = [
    Mutant(
        SCOPE + "_replace_members",
        "an unchanged list is compared member by member",
        "if listed(before) == pids:",
        "if False:",
        "The comparison then finds that nobody came and nobody went: the test only saves the counting.",
    ),
]
