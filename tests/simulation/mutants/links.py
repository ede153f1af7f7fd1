"""Links, monitors, exit signals, and pids of former lives."""

from simulation.mutants.mutation import Mutant

LINKS = "erlmesh.core.links:Links."
MONITORS = "erlmesh.core.monitors:Monitors."
ROUTER = "erlmesh.runtime.router:Router."

MUTANTS = [
    Mutant(
        LINKS + "unlink_received",
        "an unlink is not acknowledged",
        "return [] if unlink.id is None else [UnlinkAck(unlink.id, unlink.to, unlink.sender)]",
        "return []",
    ),
    Mutant(
        LINKS + "unlink_received",
        "an unlink of the other side ends nothing here",
        "self._remove(unlink.to, unlink.sender)",
        "pass",
    ),
    Mutant(
        LINKS + "exit_received",
        "an exit signal is heard over a link that was taken back",
        "if self._by_pid.get(local, {}).get(other) != ACTIVE:",
        "if other not in self._by_pid.get(local, {}):",
    ),
    Mutant(
        LINKS + "exit_received",
        "a link breaks twice",
        "self._remove(local, other)",
        "pass",
    ),
    Mutant(
        LINKS + "link_received",
        "a link from another node is not noted",
        "self._activate(link.to, link.sender)",
        "pass",
    ),
    Mutant(
        LINKS + "process_exited",
        "the dead tell nobody that they were linked with",
        "for other, state in links.items() if state == ACTIVE]",
        "for other, state in links.items() if state != ACTIVE]",
    ),
    Mutant(
        LINKS + "connection_lost",
        "the loss of a node breaks no links",
        "signals.append(ExitLink(other, local, reason))",
        "pass",
    ),
    Mutant(
        MONITORS + "connection_lost",
        "the loss of a node is told to nobody who watches a process there",
        "for ref in self._origins_by_target_node.get(node, ())",
        "for ref in ()",
    ),
    Mutant(
        MONITORS + "connection_lost",
        "watchers on a lost node are kept",
        "for ref, process in self._targets_by_origin_node.pop(node, {}).items():",
        "for ref, process in {}.items():",
    ),
    Mutant(
        MONITORS + "demonitor",
        "who demonitors is told nevertheless",
        "self._remove(ref)",
        "pass",
    ),
    Mutant(
        MONITORS + "demonitor_received",
        "a demonitor of another node is ignored",
        "del self._target_by_ref[ref]",
        "return",
    ),
    Mutant(
        MONITORS + "process_exited",
        "the first watcher alone is told of a death",
        "return downs, demonitors",
        "return downs[:1], demonitors",
    ),
    Mutant(
        MONITORS + "process_exited",
        "what the dead have watched is not taken back",
        "return downs, demonitors",
        "return downs, []",
    ),
    Mutant(
        MONITORS + "down_received",
        "a watch hears of its end twice",
        "return self._remove(ref) if entry is not None and entry.node is node else None",
        "return entry",
    ),
    Mutant(
        "erlmesh.runtime.registry:ProcessRegistry.local",
        "a pid of a former life is taken for a living process",
        "pid.creation != self._creation or ",
        "",
    ),
    Mutant(
        ROUTER + "handle_signals",
        "a message to a former life is delivered to the present one",
        "process is not None and to.creation == self.creation and",
        "process is not None and",
    ),
    Mutant(
        ROUTER + "handle_signals",
        "a node that was disconnected goes on speaking",
        "if peers.get(peer) is not connection:",
        "if False:",
    ),
    Mutant(
        ROUTER + "_on_link",
        "who links with the dead is not told",
        "self.send_if_connected(signal.sender.node, ExitLink(signal.to, signal.sender, NOPROC))",
        "pass",
    ),
    Mutant(
        ROUTER + "_on_monitor",
        "who watches the dead is not told",
        "self.send_if_connected(signal.sender.node, Down(target, signal.sender, signal.ref, NOPROC))",
        "pass",
    ),
    Mutant(
        ROUTER + "_on_exit_send",
        "kill can be trapped",
        "if signal.reason is KILL:",
        "if False:",
    ),
    Mutant(
        ROUTER + "send_if_connected",
        "what takes something back does not wait for the connection that this waits for",
        "return self.enqueue(node, signal, 0, dial=False) is not None",
        "return False",
    ),
    Mutant(
        "erlmesh.runtime.delivery:Delivery.remove_pending",
        "what is flushed may come nevertheless",
        "if process._mailbox.take(matches) is EMPTY and process._handler is not None:",
        "if False:",
    ),
    Mutant(
        "erlmesh.runtime.termination:Termination.undeliverable",
        "a link that cannot be made is never broken",
        "apply(ExitLink(signal.to, signal.sender, NOCONNECTION), node)",
        "pass",
    ),
    Mutant(
        "erlmesh.runtime.termination:Termination.undeliverable",
        "who watches an unreachable process is not told",
        "apply(Down(signal.target, signal.sender, signal.ref, NOCONNECTION), node)",
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
        MONITORS + "monitor",
        "watches of local processes are indexed as watches on another node",
        "if node is not self._node:",
        "if True:",
        "The index is read by lost(node) alone, and no connection with the own node is ever lost.",
    ),
]
