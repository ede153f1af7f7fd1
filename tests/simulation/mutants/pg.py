"""Mutants of pg."""

from simulation.mutants.mutation import Mutant

SCOPE = "erlmesh.services.pg.state:ScopeState."
TABLE = "erlmesh.services.pg.group_table:GroupTable."
SERVER = "erlmesh.services.pg.scope_server:ScopeServer."
OBSERVERS = "erlmesh.services.pg.observers:Observers."

MUTANTS = [
    Mutant(
        SCOPE + "join",
        "a process that joins twice has one membership",
        "self._groups.add_members(key, group, pids, before, after)",
        "self._groups.add_members(key, group, list(dict.fromkeys(pids)))",
    ),
    Mutant(
        SCOPE + "join",
        "joins are not broadcast",
        "return effects + self._broadcast((Tag.JOIN, self._server, group, _pid_or_list(pids)))",
        "return effects",
    ),
    Mutant(
        SCOPE + "join",
        "members are not monitored",
        "effects.append(Monitor(pid))",
        "pass",
    ),
    Mutant(
        SCOPE + "leave",
        "leaves are not broadcast",
        "return True, effects + self._broadcast((Tag.LEAVE, self._server, _pid_or_list(pids), [name]))",
        "return True, effects",
    ),
    Mutant(
        SCOPE + "leave",
        "a process that left its last group stays monitored",
        "effects.append(Demonitor(pid))",
        "pass",
    ),
    Mutant(
        SCOPE + "handle_down",
        "members of a lost node stay",
        "self._groups.remove_bag(key, bag, reason)",
        "pass",
    ),
    Mutant(
        SCOPE + "handle_down",
        "a lost node stays known",
        "peer = self._peers.pop(pid, None)",
        "peer = self._peers.get(pid, None)",
    ),
    Mutant(
        SCOPE + "_local_down",
        "an exit of a member is not broadcast",
        "return self._broadcast((Tag.LEAVE, self._server, pid, names))",
        "return []",
    ),
    Mutant(
        SCOPE + "_local_down",
        "an exit removes only one membership on other nodes",
        "names.append(self._groups.name(key))",
        "names[:] = [self._groups.name(key)]",
    ),
    Mutant(
        SCOPE + "handle_discover",
        "a discovered server gets no sync",
        "effects: list[Effect] = [SendTo(server, self._sync_message())]",
        "effects: list[Effect] = []",
    ),
    Mutant(
        SCOPE + "handle_discover",
        "a discovered server gets no discover",
        "effects += [Monitor(server), SendTo(server, (Tag.DISCOVER, self._server))]",
        "effects += [Monitor(server)]",
    ),
    Mutant(
        SCOPE + "handle_discover",
        "a discovered server is not monitored",
        "effects += [Monitor(server), SendTo(server, (Tag.DISCOVER, self._server))]",
        "effects += [SendTo(server, (Tag.DISCOVER, self._server))]",
    ),
    Mutant(
        SCOPE + "_replace_groups",
        "a sync keeps members that it no longer lists",
        "self._groups.remove_bag(key, bag, Tag.LEAVE)",
        "pass",
    ),
    Mutant(
        SCOPE + "_replace_groups",
        "a sync adds to the known members",
        "before, peer.groups = peer.groups, {}",
        "before = {}",
    ),
    Mutant(
        SCOPE + "_leave_group",
        "one leave removes all memberships",
        "self._groups.remove_members(key, left, Tag.LEAVE, before, after)",
        "self._groups.remove_members(key, left + left if after else left, Tag.LEAVE)",
    ),
    Mutant(
        SCOPE + "_leave_group",
        "a remote leave is ignored",
        "self._groups.remove_members(key, left, Tag.LEAVE, before, after)",
        "pass",
    ),
    Mutant(
        SCOPE + "handle_join",
        "a remote member is not recorded for its node",
        "after = peer.groups[key] = added(before, pids)",
        "after = added(before, pids)",
    ),
    Mutant(
        TABLE + "remove_bag",
        "a lost node takes the members of other nodes with it",
        "if members is not bag and size(members) != size(bag):",
        "if False:",
    ),
    Mutant(
        TABLE + "add_members",
        "a join replaces the members of other nodes",
        "shareable(after) if bag is before else added(bag, pids)",
        "shareable(after) if before else added(bag, pids)",
    ),
    Mutant(
        "erlmesh.services.multiset:shareable",
        "two tables share a dict",
        "return bag if isinstance(bag, tuple) else bag.copy()",
        "return bag",
    ),
    Mutant(
        TABLE + "add_members",
        "a kept list does not show a join",
        "listing = self._changed_listing(key)",
        "listing = None",
    ),
    Mutant(
        TABLE + "remove_members",
        "a kept list shows a member that left",
        "listing = self._changed_listing(key)",
        "listing = None",
    ),
    Mutant(
        TABLE + "local_joined",
        "a list for picks does not show a local join",
        "listing.local_picks.joined(pids)",
        "pass",
    ),
    Mutant(
        SCOPE + "_remove_local",
        "a list for picks shows a local member that left",
        "self._groups.local_left(key, left)",
        "pass",
    ),
    Mutant(
        TABLE + "remove_members",
        "a list for picks keeps the entries of all members that left",
        "not listing.picks.left(left)",
        "listing.picks.left(left) is None",
    ),
    Mutant(
        TABLE + "add_all",
        "a first sync replaces the members of other nodes",
        "if not self._members.keys().isdisjoint(groups.keys()):",
        "if False:",
    ),
    Mutant(
        SCOPE + "handle_sync",
        "a node shares the table of its groups with all nodes",
        "peer.groups = dict(reported)",
        "peer.groups = self._groups._members",
    ),
    Mutant(
        TABLE + "_delete",
        "the name of a group that ended is kept",
        "self._names.pop(key, None)",
        "pass",
    ),
    Mutant(
        "erlmesh.services.pg.pick_list:PickList._is_picked",
        "a member that left is picked",
        "if not dead:",
        "if True:",
    ),
    Mutant(
        "erlmesh.services.pg.pick_list:PickList.joined",
        "a member that returns has one entry more than memberships",
        "if pid in self._dead:",
        "if False:",
    ),
    Mutant(
        "erlmesh.services.pg.watches:GroupWatch._monitor_new_members",
        "a watch that has ended monitors the new members",
        "if self._ended or not pids:",
        "if not pids:",
    ),
    Mutant(
        SCOPE + "_replace_members",
        "a sync without a difference ends the sharing of the members",
        "if before and listed(before) == pids:",
        "if False:",
    ),
    Mutant(
        SERVER + "_handle_message",
        "a new node gets no discover",
        "self.send_discover(name)",
        "pass",
    ),
    Mutant(
        SERVER + "__init__",
        "a scope that starts late sends no discover",
        "self.send_discover(Atom(name))",
        "pass",
    ),
    Mutant(
        SERVER + "_handle_down",
        "the exit of a member is ignored",
        "self.apply(self.state.handle_down(pid, reason))",
        "pass",
    ),
    Mutant(
        OBSERVERS + "subscribe",
        "an unsubscribed callback still gets events",
        "self._subscribers.remove(callback)",
        "pass",
    ),
]

EQUIVALENT: list[Mutant] = []
