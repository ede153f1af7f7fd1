"""Mutants of system messages, servers and supervisors."""

from simulation.mutants.mutation import Mutant

SYSTEM = "erlmesh.runtime.system_messages:"
BOOK = "erlmesh.core.supervision:ChildBook."
SUPERVISOR = "erlmesh.behaviours.supervisor_server:SupervisorServer."
SERVER = "erlmesh.behaviours.gen_server:GenServer."

MUTANTS = [
    Mutant(
        "erlmesh.runtime.process:LocalProcess._attend",
        "a suspended process receives messages",
        "if not self._suspended:",
        "if True:",
    ),
    Mutant(
        "erlmesh.runtime.process_ops:NodeProcessOps.special_message_arrived",
        "a process that never receives answers no system message",
        "if process._never_received and not process.handles_system_messages:",
        "if False:",
    ),
    Mutant(
        "erlmesh.runtime.mailbox:PureMailbox.scan",
        "a system message overtakes the messages before it",
        "if not past_system and is_system_message(message):",
        "if not past_system and any(map(is_system_message, self)):",
    ),
    Mutant(
        SYSTEM + "answer_system_message",
        "a process that was asked to terminate goes on",
        "if answer.terminates:",
        "if False:",
    ),
    Mutant(
        "erlmesh.runtime.process_ops:NodeProcessOps.receives_again",
        "a library request that a body ignores is not refused",
        "if not process.handles_library_requests:",
        "if False:",
    ),
    Mutant(
        "erlmesh.runtime.library_requests:refuse_overdue",
        "a library request that a body does not take is not refused",
        "refuse(process, request)",
        "pass",
    ),
    Mutant(
        "erlmesh.runtime.library_requests:ReplyWatch._sent",
        "a library request is refused although it was answered",
        "self._requests.sent(message)",
        "pass",
    ),
    Mutant(
        "erlmesh.core.library_requests:OpenRequests.unanswered",
        "a library request is refused while the body waits for another message",
        "if match is None or match(request)",
        "if True",
    ),
    Mutant(
        SYSTEM + "refuse_newest_call",
        "a call above the limit of the mailbox is forgotten",
        "refuse(message[1])",
        "pass",
    ),
    Mutant(
        "erlmesh.core.server_restarts:ServerRestarts.ended",
        "a server of the node that ends again and again starts at once",
        "if server.delay or not within_limit:",
        "if False:",
    ),
    Mutant(
        BOOK + "exited",
        "a transient child is restarted after a regular end",
        "not is_regular(reason)",
        "True",
    ),
    Mutant(
        BOOK + "_too_many",
        "restarts are counted for ever",
        "if each >= second - self.max_seconds",
        "if True",
    ),
    Mutant(
        BOOK + "restart",
        "rest_for_one restarts the children before the failed one, too",
        "affected = affected[affected.index(child) :]",
        "pass",
    ),
    Mutant(
        SUPERVISOR + "terminate",
        "children stop in the order of their start",
        "reversed(self._book.children())",
        "self._book.children()",
    ),
    Mutant(
        SUPERVISOR + "_wait_for_end",
        "a child that does not end in time is waited for",
        "self.me.exit(pid, KILL)",
        "pass",
    ),
    Mutant(
        SUPERVISOR + "_start_again",
        "a restart that fails is not tried again",
        "self.me.send(self.me.pid, _TryAgain(child))",
        "pass",
    ),
    Mutant(
        SERVER + "_answer_call",
        "an unknown call is not answered",
        'answer, outcome = (ERROR, (UNKNOWN_CALL, request)), "unknown_call"',
        "return outcome",
    ),
    Mutant(
        SERVER + "_is_to_end",
        "a server that traps exits outlives its parent",
        "sender in (self._parent, self.me.node.internals.pid)",
        "sender == self.me.node.internals.pid",
    ),
    Mutant(
        "erlmesh.behaviours.pending_work:PendingWork.start",
        "work goes on for a caller that has given up",
        "ops.on_demonitor(ref, task.cancel)",
        "pass",
    ),
    Mutant(
        "erlmesh.runtime.termination:Termination.connection_lost",
        "work goes on for a caller whose node is lost",
        "if not state.monitors.has_target(ref):",
        "if False:",
    ),
]
