"""pg."""

from mutants.mutation import Mutant

SCOPE = "erlmesh.services.pg.state:Scope."
PG = "erlmesh.services.pg.server:Pg."

MUTANTS = [
    Mutant(
        SCOPE + "join",
        "a process that joins twice is in the group once",
        "self._add_shell(key, group, pids)",
        "self._add_shell(key, group, list(dict.fromkeys(pids)))",
    ),
    Mutant(
        SCOPE + "join",
        "others are not told who joins",
        "return effects + self._broadcast((Word.JOIN, self._server, group, _one_or_list(pids)))",
        "return effects",
    ),
    Mutant(
        SCOPE + "join",
        "members are not watched",
        "effects.append(Watch(pid))",
        "pass",
    ),
    Mutant(
        SCOPE + "leave",
        "others are not told who leaves",
        "return True, effects + self._broadcast((Word.LEAVE, self._server, _one_or_list(pids), [name]))",
        "return True, effects",
    ),
    Mutant(
        SCOPE + "leave",
        "who is in no group any more is watched for ever",
        "effects.append(Unwatch(pid))",
        "pass",
    ),
    Mutant(
        SCOPE + "down",
        "the members of a lost node stay",
        "self._exit(key, listed(bag), reason)",
        "pass",
    ),
    Mutant(
        SCOPE + "down",
        "a lost node is remembered as known",
        "peer = self._peers.pop(pid, None)",
        "peer = self._peers.get(pid, None)",
    ),
    Mutant(
        SCOPE + "_local_died",
        "a death is not told to other nodes",
        "return self._broadcast((Word.LEAVE, self._server, pid, names))",
        "return []",
    ),
    Mutant(
        SCOPE + "_local_died",
        "who dies leaves one of its groups, elsewhere",
        "names.append(self._groups[key].name)",
        "names[:] = [self._groups[key].name]",
    ),
    Mutant(
        SCOPE + "discovered",
        "a server that is discovered is told nothing",
        "effects: list[Effect] = [Tell(server, self._sync())]",
        "effects: list[Effect] = []",
    ),
    Mutant(
        SCOPE + "discovered",
        "a server that is discovered is not asked back",
        "effects += [Watch(server), Tell(server, (Word.DISCOVER, self._server))]",
        "effects += [Watch(server)]",
    ),
    Mutant(
        SCOPE + "discovered",
        "a server that is discovered is not watched",
        "effects += [Watch(server), Tell(server, (Word.DISCOVER, self._server))]",
        "effects += [Tell(server, (Word.DISCOVER, self._server))]",
    ),
    Mutant(
        SCOPE + "synced",
        "what a server no longer lists stays",
        "self._exit(key, listed(bag), Word.LEAVE)",
        "pass",
    ),
    Mutant(
        SCOPE + "synced",
        "what a server lists comes to what was known of it",
        "before, peer.groups = peer.groups, {}",
        "before = {}",
    ),
    Mutant(
        SCOPE + "left",
        "who leaves once leaves for good",
        "self._exit(key, gone, Word.LEAVE)",
        "self._exit(key, gone + gone if rest else gone, Word.LEAVE)",
    ),
    Mutant(
        SCOPE + "left",
        "who leaves another node's group stays in ours",
        "self._exit(key, gone, Word.LEAVE)",
        "pass",
    ),
    Mutant(
        SCOPE + "joined",
        "who joins on another node is not noted as of that node",
        "peer.groups[key] = added(peer.groups.get(key, EMPTY), pids)",
        "pass",
    ),
    Mutant(
        PG + "_receive",
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
        PG + "_down",
        "the death of a member means nothing",
        "self._apply_effects(self._scope.handle_down(pid, reason))",
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
        SCOPE + "_replace",
        "an unchanged list is compared member by member",
        "if listed(before) == pids:",
        "if False:",
        "The comparison then finds that nobody came and nobody went: the test only saves the counting.",
    ),
]
