"""Mutants of shards without state. The tests that kill them are in tests/unit and in tests/simulation/sharding."""

from simulation.mutants.mutation import Mutant

BOOK = "erlmesh.core.sharding.shard_book:ShardBook."
CANDIDATES = "erlmesh.core.sharding.candidates:Candidates."
GRANTS = "erlmesh.core.sharding.grants:Grants."
GRANTER = "erlmesh.services.sharding.granter:Granter."
SERVER = "erlmesh.services.sharding.shard_server:ShardServer."
SHARDS = "erlmesh.services.sharding.shards:Shards."

MUTANTS = [
    Mutant(
        BOOK + "_look_at",
        "a holder never lets go",
        "self._effects.append(LetGo(shard, heir))",
        "pass",
    ),
    Mutant(
        BOOK + "_look_at",
        "a candidate takes without waiting for the holder",
        "if state is None and not self._holders[shard]:",
        "if state is None:",
    ),
    Mutant(
        BOOK + "_look_at",
        "each candidate takes what nobody holds",
        "if first == self.me and not self._stopping and (granted or state is None):",
        "if not self._stopping and (granted or state is None):",
    ),
    Mutant(
        BOOK + "_look_at",
        "a shard is taken before it is granted",
        "if granted:",
        "if True:",
    ),
    Mutant(
        BOOK + "_look_at",
        "a holder goes on without grants",
        "and (granted or state is None):",
        "and True:",
    ),
    Mutant(
        BOOK + "claims",
        "a shard is not claimed while it is held",
        "for shard in (*self._held, *self._wanted):",
        "for shard in self._wanted:",
    ),
    Mutant(
        BOOK + "released",
        "a shard that is released is not left",
        "self._effects.append(LeaveHolders(shard))",
        "pass",
    ),
    Mutant(
        BOOK + "holder_left",
        "a book keeps the holders that have left",
        "del holders[pid]",
        "pass",
    ),
    Mutant(
        CANDIDATES + "leave",
        "a book keeps the candidates that have left",
        "del self._nodes[pid.node]",
        "return False",
    ),
    Mutant(
        CANDIDATES + "join",
        "candidates are ranked by pid and not by node",
        "prefix = node_prefix(pid.node)",
        "prefix = repr((pid.node.name, pid.creation, pid.id)).encode()",
    ),
    Mutant(
        BOOK + "stop",
        "a candidate that stops stays a candidate until its last release",
        "self._effects.append(LeaveCandidates())",
        "pass",
    ),
    Mutant(
        GRANTS + "_count",
        "there is no quorum",
        "return at_least[self._quorum], until",
        "return at_least[1], until",
    ),
    Mutant(
        GRANTS + "_count",
        "a holder counts grants that have expired",
        "counts = peer.remembers and now < peer.expires",
        "counts = peer.remembers",
    ),
    Mutant(
        GRANTS + "_count",
        "a granter that has started counts at once",
        "counts = peer.remembers and now < peer.expires",
        "counts = now < peer.expires",
    ),
    Mutant(
        GRANTS + "_count",
        "a node counts if one of its processes grants",
        "nodes.get(pid.node, -1) & (",
        "nodes.get(pid.node, 0) | (",
    ),
    Mutant(
        GRANTS + "_look_at_memory",
        "a granter that has started counts when a quorum has answered",
        ">= 2 * self._quorum - 1:",
        ">= self._quorum:",
    ),
    Mutant(
        GRANTS + "granted",
        "a grant counts from the answer on",
        "claim.sent + self._lease",
        "now + self._lease",
    ),
    Mutant(
        GRANTS + "granted",
        "a grant of a claim before a release counts",
        "peer.granted = shards & claim.still",
        "peer.granted = shards",
    ),
    Mutant(
        GRANTS + "claim",
        "a grant counts after its shard is claimed no more",
        "peer.granted &= shards",
        "pass",
    ),
    Mutant(
        GRANTS + "claimed",
        "an old claim replaces a newer one",
        "if number < claim.round:",
        "if False:",
    ),
    Mutant(
        GRANTS + "claimed",
        "a granter forgets before the holder stops",
        "else now + self._hold",
        "else now + self._lease / 2",
    ),
    Mutant(
        GRANTS + "claimed",
        "a granter never forgets",
        "claim.until = math.inf if pid == self._me else now + self._hold",
        "claim.until = math.inf",
    ),
    Mutant(
        GRANTS + "claimed",
        "those who wait for a shard are not granted it when it is free",
        "self._grant_waiting(now)",
        "pass",
    ),
    Mutant(
        GRANTS + "claimed",
        "unknown processes are granted shards",
        "if pid not in self._peers:",
        "if False:",
    ),
    Mutant(
        GRANTS + "_grant",
        "a shard is granted to two processes",
        "(claim.wanted & ~taken)",
        "claim.wanted",
    ),
    Mutant(
        GRANTS + "left",
        "what a lost process holds is granted to others at once",
        "if ended:",
        "if True:",
    ),
    Mutant(
        GRANTS + "forget",
        "a process that is met again is forgotten",
        "if pid not in self._peers and",
        "if",
    ),
    Mutant(
        GRANTER + "_has_closed",
        "a node that was disconnected here counts as one that has closed",
        "return not node.is_connected(pid.node) and",
        "return not node.is_connected(pid.node) or",
    ),
    Mutant(
        GRANTER + "_look",
        "a candidate claims once",
        "self._grants.look(self._node.now())",
        "pass",
    ),
    Mutant(
        SERVER + "may_act",
        "a node does not look at the clock before it acts",
        "and (self._granter is None or bool(self._granter.elected() >> shard & 1))",
        "",
    ),
    Mutant(
        SERVER + "_apply_holders",
        "a server looks at the members of a group, not at its changes",
        "if isinstance(event, Joined):",
        "if pid in self._pg.get_members(event.group):",
    ),
    Mutant(
        SERVER + "_end",
        "a candidate that has ended follows the groups for ever",
        "self._unsubscribe()",
        "pass",
    ),
    Mutant(
        SHARDS + "_listen_then_join",
        "a candidate joins before it has listened",
        "await asyncio.sleep(self._settings.settle)",
        "pass",
    ),
    Mutant(
        SHARDS + "_listen_then_join",
        "a candidate joins before connected nodes have answered",
        "await self._wait_for_answers()",
        "pass",
    ),
    Mutant(
        SHARDS + "_let_go",
        "a release has no time limit",
        "timer = asyncio.get_running_loop().call_later(seconds, self._release_late, release)",
        "pass",
    ),
    Mutant(
        SHARDS + "_release_done",
        "an old release counts for a new one",
        "if current is not release or self._server is None:",
        "if self._server is None:",
    ),
    Mutant(
        "erlmesh.services.pg.protocol:LeavingLater.stays",
        "a node that stops leaves the groups of holders before they have released",
        "return pid == self._pid and",
        "return False and",
    ),
    Mutant(
        "erlmesh.services.sharding.holders:HolderNodes.node_down",
        "a node that was lost sends results without a shard",
        "self._nodes.discard(node)",
        "pass",
    ),
    Mutant(
        "erlmesh.core.sharding.copy_shelf:CopyShelf.add_orphan",
        "what a merge of many copies loses is not told",
        "self._on_lost(key, lost, error)",
        "pass",
    ),
    Mutant(
        "erlmesh.services.joining:_is_joined",
        "a node has joined before discovery has found anything",
        "if names is None:\n        return False",
        "if names is None:\n        return True",
    ),
]
