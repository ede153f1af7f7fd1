"""Mutants of links, monitors, exit signals, and pids of earlier incarnations."""

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
        "an unlink from the other side removes no link",
        "self._remove(unlink.to, unlink.sender)",
        "pass",
    ),
    Mutant(
        LINKS + "exit_received",
        "an exit signal arrives over an unlinked link",
        "if self._by_pid.get(local, {}).get(other) != ACTIVE:",
        "if other not in self._by_pid.get(local, {}):",
    ),
    Mutant(
        LINKS + "exit_received",
        "a link delivers two exit signals",
        "self._remove(local, other)",
        "pass",
    ),
    Mutant(
        LINKS + "link_received",
        "a link from another node is not recorded",
        "self._activate(link.to, link.sender)",
        "pass",
    ),
    Mutant(
        LINKS + "process_exited",
        "a terminated process sends no exit signals",
        "for other, state in links.items() if state == ACTIVE]",
        "for other, state in links.items() if state != ACTIVE]",
    ),
    Mutant(
        LINKS + "connection_lost",
        "a lost node breaks no links",
        "list(self._by_node.get(node, ()))",
        "[]",
    ),
    Mutant(
        MONITORS + "connection_lost",
        "a lost node triggers no DOWN messages",
        "list(self._origins_by_target_node.get(node, ()))",
        "[]",
    ),
    Mutant(
        MONITORS + "connection_lost",
        "monitors from a lost node are kept",
        "for ref, process in self._targets_by_origin_node.pop(node, {}).items():",
        "for ref, process in {}.items():",
    ),
    Mutant(
        MONITORS + "demonitor",
        "a demonitored process still sends DOWN",
        "self._remove(ref)",
        "pass",
    ),
    Mutant(
        MONITORS + "demonitor_received",
        "a demonitor from another node is ignored",
        "del self._target_by_ref[ref]",
        "return",
    ),
    Mutant(
        MONITORS + "process_exited",
        "only the first monitor gets DOWN",
        "return downs, demonitors",
        "return downs[:1], demonitors",
    ),
    Mutant(
        MONITORS + "process_exited",
        "monitors of a terminated process are not removed",
        "return downs, demonitors",
        "return downs, []",
    ),
    Mutant(
        MONITORS + "down_received",
        "a monitor delivers DOWN twice",
        "return self._remove(ref) if entry is not None and entry.node is node else None",
        "return entry",
    ),
    Mutant(
        "erlmesh.runtime.registry:ProcessRegistry.local",
        "a pid of an earlier incarnation matches a live process",
        "pid.creation != self._creation or ",
        "",
    ),
    Mutant(
        ROUTER + "handle_signals",
        "a message to an earlier incarnation is delivered to the current one",
        "process is None or to.creation != creation or",
        "process is None or",
    ),
    Mutant(
        ROUTER + "handle_signals",
        "a disconnected node still delivers signals",
        "if peers.get(peer) is not connection:",
        "if False:",
    ),
    Mutant(
        ROUTER + "_on_link",
        "a link to a dead pid sends no exit signal",
        "self.send_if_connected(signal.sender.node, ExitLink(signal.to, signal.sender, NOPROC))",
        "pass",
    ),
    Mutant(
        ROUTER + "_on_monitor",
        "a monitor of a dead pid sends no DOWN",
        "self.send_if_connected(signal.sender.node, Down(target, signal.sender, signal.ref, NOPROC))",
        "pass",
    ),
    Mutant(
        ROUTER + "_on_exit_send",
        "the exit reason kill can be trapped",
        "if signal.reason is KILL:",
        "if False:",
    ),
    Mutant(
        ROUTER + "send_if_connected",
        "an unlink or demonitor does not queue behind its link or monitor",
        "return self.enqueue(node, signal, 0, dial=False) is not None",
        "return False",
    ),
    Mutant(
        "erlmesh.runtime.delivery:Delivery.remove_pending",
        "a flushed DOWN is still delivered",
        "if process._mailbox.scan(matches, True) is EMPTY and process._handler is not None:",
        "if False:",
    ),
    Mutant(
        "erlmesh.runtime.termination:Termination.undeliverable",
        "a link to an unreachable process sends no exit signal",
        "apply(ExitLink(signal.to, signal.sender, NOCONNECTION), node)",
        "pass",
    ),
    Mutant(
        "erlmesh.runtime.termination:Termination.undeliverable",
        "a monitor of an unreachable process sends no DOWN",
        "apply(Down(signal.target, signal.sender, signal.ref, NOCONNECTION), node)",
        "pass",
    ),
]

EQUIVALENT = [
    Mutant(
        LINKS + "_activate",
        "local links are indexed as links to another node",
        "if other.node is not self._node:",
        "if True:",
        "Only connection_lost(node) reads the index, and a node never loses a connection with itself.",
    ),
    Mutant(
        MONITORS + "monitor",
        "local monitors are indexed as monitors on another node",
        "if node is not self._node:",
        "if True:",
        "Only connection_lost(node) reads the index, and a node never loses a connection with itself.",
    ),
]
