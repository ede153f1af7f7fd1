"""Links, monitors, exit signals, and pids of former lives."""

from mutants.mutation import Mutant

LINKS = "erlmesh.core.links:Links."
MONITORS = "erlmesh.core.monitors:Monitors."
ROUTER = "erlmesh.runtime.router:Router."

MUTANTS = [
    Mutant(
        LINKS + "unlinked",
        "an unlink is not acknowledged",
        "return [] if unlink.id is None else [UnlinkAck(unlink.id, unlink.to, unlink.sender)]",
        "return []",
    ),
    Mutant(
        LINKS + "unlinked",
        "an unlink of the other side ends nothing here",
        "self._remove_member(unlink.to, unlink.sender)",
        "pass",
    ),
    Mutant(
        LINKS + "broken",
        "an exit signal is heard over a link that was taken back",
        "if self._by_node.get(local, {}).get(other) != ACTIVE:",
        "if other not in self._by_node.get(local, {}):",
    ),
    Mutant(
        LINKS + "broken",
        "a link breaks twice",
        "self._remove_member(local, other)",
        "pass",
    ),
    Mutant(
        LINKS + "linked",
        "a link from another node is not noted",
        "self._activate(link.to, link.sender)",
        "pass",
    ),
    Mutant(
        LINKS + "died",
        "the dead tell nobody that they were linked with",
        "for other, state in links.items() if state == ACTIVE]",
        "for other, state in links.items() if state != ACTIVE]",
    ),
    Mutant(
        LINKS + "lost",
        "the loss of a node breaks no links",
        "signals.append(ExitLink(other, local, reason))",
        "pass",
    ),
    Mutant(
        MONITORS + "lost",
        "the loss of a node is told to nobody who watches a process there",
        "for ref in self._origins_by_target_node.get(node, ())",
        "for ref in ()",
    ),
    Mutant(
        MONITORS + "lost",
        "watchers on a lost node are kept",
        "for ref, process in self._targets_by_origin_node.pop(node, {}).items():",
        "for ref, process in {}.items():",
    ),
    Mutant(
        MONITORS + "unwatch",
        "who demonitors is told nevertheless",
        "self._end(ref)",
        "pass",
    ),
    Mutant(
        MONITORS + "unwatched",
        "a demonitor of another node is ignored",
        "del self._target_by_ref[ref]",
        "return",
    ),
    Mutant(
        MONITORS + "died",
        "the first watcher alone is told of a death",
        "return told, taken_back",
        "return told[:1], taken_back",
    ),
    Mutant(
        MONITORS + "died",
        "what the dead have watched is not taken back",
        "return told, taken_back",
        "return told, []",
    ),
    Mutant(
        MONITORS + "down",
        "a watch hears of its end twice",
        "return self._end(ref) if watch is not None and watch.node is node else None",
        "return watch",
    ),
    Mutant(
        "erlmesh.runtime.registry:Registry.local",
        "a pid of a former life is taken for a living process",
        "pid.creation != self._creation or ",
        "",
    ),
    Mutant(
        ROUTER + "hear",
        "a message to a former life is delivered to the present one",
        "process is not None and to.creation == self.creation and",
        "process is not None and",
    ),
    Mutant(
        ROUTER + "hear",
        "a node that was disconnected goes on speaking",
        "if peers.get(peer) is not connection:",
        "if False:",
    ),
    Mutant(
        ROUTER + "_hear_link",
        "who links with the dead is not told",
        "self.send_if_connected(signal.sender.node, ExitLink(signal.to, signal.sender, NOPROC))",
        "pass",
    ),
    Mutant(
        ROUTER + "_hear_monitor",
        "who watches the dead is not told",
        "self.send_if_connected(signal.sender.node, Down(target, signal.sender, signal.ref, NOPROC))",
        "pass",
    ),
    Mutant(
        ROUTER + "_hear_exit_send",
        "kill can be trapped",
        "if signal.reason is KILL:",
        "if False:",
    ),
    Mutant(
        ROUTER + "pass_on",
        "what takes something back does not wait for the connection that this waits for",
        "return self.enqueue(node, signal, 0, dial=False) is not None",
        "return False",
    ),
    Mutant(
        "erlmesh.runtime.delivery:Delivery.remove_pending",
        "what is flushed may come nevertheless",
        "if process._mailbox.take(is_it) is EMPTY and process.receiver is not None:",
        "if False:",
    ),
    Mutant(
        "erlmesh.runtime.termination:Deaths.undeliverable",
        "a link that cannot be made is never broken",
        "router.apply(ExitLink(signal.to, signal.sender, NOCONNECTION), node)",
        "pass",
    ),
    Mutant(
        "erlmesh.runtime.termination:Deaths.undeliverable",
        "who watches an unreachable process is not told",
        "router.apply(Down(signal.target, signal.sender, signal.ref, NOCONNECTION), node)",
        "pass",
    ),
]

EQUIVALENT = [
    Mutant(
        LINKS + "_activate",
        "links within the node are indexed as links to another",
        "if other.node is not self._node:",
        "if True:",
        "The index is read by lost(node) alone, and no connection with the own node is ever lost.",
    ),
    Mutant(
        MONITORS + "watch",
        "watches of local processes are indexed as watches on another node",
        "if node is not self._node:",
        "if True:",
        "The index is read by lost(node) alone, and no connection with the own node is ever lost.",
    ),
]
