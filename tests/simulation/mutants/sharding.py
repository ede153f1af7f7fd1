"""Mutants of shards without state. The tests that kill them are in tests/unit and in tests/simulation/sharding."""

from simulation.mutants.mutation import Mutant

BOOK = "erlmesh.core.sharding.shard_book:ShardBook."
CANDIDATES = "erlmesh.core.sharding.candidates:Candidates."
FENCE = "erlmesh.core.sharding.fence:Fence."
SIGHT = "erlmesh.core.sharding.sight:Sight."
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
        "if state is None and not self._holders[shard] and shard not in self._unsure:",
        "if state is None and shard not in self._unsure:",
    ),
    Mutant(
        BOOK + "_look_at",
        "a candidate takes from a lost node at once",
        "if state is None and not self._holders[shard] and shard not in self._unsure:",
        "if state is None and not self._holders[shard]:",
    ),
    Mutant(
        BOOK + "_look_at",
        "each candidate takes what nobody holds",
        "if sound and first == self.me and not self._stopping:",
        "if sound and not self._stopping:",
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
        BOOK + "decide",
        "a node that does not see this one counts for the quorum",
        "sound = sound and self._sight.confirmed(nodes) >= self._quorum",
        "sound = sound and len(nodes) >= self._quorum",
    ),
    Mutant(
        BOOK + "decide",
        "there is no quorum",
        "sound = sound and self._sight.confirmed(nodes) >= self._quorum",
        "pass",
    ),
    Mutant(
        SIGHT + "overlaps",
        "a node takes while another one sees a third",
        "return any(",
        "return False and any(",
    ),
    Mutant(
        BOOK + "fence",
        "there is no fence",
        "self._fenced = closed",
        "pass",
    ),
    Mutant(
        FENCE + "look",
        "the fence opens with the first sign",
        "if now - self._well_since >= self._settle:",
        "if True:",
    ),
    Mutant(
        FENCE + "_hear",
        "a node that stood still counts what came long ago",
        "return came, min(came, self._looked_at)",
        "return came, came",
    ),
    Mutant(
        SERVER + "may_act",
        "a node does not look at the clock before it acts",
        "return self.book.may_act(shard) and self._fence.is_open(self._node.now())",
        "return self.book.may_act(shard)",
    ),
    Mutant(
        SERVER + "_wait_until_known",
        "a node that has joined takes before others know it",
        "self.book.wait(True)",
        "pass",
    ),
    Mutant(
        SERVER + "_show_sight",
        "a node does not say which others it sees",
        "nodes = {*self.book.nodes, *self._lost} if self._is_candidate else set()",
        "nodes = set()",
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
]
